"""A policy that solves a decision problem every period."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dpsc.errors import SolveError
from dpsc.relax import floor
from dpsc.types import Context, DecisionProblem, Policy, Relaxation, StockState


class LayerPolicy(Policy):
    """State -> parameters of a decision layer -> its optimal decision -> order.

    What is trained are the parameters of the functions around the layer (levels, forecasts, prices); the gradient passes through the layer.

    Args:
        layer: a `DecisionProblem`: `Rationing`, `Allocation`, `ConvexProgram` ...
        parameters: `(state, context, relax) ->` the layer's parameters by name; a module where something is trained.
        order: `(decision, state) ->` `(..., S, N)` units; None where the decision is the order.
        whole: whether orders are rounded down to whole units (so that they stay feasible).
    Gradient: the layer's, exact or as it documents; `relax` reads the rounding.
    Raises: SolveError where a row has no decision, naming the first one and its status.
    """

    def __init__(
        self,
        layer: DecisionProblem,
        parameters: Callable[[StockState, Context, Relaxation], Mapping[str, Tensor]],
        *,
        order: Callable[[Any, StockState], Tensor] | None = None,
        whole: bool = True,
    ) -> None:
        super().__init__()
        self.layer, self.parameters_of, self.order, self.whole = layer, parameters, order, whole

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        solution = self.layer(**self.parameters_of(state, context, relax))
        if not bool(solution.ok.all()):
            where = tuple((~solution.ok).nonzero()[0].tolist())
            raise SolveError(
                f"the layer of the policy must have a decision in every row, got status {int(solution.status[where])} in row {where} of period {context.period}"
            )
        order = solution.decision if self.order is None else self.order(solution.decision, state)
        return floor(order + 1e-9, relax=relax) if self.whole else order
