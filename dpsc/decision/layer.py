"""The base of every decision layer: a decision problem as a module, with its sensitivities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.types import Solution


class DecisionLayer(nn.Module, ABC):
    """A `DecisionProblem` that is an `nn.Module`.

    Subclasses name their parameters and their trailing shapes in `parameter_shapes`, solve in `forward(**parameters)` and score in `objective`.
    """

    parameter_shapes: Mapping[str, tuple[int, ...]]

    @abstractmethod
    def forward(self, **parameters: Tensor) -> Solution[Any]:
        """Solve every row."""

    @abstractmethod
    def objective(self, decision: Any, **parameters: Tensor) -> Tensor:
        """`(...)`: the function that `forward` minimises."""

    def sensitivity(self, **parameters: Tensor) -> dict[str, Any]:
        """The Jacobian of the decision in every parameter, dx*/dp.

        Args:
            **parameters: `(..., *shape)` each, as for `forward`.
        Returns: parameter name -> `(..., *decision_shape, *shape)`; where the problem has several variables, variable name -> that, one level further
            down. Zero in rows without a solution.
        Gradient: none (detached).
        """
        given = self._expanded(parameters)
        with torch.enable_grad():
            decision = self(**given).decision
        named = decision if isinstance(decision, Mapping) else {"": decision}
        batch = len(self._batch(parameters))
        jacobians: dict[str, dict[str, Tensor]] = {name: {} for name in given}
        for variable, value in named.items():
            flat = value.flatten(batch) if value.dim() > batch else value[..., None]
            rows = [self._gradients(flat[..., j], given) for j in range(flat.shape[-1])]
            for name, p in given.items():
                stacked = torch.stack([r[name] for r in rows], batch)
                jacobians[name][variable] = stacked.reshape(value.shape + p.shape[batch:])
        return {name: by_variable if isinstance(decision, Mapping) else by_variable[""] for name, by_variable in jacobians.items()}

    def value_gradient(self, **parameters: Tensor) -> dict[str, Tensor]:
        """The gradient of the optimal value in every parameter, by the envelope theorem.

        d min_x f(x, p) / dp = the partial derivative in p of the Lagrangian at the solution; the decision itself is not differentiated.

        Returns: parameter name -> `(..., *shape)`.
        Gradient: none (detached).
        Source: Milgrom & Segal (2002), doi:10.1111/1468-0262.00296.
        """
        given = self._expanded(parameters)
        with torch.enable_grad():
            value = self(**given).objective
        return self._gradients(value, given)

    def _batch(self, parameters: Mapping[str, Tensor]) -> torch.Size:
        """The common leading shape, after names, dtypes and trailing shapes were checked."""
        checks.exact_names(type(self).__name__, parameters, self.parameter_shapes)
        leading = {}
        for name, shape in self.parameter_shapes.items():
            checks.trailing_shape(name, checks.floating(name, parameters[name]), shape)
            leading[name] = parameters[name].shape[: parameters[name].dim() - len(shape)]
        return next(iter(leading.values())) if len(leading) == 1 else checks.broadcast(leading)

    def _expanded(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every parameter with the whole batch shape, a leaf of its own, so that gradients come out per row."""
        batch = self._batch(parameters)
        return {name: p.detach().expand(batch + self.parameter_shapes[name]).clone().requires_grad_() for name, p in parameters.items()}

    @staticmethod
    def _gradients(value: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not value.requires_grad:
            return {name: torch.zeros_like(p) for name, p in given.items()}
        found = torch.autograd.grad(value.nansum(), list(given.values()), retain_graph=True, allow_unused=True)
        return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(given.items(), found, strict=True)}
