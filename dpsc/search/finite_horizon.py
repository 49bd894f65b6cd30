"""A finite horizon with fixed and unit costs: the optimal (s_t, S_t) of every period, and the exact cost of any others.

theta_t(x) = min over y >= x of K [y > x] + c (y - x) + g(y) + gamma E theta_{t+1}(y - D), theta_{T+1}(x) = h_T x^+ + p_T [-x]^+, g the newsvendor's cost.
Inventory is counted in whole units; g is that of normal demand, the move to the next period that of demand rounded to whole units.
Source: Snyder & Shen (2019), Fundamentals of Supply Chain Theory, sections 4.3.3 and 4.4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class HorizonPlan:
    """`reorder_points` s_t and `order_up_to_levels` S_t, units, period 1 first; `cost` from the first inventory on, money."""

    reorder_points: tuple[int, ...]
    order_up_to_levels: tuple[int, ...]
    cost: float


@dataclass(frozen=True)
class FiniteHorizon:
    """The problem, with the same numbers in all periods.

    Args:
        periods: T.
        mean_demand: units a period.
        deviation: > 0, units.
        holding_cost: h, money a unit left.
        stockout_cost: p, money a unit backordered.
        purchase_cost: c, money a unit.
        order_cost: K, money an order.
        terminal_holding_cost: h_T.
        terminal_stockout_cost: p_T.
        discount: gamma in (0, 1].
        initial: inventory before the first order, whole units.
        deviations: how far from its mean demand is followed; what lies beyond is left out, so that 8 are exact and few are a convention.
    """

    periods: int
    mean_demand: float
    deviation: float
    holding_cost: float
    stockout_cost: float
    purchase_cost: float
    order_cost: float
    terminal_holding_cost: float
    terminal_stockout_cost: float
    discount: float
    initial: int = 0
    deviations: float = 8.0

    def __post_init__(self) -> None:
        checks.at_least("periods", self.periods, 1)
        for name in ("mean_demand", "deviation", "holding_cost", "stockout_cost", "deviations"):
            checks.positive(name, getattr(self, name))
        for name in ("purchase_cost", "order_cost", "terminal_holding_cost", "terminal_stockout_cost"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not 0 < self.discount <= 1:
            raise InputError(f"discount must lie in (0, 1], got {self.discount}")

    def inventory(self) -> numpy.ndarray:
        """The whole levels that are followed, units."""
        lot = (2 * self.order_cost * self.mean_demand / self.holding_cost * (1 + self.holding_cost / self.stockout_cost)) ** 0.5
        reach = 10 * self.deviation + 10
        return numpy.arange(int(-2 * self.mean_demand - reach) + min(self.initial, 0), int(self.mean_demand + lot + reach) + max(self.initial, 0) + 1)

    def demand(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Whole demands and their probabilities."""
        from scipy import stats

        reach = self.deviations * self.deviation
        d = numpy.arange(max(0, round(self.mean_demand - reach)), round(self.mean_demand + reach) + 1)
        law = stats.norm(self.mean_demand, self.deviation)
        return d, law.cdf(d + 0.5) - law.cdf(d - 0.5)

    def period(self) -> numpy.ndarray:
        """g of every level, money."""
        from scipy import stats

        y = self.inventory()
        z = (y - self.mean_demand) / self.deviation
        short = self.deviation * (stats.norm.pdf(z) - z * stats.norm.sf(z))
        return numpy.asarray(self.holding_cost * (y - self.mean_demand + short) + self.stockout_cost * short)

    def optimum(self) -> HorizonPlan:
        """By dynamic programming; s_t is the largest inventory from which S_t is ordered."""
        x = self.inventory()
        points: list[int] = []
        levels: list[int] = []

        def best(raised: numpy.ndarray) -> numpy.ndarray:
            # raised[y] is what it costs to stand at y but for c x: suffix minima of it, and their places
            place = numpy.empty(len(x), dtype=int)
            least = len(x) - 1
            for i in range(len(x) - 1, -1, -1):
                least = i if raised[i] <= raised[least] else least
                place[i] = least
            target = numpy.where(raised[place] + self.order_cost < raised, place, numpy.arange(len(x)))
            # the level ordered from the lowest inventory, and where ordering up to it ends
            top = int(target[0])
            same = (target == top) & (x < x[top])
            levels.append(int(x[top]))
            points.append(int(x[same.nonzero()[0].max()]) if self.order_cost > 0 else int(x[top]))
            return target

        cost = self._back(best)
        return HorizonPlan(tuple(reversed(points)), tuple(reversed(levels)), cost)

    def cost(self, reorder_points: Sequence[int], order_up_to_levels: Sequence[int]) -> float:
        """Exact expected cost of any whole levels: order up to S_t when the inventory is at s_t or below."""
        if not len(reorder_points) == len(order_up_to_levels) == self.periods:
            raise InputError(
                f"reorder_points and order_up_to_levels must have one entry a period, {self.periods}, got {len(reorder_points)} and {len(order_up_to_levels)}"
            )
        x = self.inventory()
        steps = list(zip(reorder_points, order_up_to_levels, strict=True))
        if max(order_up_to_levels) > x[-1] or min(order_up_to_levels) < x[0]:
            raise InputError(f"order_up_to_levels must lie in [{x[0]}, {x[-1]}], got {list(order_up_to_levels)}")

        def given(raised: numpy.ndarray) -> numpy.ndarray:
            point, level = steps.pop()
            return numpy.where((x <= point) & (x < level), level - x[0], numpy.arange(len(x)))

        return self._back(given)

    def _back(self, choose: Callable[[numpy.ndarray], numpy.ndarray]) -> float:
        """Costs from the last period to the first; `choose` maps what standing at y costs to the place of y for every x."""
        x, g, (d, share) = self.inventory(), self.period(), self.demand()
        after = numpy.maximum(numpy.arange(len(x))[:, None] - d, 0)
        theta = self.terminal_holding_cost * numpy.maximum(x, 0) + self.terminal_stockout_cost * numpy.maximum(-x, 0)
        here = numpy.arange(len(x))
        for _ in range(self.periods):
            stand = g + self.discount * theta[after] @ share
            raised = self.purchase_cost * x + stand
            target = choose(raised)
            theta = raised[target] - self.purchase_cost * x + self.order_cost * (target > here)
        return float(theta[self.initial - x[0]])
