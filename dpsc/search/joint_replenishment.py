"""Joint replenishment: items that share the cost of an order, each ordered in every m_i-th of them.

With A = K + sum k_i / m_i and H = sum h_i d_i m_i, orders every T cost A / T + H T / 2, at best sqrt(2 A H) with T = sqrt(2 A / H).
Source: Silver (1976), doi:10.1287/mnsc.22.12.1351; Snyder & Shen (2019), section 3.8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class JointPlan:
    """`multiples` m_i, `cycle_time` T between orders, `cost` a unit of time."""

    multiples: tuple[int, ...]
    cycle_time: float
    cost: float


@dataclass(frozen=True)
class JointReplenishment:
    """The problem.

    Args:
        order_cost: K > 0, money an order of whatever items.
        item_order_cost: `N` k_i > 0, money for item i in an order.
        holding_cost: `N` h_i > 0, money a unit and unit of time.
        demand_rate: `N` d_i > 0, units a unit of time.
    """

    order_cost: float
    item_order_cost: Sequence[float]
    holding_cost: Sequence[float]
    demand_rate: Sequence[float]

    def __post_init__(self) -> None:
        checks.positive("order_cost", self.order_cost)
        if not len(self.item_order_cost) == len(self.holding_cost) == len(self.demand_rate) > 0:
            raise InputError(
                "item_order_cost, holding_cost and demand_rate must have one entry an item, got "
                f"{len(self.item_order_cost)}, {len(self.holding_cost)} and {len(self.demand_rate)}"
            )
        for name in ("item_order_cost", "holding_cost", "demand_rate"):
            for value in getattr(self, name):
                checks.positive(name, value)

    def plan(self, multiples: Sequence[int]) -> JointPlan:
        """Of given m_i >= 1, with the best T."""
        if len(multiples) != len(self.item_order_cost):
            raise InputError(f"multiples must have one entry an item, {len(self.item_order_cost)}, got {len(multiples)}")
        for m in multiples:
            checks.at_least("multiples", m, 1)
        fixed = self.order_cost + sum(k / m for k, m in zip(self.item_order_cost, multiples, strict=True))
        held = sum(h * d * m for h, d, m in zip(self.holding_cost, self.demand_rate, multiples, strict=True))
        return JointPlan(tuple(multiples), math.sqrt(2 * fixed / held), math.sqrt(2 * fixed * held))

    def optimum(self, *, largest: int = 12) -> JointPlan:
        """The best of all m with entries up to `largest`, one of them 1 (`largest` to the power of N plans)."""
        every = itertools.product(range(1, checks.at_least("largest", largest, 1) + 1), repeat=len(self.item_order_cost))
        return min((self.plan(m) for m in every if min(m) == 1), key=lambda plan: plan.cost)
