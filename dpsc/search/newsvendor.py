"""One stage, linear costs: the newsvendor, and with a lead time the base-stock level.

Source: Snyder & Shen (2019), Fundamentals of Supply Chain Theory, sections 4.3 and 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.search.average_cost import probability


@dataclass(frozen=True)
class BaseStock:
    """`level` S, units, and its expected `cost`, money a period."""

    level: float
    cost: float


@dataclass(frozen=True)
class NormalNewsvendor:
    """Normal demand; unmet demand waits, so that a lead time L makes it the demand of L + 1 periods.

    Args:
        mean_demand: units a period.
        deviation: > 0, units, of one period.
        holding_cost: h > 0, money a unit left.
        stockout_cost: p > 0, money a unit short.
        lead_time: L >= 0 periods.
    """

    mean_demand: float
    deviation: float
    holding_cost: float
    stockout_cost: float
    lead_time: float = 0.0

    def __post_init__(self) -> None:
        for name in ("deviation", "holding_cost", "stockout_cost"):
            checks.positive(name, getattr(self, name))

    def cost(self, level: float) -> float:
        """h E[S - D]^+ + p E[D - S]^+."""
        from scipy import stats

        periods = self.lead_time + 1
        mean, deviation = self.mean_demand * periods, self.deviation * periods**0.5
        z = (level - mean) / deviation
        short = deviation * (stats.norm.pdf(z) - z * stats.norm.sf(z))
        return float(self.holding_cost * (level - mean + short) + self.stockout_cost * short)

    def optimum(self) -> BaseStock:
        """The p / (p + h) fractile of the demand to cover."""
        from scipy import stats

        periods = self.lead_time + 1
        level = float(stats.norm.ppf(self.stockout_cost / (self.stockout_cost + self.holding_cost), self.mean_demand * periods, self.deviation * periods**0.5))
        return BaseStock(level, self.cost(level))


def newsvendor_costs(demand_pmf: Tensor, holding_cost: float, stockout_cost: float) -> Tensor:
    """h E[S - D]^+ + p E[D - S]^+ of S = 0 ... D, `(D + 1,)` money; the optimum is its smallest entry.

    Args:
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        holding_cost: h > 0, money a unit left.
        stockout_cost: p > 0, money a unit short.
    """
    probability(demand_pmf)
    checks.positive("holding_cost", holding_cost)
    checks.positive("stockout_cost", stockout_cost)
    left = torch.arange(len(demand_pmf))[:, None] - torch.arange(len(demand_pmf))
    return (demand_pmf.double() * (holding_cost * left.clamp_min(0) + stockout_cost * (-left).clamp_min(0))).sum(1)
