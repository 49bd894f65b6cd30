"""Regret: what a decision costs beyond the best one, under the problem's own objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, NegativeRegretError
from dpsc.types import DecisionProblem

ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-5}


def regret(problem: DecisionProblem, decision: Any, parameters: Mapping[str, Tensor], *, optimum: Tensor | None = None) -> Tensor:
    """How much worse a decision is than the best one under the true parameters.

    regret = f(x, p) - min_x f(x, p), with f = `problem.objective`, the function that the problem itself minimises.

    Args:
        problem: any `DecisionProblem`.
        decision: `(..., *shape)`, usually taken on predicted parameters.
        parameters: the true ones, by name.
        optimum: `(...)` optimal objective under `parameters` if it is known already (solved once, kept with the data).
    Returns: `(...)` >= 0; NaN in rows that have no optimum or no decision.
    Gradient: exact in `decision` (NaN where the parameters are).
    Raises: NegativeRegretError where the decision beats the optimum by more than rounding: it is infeasible, or the optimum is of another problem.
    """
    best = problem(**parameters).objective if optimum is None else optimum
    value = problem.objective(decision, **parameters)
    checks.same_shape("optimum", best, "the objective", value)
    gap = value - best
    allowed = ROUNDING.get(gap.dtype, 1e-2) * (1 + best.abs())
    beaten = gap < -allowed
    if bool(beaten.any()):
        row = tuple(beaten.nonzero()[0].tolist())
        raise NegativeRegretError(
            f"regret must be >= 0, got {gap[row].item():.6g} at row {row} ({int(beaten.sum())} of {gap.numel()} rows): objective {value[row].item():.8g} "
            f"against an optimum of "
            f"{best[row].item():.8g}. Either the decision breaks a constraint, or the optimum was computed with another objective or other parameters"
        )
    return gap.clamp(min=0)


def relative_regret(regret: Tensor, optimum: Tensor, *, normalize: str) -> Tensor:
    """One relative number for a set of rows, in one of the two published ways (they differ).

    Args:
        regret: `(..., R)`.
        optimum: `(..., R)` optimal objectives of the same rows.
        normalize: "sum" for sum_i regret_i / sum_i |z_i| (PyEPO; Tang & Khalil 2024, doi:10.1007/s12532-024-00255-x);
            "mean" for mean_i regret_i / |z_i| (predopt-benchmarks; Mandi et al. 2024, doi:10.1613/jair.1.15320).
    Returns: `(...)`, a fraction.
    Raises: InputError if there are no rows, a row has no regret or no optimum, or the divisor is zero.
    """
    checks.one_of("normalize", normalize, ["sum", "mean"])
    checks.same_shape("regret", regret, "optimum", optimum)
    checks.finite("regret", regret)
    checks.finite("optimum", optimum)
    if not regret.dim() or not regret.shape[-1]:
        raise InputError(f"a relative regret needs at least one row, got regret of shape {tuple(regret.shape)}")
    size = optimum.abs()
    if normalize == "sum":
        if bool((size.sum(-1) == 0).any()):
            raise InputError("normalize='sum' divides by the sum of the optima, got 0")
        return regret.sum(-1) / size.sum(-1)
    if bool((size == 0).any()):
        raise InputError(f"normalize='mean' divides by the optimum of every row, got {int((size == 0).sum())} rows with optimum 0; use normalize='sum'")
    return (regret / size).mean(-1)
