"""The optimal average cost of a one-stage inventory with any set of allowed orders, by relative value iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, SolveError


@dataclass(frozen=True)
class AverageCost:
    """`cost` a period, within `error` of the optimum, and the optimal `order` of every inventory level, `(X,)` units."""

    cost: float
    error: float
    order: Tensor


def average_cost_optimum(
    *,
    allowed: Tensor,
    demand_pmf: Tensor,
    lowest: int,
    holding_cost: float,
    stockout_cost: float,
    order_cost: float = 0.0,
    tolerance: float = 1e-8,
    iterations: int = 20_000,
) -> AverageCost:
    """min over order rules of the long-run cost a period; review, order (arrives at once), demand, unmet demand waits.

    V(x) = min over allowed q of K [q > 0] + E[h (x + q - D)^+ + p (D - x - q)^+ + V(x + q - D)], levels below the lowest one counting as the lowest.

    Args:
        allowed: `(Q + 1,)` bool: which orders 0 ... Q may be placed; 0 must be one of them.
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        lowest: inventory level of the first state; the last is `lowest` + 4 Q, above anything worth having.
        holding_cost: h >= 0 a unit left.
        stockout_cost: p >= 0 a unit backordered.
        order_cost: K >= 0 an order.
        tolerance: on the cost a period.
        iterations: at most.
    Returns: cost, half the width of its bracket, and the orders.
    Raises: InputError; SolveError if the bracket does not close.
    """
    if allowed.dtype != torch.bool or allowed.dim() != 1 or not bool(allowed[:1].all()) or not len(allowed):
        raise InputError("allowed must be a bool vector over the orders 0 ... Q, with 0 allowed")
    probability(demand_pmf)
    for name, given in (("holding_cost", holding_cost), ("stockout_cost", stockout_cost), ("order_cost", order_cost)):
        if not given >= 0:
            raise InputError(f"{name} must be >= 0, got {given}")
    if not lowest < 0:
        raise InputError(f"lowest must be < 0, got {lowest}")
    pmf = demand_pmf.double()
    top = len(allowed) - 1
    levels = -lowest + 4 * top
    x = torch.arange(lowest, lowest + levels, dtype=torch.float64)
    left = x[:, None] - torch.arange(len(pmf))
    period = (pmf * (holding_cost * left.clamp_min(0) + stockout_cost * (-left).clamp_min(0))).sum(1)
    after_demand = (torch.arange(levels)[:, None] - torch.arange(len(pmf))).clamp_min(0)
    orders = allowed.nonzero()[:, 0]
    target = torch.arange(levels)[:, None] + orders
    beyond = (target >= levels).to(torch.float64) * 1e12 + order_cost * (orders > 0)
    target = target.clamp_max(levels - 1)
    value = torch.zeros(levels, dtype=torch.float64)
    inner = slice(-lowest // 2, -lowest + top)
    for _ in range(iterations):
        after = period + (value[after_demand] * pmf).sum(1)
        best = (after[target] + beyond).min(1)
        change = (best.values - value)[inner]
        value = best.values - best.values[-lowest]
        if float(change.max() - change.min()) < tolerance:
            return AverageCost(float(0.5 * (change.max() + change.min())), float(0.5 * (change.max() - change.min())), orders[best.indices])
    raise SolveError(f"relative value iteration did not close its bracket to {tolerance} in {iterations} iterations, got {float(change.max() - change.min())}")


def probability(pmf: Tensor) -> None:
    """Probabilities of 0, 1, 2 ..., which add up to 1."""
    checks.finite("demand_pmf", checks.floating("demand_pmf", pmf))
    if pmf.dim() != 1 or not len(pmf) or float(pmf.min()) < 0 or abs(float(pmf.sum()) - 1) > 1e-9:
        raise InputError(f"demand_pmf must be a vector of probabilities that add up to 1, got shape {tuple(pmf.shape)} and a sum of {float(pmf.sum())}")
