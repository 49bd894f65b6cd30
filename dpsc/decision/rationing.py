"""A short supply and many who want it: the shortage shared out by a quadratic program in closed form, in proportion, or by priority.

min sum_i (x_i - w_i)^2 / (2 v_i) over sum x <= s, x >= 0 gives everyone w_i - tau v_i, nobody less than nothing: shortages in proportion to the weights v (a
standard deviation, say, so that all run out with about equal chance). With A the k points with the largest w / v, tau_k = (sum_A w - s) / sum_A v is the
multiplier if A is who gets something, and the largest tau_k is the right one, because every line sum_A (w - tau v) lies below sum [w - tau v]^+.
Source: Held, Wolfe & Crowder (1974), doi:10.1007/BF01580223, for the weighted projection; Federgruen & Zipkin (1984) for balanced allocation.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision.layer import DecisionLayer
from dpsc.relax import water_fill
from dpsc.types import Relaxation, Solution, Status


class Ration(Protocol):
    """What is wanted, what is there, and a weight a claimant -> what each gets, adding up to no more than what is there."""

    def __call__(self, want: Tensor, supply: Tensor, weight: Tensor, *, relax: Relaxation) -> Tensor:
        """`(..., K)`, `(...)`, `(..., K)` -> `(..., K)` units."""
        ...


def proportional(want: Tensor, supply: Tensor, weight: Tensor, *, relax: Relaxation) -> Tensor:
    """Everyone gets the same share of what they want: x = w min(1, s / sum w).

    Args:
        want: `(..., K)` units >= 0.
        supply: `(...)` units >= 0.
        weight: not used.
        relax: not used; the kink keeps its sub-gradient.
    Returns: `(..., K)` units.
    Gradient: exact.
    """
    total = want.sum(-1)
    tiny = torch.finfo(want.dtype).tiny
    return want * (supply / total.clamp_min(tiny)).clamp(0, 1)[..., None]


def balanced(want: Tensor, supply: Tensor, weight: Tensor, *, relax: Relaxation) -> Tensor:
    """Shortages in proportion to the weights, by the quadratic program of `Rationing`: x = [w - tau v]^+.

    Args:
        want: `(..., K)` units >= 0.
        supply: `(...)` units >= 0.
        weight: `(..., K)` > 0.
        relax: not used; the kinks keep their sub-gradient.
    Returns: `(..., K)` units.
    Gradient: exact.
    """
    return (want - weight * _multiplier(want, supply, weight)[..., None]).clamp_min(0)


def by_priority(want: Tensor, supply: Tensor, weight: Tensor, *, relax: Relaxation) -> Tensor:
    """The largest weight is served first, whole, then the next: `water_fill` with the weight as priority."""
    return water_fill(supply, want, weight, relax=relax)


def _multiplier(want: Tensor, supply: Tensor, weight: Tensor) -> Tensor:
    """tau >= 0, `(...)`; differentiable given the set of those who get something."""
    with torch.no_grad():
        order = (want / weight).argsort(dim=-1, descending=True)
        each = (want.gather(-1, order).cumsum(-1) - supply[..., None]) / weight.expand(want.shape).gather(-1, order).cumsum(-1)
        count = each.argmax(-1, keepdim=True)  # so many, less one, get something
        inside = torch.zeros_like(want, dtype=torch.bool).scatter(-1, order, torch.arange(want.shape[-1], device=want.device) <= count)
    served = torch.where(inside, want, 0.0).sum(-1) - supply
    return (served / torch.where(inside, weight, 0.0).sum(-1).clamp_min(torch.finfo(want.dtype).tiny)).clamp_min(0)


class Rationing(DecisionLayer):
    """Share out a supply so that shortages are in proportion to weights, as a decision layer.

    x* = argmin sum_i (x_i - w_i)^2 / (2 v_i) over sum x <= s, x >= 0.

    Args:
        claimants: K.
    Shapes: want `(..., K)` w, units (negative: nothing is wanted); supply `(...)` s >= 0, units; weight `(..., K)` v > 0 -> decision `(..., K)` units.
        Duals: `supply` `(...)`, tau, and `lower` `(..., K)`.
    Gradient: exact, active bounds included; undefined where a claimant's share just reaches zero.
    Bad input: a row with a NaN, an infinite number or a weight <= 0 has status 4, one with s < 0 status 2; its decision is NaN and its gradient zero, and the
        other rows do not notice.
    """

    def __init__(self, claimants: int) -> None:
        super().__init__()
        self.claimants = checks.at_least("claimants", claimants, 1)
        self.parameter_shapes = {"want": (claimants,), "supply": (), "weight": (claimants,)}

    def forward(self, **parameters: Tensor) -> Solution[Tensor]:
        """Solve every row."""
        batch = self._batch(parameters)
        dtype = parameters["want"].dtype
        want, supply, weight = (parameters[name].double().expand(batch + self.parameter_shapes[name]) for name in self.parameter_shapes)
        valid = torch.isfinite(want).all(-1) & torch.isfinite(supply) & torch.isfinite(weight).all(-1) & (weight > 0).all(-1)
        feasible = valid & (supply >= 0)
        row = feasible[..., None]
        safe_want, safe_weight = torch.where(row, want, 0.0), torch.where(row, weight, 1.0)
        safe_supply = torch.where(feasible, supply, 0.0)
        tau = _multiplier(safe_want, safe_supply, safe_weight)
        x = (safe_want - safe_weight * tau[..., None]).clamp_min(0)
        decision = torch.where(row, x, torch.nan)
        status = torch.where(feasible, int(Status.OK), torch.where(valid, int(Status.INFEASIBLE), int(Status.INVALID_INPUT))).to(torch.int8)
        lower = (tau[..., None] - safe_want / safe_weight).clamp_min(0)
        residual = ((x.detach().sum(-1) - safe_supply).clamp_min(0) + (tau * (safe_supply - x.sum(-1))).detach().abs()) / (1 + safe_supply.abs())
        return Solution(
            decision=decision.to(dtype),
            dual={"supply": torch.where(feasible, tau, torch.nan).to(dtype), "lower": torch.where(row, lower, torch.nan).to(dtype)},
            objective=torch.where(feasible, ((x - safe_want) ** 2 / (2 * safe_weight)).sum(-1), torch.nan).to(dtype),
            status=status,
            residual=torch.where(feasible, residual, torch.inf).to(dtype),
        )

    def objective(self, decision: Tensor, **parameters: Tensor) -> Tensor:
        """`(...)`: sum_i (x_i - w_i)^2 / (2 v_i)."""
        checks.trailing_shape("decision", decision, (self.claimants,), "(..., K)")
        self._batch(parameters)
        return ((decision - parameters["want"]) ** 2 / (2 * parameters["weight"])).sum(-1)
