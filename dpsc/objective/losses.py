"""Losses that train a predictor on the quality of the decision it leads to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.errors import ObjectiveMismatchWarning, ProblemError, SolveError
from dpsc.types import DecisionProblem, Solution, Status


def _reduce(values: Tensor, solution: Solution[Any], reduction: str, ok: Tensor) -> Tensor:
    """Mean over the rows that were solved, or every row (NaN where it was not)."""
    if reduction == "none":
        return torch.where(ok, values, float("nan"))
    if not bool(ok.any()):
        counts = {s.name.lower().replace("_", " "): int((solution.status == s).sum()) for s in Status if s > Status.INACCURATE}
        raise SolveError(f"none of the {ok.numel()} rows could be solved: " + ", ".join(f"{n} {kind}" for kind, n in counts.items() if n))
    return values[ok].mean()


class DecisionLoss(nn.Module):
    """The objective that the predicted decision earns under the true parameters.

    loss = mean_i f(x*(p_hat_i), p_i). Forward solves the problem under the predicted parameters; backward differentiates the solution, so the problem must
    have a useful derivative dx*/dp (a quadratic or regularised layer; for linear and integer problems use `SPOPlus`).
    Up to the constant mean_i f(x*(p_i), p_i) this is the mean regret.

    Args:
        problem: the layer.
        objective: what to score decisions with; default, and right: `problem.objective`.
        acknowledge_mismatch: set it where another objective is meant on purpose; otherwise a warning names both.
        reduction: "mean" over solved rows, or "none".
    Shapes: predicted and true parameters by name, `(..., *shape)` -> a scalar, or `(...)`.
    Raises: SolveError if no row could be solved.
    Source: Donti, Amos & Kolter (2017), arXiv:1703.04529.
    """

    def __init__(
        self, problem: DecisionProblem, *, objective: Callable[..., Tensor] | None = None, acknowledge_mismatch: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.reduction = checks.one_of("reduction", reduction, ["mean", "none"])
        self.problem = problem
        self.objective = problem.objective if objective is None else objective
        if self.objective != problem.objective and not acknowledge_mismatch:
            warnings.warn(
                f"the loss scores decisions with {_name(self.objective)}, but their layer minimises {_name(problem.objective)}: training can then pay for "
                f"itself by "
                "undoing the layer's objective, and regret may be negative. Leave objective= out, or set acknowledge_mismatch=True if this is meant",
                ObjectiveMismatchWarning,
                stacklevel=2,
            )

    def forward(self, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Tensor:
        """Loss of decisions taken on `predicted` and scored under `true`."""
        solution = self.problem(**predicted)
        return _reduce(self.objective(solution.decision, **true), solution, self.reduction, solution.ok)


class SPOPlus(nn.Module):
    """The convex surrogate of regret for objectives affine in what is predicted.

    loss = mean_i f(x*(p_i), q_i) - min_x f(x, q_i) with the reflected parameters q = 2 p_hat - p: how far the truly optimal decision is from optimal under q.
    For a linear objective this is SPO+ of Elmachtoub & Grigas, 2 c_hat.x*(c) - z*(c) - min_x (2 c_hat - c).x. It is >= 0, zero for a perfect prediction, and
    bounds the regret from above. Forward solves once under q (and once under the truth, unless `optimal` is given); backward returns the sub-gradient
    2 (df/dp at x*(p) - df/dp at x*(q)); no derivative of the solution is needed, so any exact oracle will do.

    Args:
        problem: any `DecisionProblem` whose objective is affine in the predicted parameters (checked at the first call).
        reduction: "mean" over solved rows, or "none".
    Shapes: as for `DecisionLoss`.
    Source: Elmachtoub & Grigas (2022), doi:10.1287/mnsc.2020.3922.
    """

    def __init__(self, problem: DecisionProblem, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = checks.one_of("reduction", reduction, ["mean", "none"])
        self.problem = problem
        self._affine = False

    def forward(self, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor], *, optimal: Any = None) -> Tensor:
        """Loss of `predicted` against `true`; parameters named only in `true` are known and not predicted.

        Args:
            predicted: what the predictor says.
            true: what came, for every parameter of the problem.
            optimal: the decision that is optimal under `true`, if solved before.
        """
        checks.exact_names("predicted", predicted, [n for n in true if n in predicted])
        for name, p in predicted.items():
            checks.same_shape(f"predicted {name}", p, f"true {name}", true[name])
        reflected = {name: 2 * predicted[name] - t if name in predicted else t for name, t in true.items()}
        with torch.no_grad():
            solution = self.problem(**reflected)
            best = self.problem(**true).decision if optimal is None else optimal
        if not self._affine:
            self._check_affine(best, predicted, true, reflected)
        ok = solution.ok & _finite(best, solution.ok)
        # In the other rows a decision of zero, or its NaN would reach the gradient of the parameters.
        values = self.problem.objective(_zeroed(best, ok), **reflected) - self.problem.objective(_zeroed(solution.decision, ok), **reflected)
        return _reduce(values, solution, self.reduction, ok)

    def _check_affine(self, best: Any, predicted: Mapping[str, Tensor], true: Mapping[str, Tensor], reflected: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            f = self.problem.objective
            left, right = f(best, **reflected), 2 * f(best, **{**true, **predicted}) - f(best, **true)
            error = ((left - right).abs() / (1 + left.abs() + right.abs())).nan_to_num()
            differ = [(predicted[n] != true[n]) & predicted[n].isfinite() & true[n].isfinite() for n in predicted]
        if error.numel() and float(error.max()) > (1e-8 if error.dtype == torch.float64 else 1e-4):
            raise ProblemError(
                f"SPO+ needs an objective affine in the predicted parameters {', '.join(predicted)}; {_name(f)} is not (relative error "
                f"{float(error.max()):.2g})"
            )
        self._affine = any(bool(d.any()) for d in differ)  # a perfect prediction shows nothing: look again next time


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    return f"{type(owner).__name__}.{function.__name__}" if owner is not None else getattr(function, "__qualname__", repr(function))


def _finite(decision: Any, rows: Tensor) -> Tensor:
    """`(...)`: the rows whose decision is finite."""
    parts = list(decision.values()) if isinstance(decision, Mapping) else [decision]
    found = torch.ones_like(rows)
    for x in parts:
        found = found & (x.isfinite().flatten(rows.dim()).all(-1) if x.dim() > rows.dim() else x.isfinite())
    return found


def _zeroed(decision: Any, rows: Tensor) -> Any:
    """The decision as a constant, zero outside `rows`."""

    def one(x: Tensor) -> Tensor:
        return torch.where(rows.reshape(rows.shape + (1,) * (x.dim() - rows.dim())), x.detach(), 0.0)

    return {name: one(x) for name, x in decision.items()} if isinstance(decision, Mapping) else one(decision)
