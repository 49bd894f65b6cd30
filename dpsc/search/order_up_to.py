"""(s, S): order up to S when the inventory has fallen to s. Exact costs, the optimum, and the power approximation.

One stage, no lead time, unmet demand waits, a fixed cost an order. A cycle runs from S down to s or below; with m(j) the expected number of periods that the
inventory spends j below S, c(s, S) = (K + sum_{j < S - s} m(j) G(S - j)) / sum_{j < S - s} m(j), G the newsvendor's cost.
Source: Zheng & Federgruen (1991), doi:10.1287/opre.39.4.654; Snyder & Shen (2019), section 4.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.search.average_cost import probability


@dataclass(frozen=True)
class OrderUpTo:
    """`reorder_point` s and `order_up_to_level` S, units; `cost`, money a period."""

    reorder_point: float
    order_up_to_level: float
    cost: float


class OrderUpToCost:
    """Exact costs of whole (s, S).

    Args:
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        holding_cost: h > 0, money a unit left.
        stockout_cost: p > 0, money a unit backordered.
        order_cost: K >= 0, money an order.
    """

    def __init__(self, demand_pmf: Tensor, *, holding_cost: float, stockout_cost: float, order_cost: float) -> None:
        probability(demand_pmf)
        self.holding_cost, self.stockout_cost = checks.positive("holding_cost", holding_cost), checks.positive("stockout_cost", stockout_cost)
        if not order_cost >= 0:
            raise InputError(f"order_cost must be >= 0, got {order_cost}")
        self.order_cost = order_cost
        self._pmf = demand_pmf.double().tolist()
        if self._pmf[0] >= 1:
            raise InputError("demand_pmf must leave a chance of some demand, got a probability of 1 for none")
        self._renewal: list[float] = []

    def period(self, position: int) -> float:
        """G(y), money."""
        return sum(
            share * (self.holding_cost * max(position - d, 0) + self.stockout_cost * max(d - position, 0)) for d, share in enumerate(self._pmf) if share > 0
        )

    def cost(self, reorder_point: int, order_up_to_level: int) -> float:
        """c(s, S). Raises: InputError unless s < S."""
        if not reorder_point < order_up_to_level:
            raise InputError(f"reorder_point must be below order_up_to_level, got {reorder_point} and {order_up_to_level}")
        count = order_up_to_level - reorder_point
        visits = self._visits(count)
        return (self.order_cost + sum(v * self.period(order_up_to_level - j) for j, v in enumerate(visits))) / sum(visits)

    def optimum(self) -> OrderUpTo:
        """The algorithm of Zheng and Federgruen."""
        best = 0
        while self.period(best + 1) < self.period(best):
            best += 1
        s, top = best - 1, best
        while self.cost(s, top) > self.period(s):
            s -= 1
        cost, candidate = self.cost(s, top), top + 1
        while self.period(candidate) <= cost:
            if self.cost(s, candidate) < cost:
                top = candidate
                while self.cost(s, top) <= self.period(s + 1) and s + 1 < top:
                    s += 1
                cost = self.cost(s, top)
            candidate += 1
        return OrderUpTo(s, top, cost)

    def _visits(self, count: int) -> list[float]:
        """m(0) ... m(count - 1)."""
        m, pmf = self._renewal, self._pmf
        while len(m) < count:
            j = len(m)
            m.append((float(j == 0) + sum(pmf[d] * m[j - d] for d in range(1, min(j, len(pmf) - 1) + 1))) / (1 - pmf[0]))
        return m[:count]


def power_approximation(
    *, mean_demand: float, deviation: float, holding_cost: float, stockout_cost: float, order_cost: float, lead_time: float = 0.0, cut: bool = False
) -> tuple[float, float]:
    """(s, S) by a regression on mean and variance alone.

    Args:
        mean_demand: > 0, units a period.
        deviation: > 0, units, of one period.
        holding_cost: h > 0, money a unit left.
        stockout_cost: p > 0, money a unit backordered.
        order_cost: K > 0, money an order.
        lead_time: L >= 0 periods.
        cut: whether both are cut at the base-stock level where Q <= 1.5 mean_demand, as its authors do and the textbook does not.
    Returns: s and S = s + Q, units.
    Source: Ehrhardt & Mosier (1984), doi:10.1287/mnsc.30.5.618; Snyder & Shen (2019), section 4.4.
    """
    from scipy import stats

    for name, value in (("mean_demand", mean_demand), ("deviation", deviation), ("holding_cost", holding_cost), ("order_cost", order_cost)):
        checks.positive(name, value)
    checks.positive("stockout_cost", stockout_cost)
    mean, spread = mean_demand * (lead_time + 1), deviation * math.sqrt(lead_time + 1)
    q = 1.30 * mean_demand**0.494 * (order_cost / holding_cost) ** 0.506 * (1 + spread**2 / mean_demand**2) ** 0.116
    z = math.sqrt(q * holding_cost / (spread * stockout_cost))
    s = 0.973 * mean + spread * (0.183 / z + 1.063 - 2.192 * z)
    if not cut or q > 1.5 * mean_demand:
        return s, s + q
    level = float(stats.norm.ppf(stockout_cost / (stockout_cost + holding_cost), mean, spread))
    return min(s, level), min(s + q, level)
