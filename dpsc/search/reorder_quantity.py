"""(r, Q): continuous review, order Q whenever the inventory position falls to r. The exact policy, and four approximations.

Demand D over the lead time; a unit in stock costs h a year, a unit backordered p a year. In the long run the position is uniform on r + 1 ... r + Q (or between
r and r + Q), so a policy costs (K lambda + sum of g over them) / Q, with g(y) = h E[y - D]^+ + p E[D - y]^+.
Source: Federgruen & Zheng (1992), doi:10.1287/opre.40.4.808; Zheng (1992), doi:10.1287/mnsc.38.1.87; Snyder & Shen (2019), chapter 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class ReorderQuantity:
    """`reorder_point` r and `order_quantity` Q, units; `cost`, money a year."""

    reorder_point: float
    order_quantity: float
    cost: float


@dataclass(frozen=True)
class PoissonReorder:
    """Poisson demand, whole units.

    Args:
        demand_rate: lambda > 0, units a year.
        lead_time: L > 0, years.
        order_cost: K > 0, money an order.
        holding_cost: h > 0, money a unit and year.
        stockout_cost: p > 0, money a backorder and year.
    """

    demand_rate: float
    lead_time: float
    order_cost: float
    holding_cost: float
    stockout_cost: float

    def __post_init__(self) -> None:
        for name in ("demand_rate", "lead_time", "order_cost", "holding_cost", "stockout_cost"):
            checks.positive(name, getattr(self, name))

    def rate(self, position: int) -> float:
        """g(y), money a year."""
        from scipy import stats

        mean = self.demand_rate * self.lead_time
        # E[D - y]^+ = (mean - y) P(D >= y) + y P(D = y)
        short = (mean - position) * stats.poisson.sf(position - 1, mean) + position * stats.poisson.pmf(position, mean) if position >= 0 else mean - position
        return float(self.holding_cost * (position - mean + short) + self.stockout_cost * short)

    def cost(self, reorder_point: int, order_quantity: int) -> float:
        """Exact cost of whole r and Q."""
        checks.at_least("order_quantity", order_quantity, 1)
        held = sum(self.rate(y) for y in range(reorder_point + 1, reorder_point + order_quantity + 1))
        return (self.order_cost * self.demand_rate + held) / order_quantity

    def optimum(self) -> ReorderQuantity:
        """Add positions in the order of their cost, while that lowers the mean."""
        low = 0
        while self.rate(low + 1) < self.rate(low):
            low += 1
        low, high = low - 1, low
        total, count = self.order_cost * self.demand_rate + self.rate(high), 1
        while True:  # the position above or below, whichever is cheaper
            lower, upper = self.rate(low), self.rate(high + 1)
            nearest = min(lower, upper)
            if nearest >= total / count:
                return ReorderQuantity(low, count, total / count)
            total, count = total + nearest, count + 1
            if lower < upper:
                low -= 1
            else:
                high += 1


@dataclass(frozen=True)
class NormalReorder:
    """Normal demand over the lead time, real r and Q.

    Args:
        demand_rate: lambda > 0, units a year.
        deviation: > 0, units, of a year's demand.
        lead_time: L > 0, years.
        order_cost: K > 0, money an order.
        holding_cost: h > 0, money a unit and year.
        stockout_cost: p > 0, money a backorder and year (exact, loss function) or a backorder (expected inventory level).
    """

    demand_rate: float
    deviation: float
    lead_time: float
    order_cost: float
    holding_cost: float
    stockout_cost: float

    def __post_init__(self) -> None:
        for name in ("demand_rate", "deviation", "lead_time", "order_cost", "holding_cost", "stockout_cost"):
            checks.positive(name, getattr(self, name))

    @property
    def mean(self) -> float:
        """Of the demand over the lead time."""
        return self.demand_rate * self.lead_time

    @property
    def spread(self) -> float:
        """Standard deviation of the demand over the lead time."""
        return self.deviation * math.sqrt(self.lead_time)

    def losses(self, level: float) -> tuple[float, float]:
        """n(x) = E[D - x]^+ and its integral from x on, E[(D - x)^+]^2 / 2."""
        from scipy import stats

        z = (level - self.mean) / self.spread
        density, beyond = float(stats.norm.pdf(z)), float(stats.norm.sf(z))
        return self.spread * (density - z * beyond), 0.5 * self.spread**2 * ((z * z + 1) * beyond - z * density)

    def cost(self, reorder_point: float, order_quantity: float) -> float:
        """The exact cost, the mean of g between r and r + Q."""
        r, q, h, p = reorder_point, checks.positive("order_quantity", order_quantity), self.holding_cost, self.stockout_cost
        held = h * (q * (r - self.mean) + 0.5 * q * q) + (h + p) * (self.losses(r)[1] - self.losses(r + q)[1])
        return (self.order_cost * self.demand_rate + held) / q

    def optimum(self) -> ReorderQuantity:
        """The exact optimum: g(r) = g(r + Q) = the cost (Zheng's condition), by bisection on the cost level."""
        return self._level(lambda r, q: self.cost(r, q))

    def expected_inventory_cost(self, reorder_point: float, order_quantity: float) -> float:
        """h (r - mean + Q / 2) + K lambda / Q + p lambda n(r) / Q: a backorder costs once, and stock is counted net of backorders."""
        r, q = reorder_point, checks.positive("order_quantity", order_quantity)
        per_order = self.order_cost + self.stockout_cost * self.losses(r)[0]
        return self.holding_cost * (r - self.mean + 0.5 * q) + per_order * self.demand_rate / q

    def expected_inventory(self) -> ReorderQuantity:
        """The best r and Q of `expected_inventory_cost`: P(D > r) = h Q / (p lambda), Q = sqrt(2 lambda (K + p n(r)) / h), in turns.

        Raises: InputError if it has no interior optimum.
        """
        from scipy import stats

        q = math.sqrt(2 * self.order_cost * self.demand_rate / self.holding_cost)
        for _ in range(1000):
            share = self.holding_cost * q / (self.stockout_cost * self.demand_rate)
            if not share < 1:
                raise InputError(f"stockout_cost must be so large that h Q < p lambda, got h Q / (p lambda) = {share}")
            r = float(stats.norm.isf(share, self.mean, self.spread))
            before, q = q, math.sqrt(2 * self.demand_rate * (self.order_cost + self.stockout_cost * self.losses(r)[0]) / self.holding_cost)
            if abs(q - before) < 1e-12 * q:
                break
        return ReorderQuantity(r, q, self.expected_inventory_cost(r, q))

    def backorder_quantity(self) -> ReorderQuantity:
        """Q of the deterministic problem with backorders, and the best r for it: g(r) = g(r + Q)."""
        h, p = self.holding_cost, self.stockout_cost
        q = math.sqrt(2 * self.order_cost * self.demand_rate * (h + p) / (h * p))
        r = self._equal(q)
        return ReorderQuantity(r, q, self.cost(r, q))

    def safety_stock(self) -> ReorderQuantity:
        """The economic order quantity, and the newsvendor level of the lead time as r."""
        from scipy import stats

        q = math.sqrt(2 * self.order_cost * self.demand_rate / self.holding_cost)
        r = float(stats.norm.ppf(self.stockout_cost / (self.stockout_cost + self.holding_cost), self.mean, self.spread))
        return ReorderQuantity(r, q, self.cost(r, q))

    def loss_function_cost(self, reorder_point: float, order_quantity: float) -> float:
        """The exact cost, but for backorders at r + Q, which are taken as none."""
        r, q, h = reorder_point, checks.positive("order_quantity", order_quantity), self.holding_cost
        return h * (r - self.mean + 0.5 * q) + (self.order_cost * self.demand_rate + (h + self.stockout_cost) * self.losses(r)[1]) / q

    def loss_function(self) -> ReorderQuantity:
        """The best r and Q of `loss_function_cost`: n(r) = h Q / (h + p), Q = sqrt(2 (K lambda + (h + p) n2(r)) / h), in turns."""
        from scipy import optimize

        h, both = self.holding_cost, self.holding_cost + self.stockout_cost
        q = math.sqrt(2 * self.order_cost * self.demand_rate / h)
        for _ in range(1000):
            target = h * q / both
            r = float(
                optimize.brentq(lambda x, goal=target: self.losses(x)[0] - goal, self.mean - 40 * self.spread - 2 * q, self.mean + 40 * self.spread, xtol=1e-12)
            )
            before, q = q, math.sqrt(2 * (self.order_cost * self.demand_rate + both * self.losses(r)[1]) / h)
            if abs(q - before) < 1e-12 * q:
                break
        return ReorderQuantity(r, q, self.loss_function_cost(r, q))

    def _rate(self, position: float) -> float:
        """g(y)."""
        short = self.losses(position)[0]
        return self.holding_cost * (position - self.mean + short) + self.stockout_cost * short

    def _equal(self, q: float) -> float:
        """r with g(r) = g(r + Q)."""
        from scipy import optimize

        reach = 40 * self.spread + 2 * q
        return float(optimize.brentq(lambda r: self._rate(r + q) - self._rate(r), self.mean - reach, self.mean + reach, xtol=1e-12))

    def _level(self, cost: Callable[[float, float], float]) -> ReorderQuantity:
        """The best Q, with r from g(r) = g(r + Q): one dimension, convex."""
        from scipy import optimize

        guess = math.log(math.sqrt(2 * self.order_cost * self.demand_rate / self.holding_cost))
        found = optimize.minimize_scalar(lambda x: cost(self._equal(math.exp(x)), math.exp(x)), bracket=(guess, guess + 0.5), options={"xtol": 1e-10})
        q = math.exp(float(found.x))
        return ReorderQuantity(self._equal(q), q, float(found.fun))
