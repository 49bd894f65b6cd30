"""The long-run average cost of an order rule, exactly: its Markov chain is solved, not simulated, and the solution is differentiated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

EDGE = 1e-6


def average_cost(
    level: Tensor, demand_pmf: Tensor, *, lowest: int, holding_cost: float, stockout_cost: float, order_cost: float = 0.0, check: bool = True
) -> Tensor:
    """Average cost a period of a (randomised) order rule; review, order (arrives at once), demand, unmet demand waits.

    With T = level times the law of demand, the distribution pi of the inventory at review solves pi T = pi, and the cost is the mean over pi and over the
    level y after ordering of h E[y - D]^+ + p E[D - y]^+ + K [y > x]. What falls below the lowest state counts as the lowest.

    Args:
        level: `(..., X, X)` probability of raising the inventory from state i to state j; rows add up to 1, nothing below the diagonal.
        demand_pmf: `(D + 1,)` probabilities of demand 0 ... D.
        lowest: inventory level of state 0, units; state i is `lowest` + i.
        holding_cost: h, money a unit left over.
        stockout_cost: p, money a unit backordered.
        order_cost: K, money an order.
        check: whether to refuse rules that spend more than 1e-6 of their time in the lowest or the highest state, where the lattice ends.
    Returns: `(...)` money a period.
    Gradient: exact in `level`, through the linear solve.
    Raises: InputError for rows that are no probabilities, and for a lattice that is too small; ShapeError.
    """
    checks.floating("level", level)
    checks.finite("demand_pmf", checks.floating("demand_pmf", demand_pmf))
    if level.dim() < 2 or level.shape[-1] != level.shape[-2]:
        raise ShapeError(f"level must have shape (..., X, X), got {tuple(level.shape)}")
    if demand_pmf.dim() != 1 or float(demand_pmf.min()) < 0 or abs(float(demand_pmf.sum()) - 1) > 1e-9:
        raise InputError(f"demand_pmf must be a vector of probabilities that add up to 1, got a sum of {float(demand_pmf.sum())}")
    for name, value in (("holding_cost", holding_cost), ("stockout_cost", stockout_cost), ("order_cost", order_cost)):
        if not value >= 0:
            raise InputError(f"{name} must be >= 0, got {value}")
    states = level.shape[-1]
    said = level.detach()
    if float((said.sum(-1) - 1).abs().max()) > 1e-9 or float(said.min()) < 0 or float(said.tril(-1).max()) > 0:
        raise InputError("the rows of level must be probabilities that add up to 1, with nothing below the diagonal: an order does not lower the inventory")
    like: dict[str, Any] = {"dtype": level.dtype, "device": level.device}
    y = torch.arange(lowest, lowest + states, **like)
    pmf = demand_pmf.to(**like)
    left = y[:, None] - torch.arange(len(pmf), **like)
    period = (pmf * (holding_cost * left.clamp_min(0) + stockout_cost * (-left).clamp_min(0))).sum(1)
    demand = torch.zeros(states, states, **like)
    index = torch.arange(states, device=level.device)
    demand.index_put_((index[:, None].expand(-1, len(pmf)), (index[:, None] - torch.arange(len(pmf), device=level.device)).clamp_min(0)),
                      pmf.expand(states, -1), accumulate=True)  # fmt: skip
    transition = level @ demand
    # pi (T - I) = 0 with one equation replaced by sum pi = 1.
    system = transition.mT - torch.eye(states, **like)
    system = torch.cat([system[..., :-1, :], torch.ones_like(system[..., :1, :])], -2)
    right = torch.zeros(states, **like)
    right[-1] = 1
    try:
        stationary = torch.linalg.solve(system, right.expand(*system.shape[:-2], states))
    except RuntimeError:  # of torch.linalg: the system is singular
        raise InputError("the order rule has more than one long-run behaviour: its average cost depends on where it starts") from None
    if check:
        worst = float(torch.maximum(stationary.detach()[..., 0].max(), stationary.detach()[..., -1].max()))
        if not worst <= EDGE:
            raise InputError(f"the lattice {lowest} ... {lowest + states - 1} is too small: the inventory spends {worst:.2g} of its time at an end")
    each = level @ period + order_cost * (1 - torch.diagonal(level, dim1=-2, dim2=-1))
    return (stationary * each).sum(-1)
