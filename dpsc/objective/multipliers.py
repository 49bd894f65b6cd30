"""Constraints on what a policy achieves (a fill rate, a service level, a budget), kept by multipliers while the policy is trained.

minimise f(x) subject to g_k(x) <= 0 becomes the search for a saddle point of the augmented Lagrangian

    L(x, lambda) = f(x) + sum_k ([lambda_k + rho g_k(x)]_+^2 - lambda_k^2) / (2 rho),

down in x by the optimiser and up in lambda by lambda_k <- [lambda_k + step rho g_k(x)]_+. A multiplier settles at the price of its constraint: by how much the
optimal f falls when g_k <= 0 is loosened by one unit.
Source: Rockafellar (1973), The multiplier method of Hestenes and Powell applied to convex programming, doi:10.1007/BF00934777.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax import step
from dpsc.relax.kernels import Number
from dpsc.types import Relaxation


class Multipliers(nn.Module):
    """Multipliers of named constraints g <= 0, one for every entry of g; they are state, not parameters, and are stored with the module.

    Args:
        shapes: constraint -> shape of its g, `()` or `(N,)`.
        penalty: rho > 0, money for the square of one unit of g; larger keeps the constraint sooner and makes the loss stiffer. A number, or one for each name.
        rate: step > 0 of the ascent relative to rho. 1 is the classical method, after exact minimisations; after every training step that lets prices and
            policy chase each other, and about 1/rate steps pass until a price has settled.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], *, penalty: float | Mapping[str, float], rate: float = 0.05) -> None:
        super().__init__()
        if not shapes:
            raise InputError("shapes must name at least one constraint, got none")
        self.penalty = {name: checks.positive("penalty", penalty[name] if isinstance(penalty, Mapping) else penalty) for name in shapes}
        self.rate = checks.positive("rate", rate)
        self._buffer_of = {name: f"multiplier_{i}" for i, name in enumerate(shapes)}
        for name, shape in shapes.items():
            self.register_buffer(self._buffer_of[name], torch.zeros(shape, dtype=torch.float64))

    def __getitem__(self, name: str) -> Tensor:
        """The multiplier of a constraint, >= 0: its price."""
        checks.one_of("constraint", name, self._buffer_of)
        value: Tensor = getattr(self, self._buffer_of[name])
        return value

    def forward(self, objective: Tensor, violations: Mapping[str, Tensor]) -> Tensor:
        """The augmented Lagrangian.

        Args:
            objective: f, a scalar, money.
            violations: constraint -> g, positive where it is broken.
        Returns: a scalar, for `fit`.
        Gradient: exact, in f and g.
        Raises: InputError for missing or unknown names; ShapeError.
        """
        checks.exact_names("the multipliers", violations, self._buffer_of)
        total = objective
        for name, g in violations.items():
            price, rho = self[name].to(g), self.penalty[name]
            checks.same_shape(f"the violation of {name}", g, "its multiplier", price)
            total = total + (((price + rho * g).clamp_min(0) ** 2 - price**2) / (2 * rho)).sum()
        return total

    @torch.no_grad()
    def ascend(self, violations: Mapping[str, Tensor]) -> None:
        """lambda <- [lambda + rate rho g]_+."""
        checks.exact_names("the multipliers", violations, self._buffer_of)
        for name, g in violations.items():
            price = self[name]
            price.copy_((price + self.rate * self.penalty[name] * g.to(price)).clamp_min(0))


def constrained(program: Callable[[Any, float], tuple[Tensor, Mapping[str, Tensor]]], multipliers: Multipliers) -> Callable[[Any, float], Tensor]:
    """A loss for `fit` from a program that returns its objective and its violations; every evaluation is followed by one ascent of the multipliers.

    Args:
        program: `(batch, fraction of training done) -> (f, {constraint: g})`.
        multipliers: of the same constraints.
    """

    def loss(batch: Any, done: float) -> Tensor:
        objective, violations = program(batch, done)
        value = multipliers(objective, violations)
        multipliers.ascend(violations)
        return value

    return loss


def fill_rate(sales: Tensor, demand: Tensor, *, dims: tuple[int, ...]) -> Tensor:
    """Share of demand that is served from stock: total sales over total demand, not the mean of ratios.

    Args:
        sales: units, of `serve`.
        demand: units, the same shape.
        dims: periods and futures, which are added up.
    Returns: the remaining shape; 1 where there is no demand.
    Gradient: exact.
    """
    checks.same_shape("sales", sales, "demand", demand)
    wanted = demand.sum(dims)
    none = wanted == 0
    return torch.where(none, torch.ones_like(wanted), sales.sum(dims) / torch.where(none, torch.ones_like(wanted), wanted))


def cycle_service(shortage: Tensor, *, dims: tuple[int, ...], relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """Share of periods (or cycles) without a shortage.

    Args:
        shortage: demand less what could be sold, units; negative or zero where everything was served. Give the difference itself, not its positive part, or the
            smoothed share cannot tell a narrow escape from plenty.
        dims: periods and futures, which are averaged over.
        relax: how the jump at zero gets its gradient.
        scale: what temperature 1 means, units: a deviation of demand, say.
    Returns: the remaining shape, in [0, 1].
    Gradient: of the smoothed share; raises when exact.
    """
    return step(-shortage, relax=relax, scale=scale).mean(dims)
