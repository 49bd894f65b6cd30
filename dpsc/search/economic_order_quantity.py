"""The economic order quantity, and its relatives with backorders, disruptions of supply and uncertain yield.

Demand is steady, D units a year; an order costs K, a unit in stock h a year.
Source: Snyder & Shen (2019), Fundamentals of Supply Chain Theory, sections 3.2, 3.5, 9.2 and 9.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpsc import checks
from dpsc.errors import InputError


@dataclass(frozen=True)
class LotSize:
    """`order_quantity` Q, units; `cost`, money a year; `backorder_share` x of Q that waits when an order arrives."""

    order_quantity: float
    cost: float
    backorder_share: float = 0.0


@dataclass(frozen=True)
class EconomicOrderQuantity:
    """Costs of any Q and the best one.

    Args:
        order_cost: K > 0, money an order.
        holding_cost: h > 0, money a unit and year.
        demand_rate: D > 0, units a year.
        stockout_cost: p > 0, money a unit and year of backorders; None if none are allowed.
    """

    order_cost: float
    holding_cost: float
    demand_rate: float
    stockout_cost: float | None = None

    def __post_init__(self) -> None:
        _positive(self, ("order_cost", "holding_cost", "demand_rate"))
        if self.stockout_cost is not None:
            checks.positive("stockout_cost", self.stockout_cost)

    def cost(self, order_quantity: float, backorder_share: float = 0.0) -> float:
        """K D / Q + h Q (1 - x)^2 / 2 + p Q x^2 / 2."""
        q, x = checks.positive("order_quantity", order_quantity), backorder_share
        return self.order_cost * self.demand_rate / q + 0.5 * q * (self.holding_cost * (1 - x) ** 2 + (self.stockout_cost or 0.0) * x**2)

    def optimum(self) -> LotSize:
        """Q = sqrt(2 K D / h), with backorders times sqrt((h + p) / p), x = h / (h + p)."""
        h, p = self.holding_cost, self.stockout_cost
        q, x = math.sqrt(2 * self.order_cost * self.demand_rate / h), 0.0
        if p is not None:
            q, x = q * math.sqrt((h + p) / p), h / (h + p)
        return LotSize(q, self.cost(q, x), x)


@dataclass(frozen=True)
class DisruptedSupply:
    """Supply that fails now and then, for exponential times; demand without stock is lost.

    g(Q) = (K + h Q^2 / (2 D) + p D psi / mu) / (Q / D + psi / mu), psi = lambda (1 - exp(-(lambda + mu) Q / D)) / (lambda + mu) the probability that an order
    meets a disruption.

    Args:
        order_cost: K > 0, money an order.
        holding_cost: h > 0, money a unit and year.
        stockout_cost: p > 0, money a unit of lost demand.
        demand_rate: D > 0, units a year.
        disruption_rate: lambda > 0, disruptions a year of working supply.
        recovery_rate: mu > 0, recoveries a year of failed supply.
    Source: Berk & Arreola-Risa (1994), Naval Research Logistics 41; Snyder & Shen (2019), section 9.2.
    """

    order_cost: float
    holding_cost: float
    stockout_cost: float
    demand_rate: float
    disruption_rate: float
    recovery_rate: float

    def __post_init__(self) -> None:
        _positive(self, ("order_cost", "holding_cost", "stockout_cost", "demand_rate", "disruption_rate", "recovery_rate"))

    def cost(self, order_quantity: float) -> float:
        """g(Q), money a year."""
        q, d, away = checks.positive("order_quantity", order_quantity), self.demand_rate, 1 / self.recovery_rate
        rate = self.disruption_rate + self.recovery_rate
        met = self.disruption_rate / rate * (1 - math.exp(-rate * q / d))
        return (self.order_cost + self.holding_cost * q * q / (2 * d) + self.stockout_cost * d * met * away) / (q / d + met * away)

    def optimum(self) -> LotSize:
        """The smallest g(Q), which has one minimum; to 1e-9 of Q."""
        from scipy import optimize

        guess = math.sqrt(2 * self.order_cost * self.demand_rate / self.holding_cost)
        found = optimize.minimize_scalar(lambda x: self.cost(math.exp(x)), bracket=(math.log(guess), math.log(4 * guess)), options={"xtol": 1e-10})
        return LotSize(math.exp(float(found.x)), float(found.fun))


@dataclass(frozen=True)
class UncertainYield:
    """What arrives differs from what was ordered: Q + Y ("additive") or Q Z ("multiplicative"); demand starts a new cycle when stock is gone.

    With E and V the mean and variance of what arrives, g(Q) = D (K + h (V + E^2) / (2 D)) / E.

    Args:
        order_cost: K > 0, money an order.
        holding_cost: h > 0, money a unit and year.
        demand_rate: D > 0, units a year.
        yield_mean: of Y, units, or of Z.
        yield_deviation: standard deviation of Y, units, or of Z.
        kind: "additive" or "multiplicative".
    Source: Snyder & Shen (2019), section 9.3.
    """

    order_cost: float
    holding_cost: float
    demand_rate: float
    yield_mean: float
    yield_deviation: float
    kind: str

    def __post_init__(self) -> None:
        _positive(self, ("order_cost", "holding_cost", "demand_rate"))
        checks.one_of("kind", self.kind, ("additive", "multiplicative"))
        if not self.yield_deviation >= 0:
            raise InputError(f"yield_deviation must be >= 0, got {self.yield_deviation}")
        if self.kind == "multiplicative":
            checks.positive("yield_mean", self.yield_mean)

    def cost(self, order_quantity: float) -> float:
        """g(Q), money a year. Raises: InputError if nothing arrives on average."""
        q = order_quantity
        mean, deviation = (q + self.yield_mean, self.yield_deviation) if self.kind == "additive" else (q * self.yield_mean, q * self.yield_deviation)
        if not mean > 0:
            raise InputError(f"order_quantity must be so large that something arrives on average, got {q} and a yield of {self.yield_mean}")
        return (self.order_cost * self.demand_rate + 0.5 * self.holding_cost * (mean**2 + deviation**2)) / mean

    def optimum(self) -> LotSize:
        """Q = sqrt(2 K D / h + sd^2) - mean, or sqrt(2 K D / (h (mean^2 + sd^2)))."""
        base, m, s = 2 * self.order_cost * self.demand_rate / self.holding_cost, self.yield_mean, self.yield_deviation
        q = math.sqrt(base + s * s) - m if self.kind == "additive" else math.sqrt(base / (m * m + s * s))
        return LotSize(q, self.cost(q))


def _positive(problem: object, names: tuple[str, ...]) -> None:
    for name in names:
        checks.positive(name, getattr(problem, name))
