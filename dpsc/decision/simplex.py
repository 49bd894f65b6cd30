"""Quadratic programs on the simplex in closed form: `Allocation` and `Portfolio`.

min c.x + eps |x|^2 over sum x = 1, 0 <= x <= 1 is the projection of -c / (2 eps) on the simplex; the upper bound follows from the others.
Sort the costs; with S the k cheapest items, nu(k) = -(2 eps + sum_S c) / k is the multiplier of sum x = 1 if the support is S, and the largest k whose
k-th cheapest cost is below -nu(k) is the support. Given it, x_S = -(c_S + nu) / (2 eps) is an explicit formula: its gradient is exact (active bounds
included), can be differentiated again, and works under torch.func.
Source: Held, Wolfe & Crowder (1974), doi:10.1007/BF01580223; Duchi et al. (2008), doi:10.1145/1390156.1390191.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision.layer import DecisionLayer
from dpsc.types import Solution, Status

if TYPE_CHECKING:
    from dpsc.decision.convex import ConvexProgram


class _Projection(torch.autograd.Function):
    """costs `(n, ...)`, items first -> shares `(n, ...)` and the level -nu `(...)`; NaN in rows with a cost that is not finite.

    Gradient: dx/dc v = -(v - mean_S v) / (2 eps) on the support S, zero off it and in NaN rows.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(cost: Tensor, regularization: float) -> tuple[Tensor, Tensor]:
        cost = cost.contiguous()  # items really first: a sum over a short innermost dimension takes ten times as long as one over rows
        inverse, offset = _constants(cost.shape[0], cost.dim(), cost.device, regularization)
        total = cost.sort(dim=0).values.cumsum(0)
        # (2 eps + the sum of the k cheapest) / k falls while the k-th joins the support and rises from there: the level is its minimum
        level = torch.addcmul(offset, total, inverse).amin(0).add_(total[-1] * 0.0)  # plus NaN where a cost is NaN or infinite
        return (level - cost).mul_(0.5 / regularization).clamp(min=0), level

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[0])
        ctx.half = 0.5 / inputs[1]
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, x_bar: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        x_bar, inside = x_bar.contiguous(), x > 0  # false where x is NaN
        weight = inside.to(x.dtype)
        mean = (x_bar * weight).sum(0) / weight.sum(0)
        return torch.where(inside, (mean - x_bar) * ctx.half, 0.0), None


# autograd looks the signature up at every call, which takes longer than the arithmetic unless it is kept here
_Projection.forward.__signature__ = inspect.signature(_Projection.forward)  # type: ignore[attr-defined]


def solve(cost: Tensor, regularization: float) -> Solution[Tensor]:
    """Solve every row of `(..., n)` costs in float64; a row with a cost that is not finite has decision NaN and gradient zero.

    The fields besides the decision are computed when they are read.
    """
    by_item = cost.double().movedim(-1, 0)
    x, level = _Projection.apply(by_item, regularization)

    def cast(t: Tensor) -> Tensor:
        return t.to(cost.dtype)

    def objective() -> Tensor:
        c = torch.where(level.isnan(), 0.0, by_item)  # stops the gradient of rows that are not valid
        return cast((x * (c + regularization * x)).sum(0))

    return Solution.deferred(
        cast(x.movedim(0, -1)),
        objective=objective,
        dual=lambda: {"total": cast(-level), "lower": cast((by_item.detach() - level).clamp(min=0).movedim(0, -1))},
        status=lambda: level.isnan().to(torch.int8) * int(Status.INVALID_INPUT),
        residual=lambda: cast((x.detach().sum(0) - 1).abs().nan_to_num(nan=float("inf"))),  # signs, stationarity, complementarity hold by construction
    )


@lru_cache(maxsize=64)
def _constants(n: int, dims: int, device: torch.device, regularization: float) -> tuple[Tensor, Tensor]:
    """1/k and 2 eps / k for k = 1 ... n along the first of `dims` dimensions."""
    inverse = 1 / torch.arange(1, n + 1, dtype=torch.float64, device=device).reshape(-1, *[1] * (dims - 1))
    return inverse, 2 * regularization * inverse


class _SimplexLayer(DecisionLayer):
    """What `Allocation` and `Portfolio` share: one cost-like parameter, one shape, two ways to solve."""

    name: str
    sign: float

    def __init__(self, items: int, curvature: float, closed_form: bool) -> None:
        super().__init__()
        self.items = checks.at_least("items", items, 1)
        self.curvature = curvature
        self.parameter_shapes = {self.name: (items,)}
        self.program: ConvexProgram | None = None if closed_form else self.as_program()

    def as_program(self) -> ConvexProgram:
        """The same problem as a `ConvexProgram`, the referee of the closed form: same parameter, same objective, duals `total`, `lower`, `upper`."""
        import cvxpy as cp

        from dpsc.decision.convex import ConvexProgram

        x, p = cp.Variable(self.items, name="decision"), cp.Parameter(self.items, name=self.name)
        constraints = {"total": cp.sum(x) == 1, "lower": x >= 0, "upper": x <= 1}
        problem = cp.Problem(cp.Minimize(self.sign * (p @ x) + self.curvature * cp.sum_squares(x)), list(constraints.values()))
        return ConvexProgram(problem, constraints=constraints)

    def _solve(self, value: Tensor) -> Solution[Tensor]:
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.dim() and value.shape[-1] == self.items):
            self._batch({self.name: value})  # says what is wrong
        if self.program is not None:
            return self.program(**{self.name: value})
        return solve(value if self.sign > 0 else -value, self.curvature)

    def _score(self, decision: Tensor, value: Tensor) -> Tensor:
        checks.trailing_shape("decision", decision, (self.items,), "(..., n)")
        self._batch({self.name: value})
        return self.sign * (decision * value).sum(-1) + self.curvature * (decision * decision).sum(-1)


class Allocation(_SimplexLayer):
    """Allocate one unit over n activities at least cost.

    x*(c) = argmin c.x + eps |x|^2 over sum x = 1, 0 <= x <= 1.

    Args:
        items: number n of activities.
        regularization: eps > 0, cost per squared share; makes the decision continuous in the costs.
        closed_form: solve by sorting (default); if False through `ConvexProgram`, which agrees to 1e-9 and is slower by orders of magnitude.
    Shapes: cost `(..., n)`, cost per unit allocated -> decision `(..., n)`, shares.
    Gradient: exact, active bounds included; twice differentiable (the second derivative is zero almost everywhere); works under torch.func.
    Bad input: a row with a NaN or infinite cost has status 4, decision NaN and gradient zero; the other rows do not notice.
    Source: the allocation problem of discopt's notebook on decision-focused learning.
    """

    name = "cost"
    sign = 1.0

    def __init__(self, items: int, *, regularization: float = 1.0, closed_form: bool = True) -> None:
        self.regularization = checks.positive("regularization", regularization)
        super().__init__(items, self.regularization, closed_form)

    def forward(self, cost: Tensor) -> Solution[Tensor]:  # type: ignore[override]
        """Solve every row of `(..., n)` costs."""
        return self._solve(cost)

    def objective(self, decision: Tensor, cost: Tensor) -> Tensor:  # type: ignore[override]
        """`(...)`: c.x + eps |x|^2."""
        return self._score(decision, cost)


class Portfolio(_SimplexLayer):
    """Spread one unit of capital over n assets.

    x*(r) = argmin -r.x + gamma |x|^2 over sum x = 1, 0 <= x <= 1. The utility is minus the objective.

    Args:
        items: number n of assets.
        risk_aversion: gamma > 0, utility lost per squared share.
        closed_form: as for `Allocation`.
    Shapes: returns `(..., n)`, return per unit invested -> decision `(..., n)`, shares.
    Gradient and bad input: as for `Allocation`.
    Source: the portfolio problem of discopt's notebook on decision-focused learning.
    """

    name = "returns"
    sign = -1.0

    def __init__(self, items: int, *, risk_aversion: float = 2.0, closed_form: bool = True) -> None:
        self.risk_aversion = checks.positive("risk_aversion", risk_aversion)
        super().__init__(items, self.risk_aversion, closed_form)

    def forward(self, returns: Tensor) -> Solution[Tensor]:  # type: ignore[override]
        """Solve every row of `(..., n)` returns."""
        return self._solve(returns)

    def objective(self, decision: Tensor, returns: Tensor) -> Tensor:  # type: ignore[override]
        """`(...)`: -r.x + gamma |x|^2."""
        return self._score(decision, returns)
