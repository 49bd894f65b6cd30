"""Known demand, a fixed cost an order: the dynamic program of Wagner and Whitin.

Source: Wagner & Whitin (1958), doi:10.1287/mnsc.5.1.89; Snyder & Shen (2019), section 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class LotPlan:
    """`orders` of every period, units, and the `cost` of the plan, money."""

    orders: tuple[float, ...]
    cost: float


def plan_cost(orders: Sequence[float], *, demand: Sequence[float], order_cost: float, holding_cost: float) -> float:
    """K an order and h a unit left at the end of a period.

    Raises: InputError for a plan that runs short.
    """
    stock, total = 0.0, 0.0
    for period, (order, wanted) in enumerate(zip(orders, demand, strict=True)):
        stock += order - wanted
        if stock < -1e-9:
            raise InputError(f"orders must cover demand, got a shortage of {-stock} in period {period}")
        total += order_cost * (order > 0) + holding_cost * stock
    return total


def wagner_whitin(*, demand: Sequence[float], order_cost: float, holding_cost: float) -> LotPlan:
    """The cheapest plan without shortages: f_t = min over s > t of K + h sum_{t <= i < s} (i - t) d_i + f_s.

    Args:
        demand: of every period, units >= 0.
        order_cost: K >= 0, money an order.
        holding_cost: h >= 0, money a unit left at the end of a period.
    Raises: InputError.
    """
    if not len(demand) or min(demand) < 0:
        raise InputError(f"demand must be a list of numbers >= 0, got {list(demand)}")
    if order_cost < 0:
        raise InputError(f"order_cost must be >= 0, got {order_cost}")
    if holding_cost < 0:
        raise InputError(f"holding_cost must be >= 0, got {holding_cost}")
    periods = checks.at_least("the number of periods", len(demand), 1)
    best, until = [0.0] * (periods + 1), [0] * periods
    for t in range(periods - 1, -1, -1):
        choices = {
            s: order_cost * (sum(demand[t:s]) > 0) + holding_cost * sum((i - t) * demand[i] for i in range(t, s)) + best[s] for s in range(t + 1, periods + 1)
        }
        until[t] = min(choices, key=lambda s: choices[s])
        best[t] = choices[until[t]]
    orders, t = [0.0] * periods, 0
    while t < periods:
        orders[t] = float(sum(demand[t : until[t]]))
        t = until[t]
    return LotPlan(tuple(orders), best[0])
