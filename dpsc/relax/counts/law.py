"""A counting law: what an integer may be, with parameters that can be trained.

Everything follows from `log_prob` and `cdf`. Two identities carry the gradients. With F the distribution function and p the probabilities,
d E f(X) = E[(f(X + 1) - f(X)) w(X)] with w(x) = -dF(x) / p(x) (summation by parts), and X = floor(Y) with Y = x + (u - F(x - 1)) / p(x), a continuous
variable whose law is the counting law spread evenly over [x, x + 1).
"""

from __future__ import annotations

import abc
import functools
import math

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax.kernels import Number
from dpsc.relax.operations.staircase import floor
from dpsc.types import Relaxation

TAIL = 1e-12
LONGEST = 2**22


class Law(abc.ABC):
    """An integer law, one a entry of `shape`; parameters are tensors that autograd may follow."""

    def __init__(self, **parameters: Tensor) -> None:
        for name, value in parameters.items():
            checks.finite(f"{name} of {type(self).__name__}", checks.floating(f"{name} of {type(self).__name__}", value))
        self.shape = checks.broadcast({name: value.shape for name, value in parameters.items()})
        first = next(iter(parameters.values()))
        self.dtype, self.device = first.dtype, first.device

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """E X, `shape`."""

    @property
    @abc.abstractmethod
    def variance(self) -> Tensor:
        """Var X, `shape`."""

    @abc.abstractmethod
    def log_prob(self, k: Tensor) -> Tensor:
        """log P(X = k) of integers k `(..., *shape)`; -inf outside of the support."""

    @property
    def high(self) -> Tensor | float:
        """Largest possible value, inf where there is none."""
        return math.inf

    def probabilities(self, count: int) -> Tensor:
        """P(X = 0) ... P(X = count - 1), `(*shape, count)`, differentiable."""
        k = torch.arange(count, dtype=torch.float64, device=self.device).reshape(-1, *[1] * len(self.shape))
        return self.log_prob(k.expand(count, *self.shape)).exp().movedim(0, -1)

    @functools.cached_property
    def length(self) -> int:
        """How many values a table needs so that what lies beyond has probability below 1e-12."""
        if isinstance(self.high, Tensor) or self.high < math.inf:
            top = float(torch.as_tensor(self.high).max()) if math.prod(self.shape) else 0.0
            return self._allowed(top + 1)
        with torch.no_grad():
            if not math.prod(self.shape):
                return 1
            size = float((self.mean + 12 * self.variance.sqrt()).max()) + 40
            while True:
                count = self._allowed(size)
                if bool((1 - self.probabilities(count).sum(-1) < TAIL + 1e-15 * count).all()):
                    return count
                size *= 2

    def _allowed(self, size: float) -> int:
        if not size <= LONGEST:
            raise InputError(
                f"{type(self).__name__} needs a table of {size:.3g} values, more than {LONGEST}: its mean {float(self.mean.max()):.3g} or spread is too "
                "large to count one by one; use larger units, or a continuous law"
            )
        return int(size)

    @functools.cached_property
    def _table(self) -> Tensor:
        """F(0) ... F(K), `(*shape, K + 1)`, without gradient; kept, because sampling asks for it again and again."""
        with torch.no_grad():
            return self.probabilities(self.length).cumsum(-1).double().expand(*self.shape, self.length).contiguous()

    def cdf(self, k: Tensor) -> Tensor:
        """P(X <= k) of integers k `(..., *shape)`, differentiable in the parameters."""
        last = self.length - 1
        index = k.clamp(0, last).long()
        lead = index.dim() - len(self.shape)
        flat = index.reshape(-1, *self.shape).movedim(0, -1)
        table = self.probabilities(self.length).cumsum(-1) if torch.is_grad_enabled() else self._table  # a graph is not kept: it lives for one backward pass
        found = table.expand(*self.shape, last + 1).gather(-1, flat).movedim(-1, 0)
        found = torch.where(k.reshape(found.shape) < 0, torch.zeros_like(found), found)
        return found.reshape(*index.shape[:lead], *self.shape)

    def quantile(self, uniform: Tensor) -> Tensor:
        """The integer whose step of the distribution function contains u: inverse transform sampling.

        Args:
            uniform: `(..., *shape)` in (0, 1).
        Returns: `(..., *shape)` whole numbers in the dtype of the law.
        Gradient: none.
        """
        with torch.no_grad():
            flat = uniform.reshape(-1, *self.shape).movedim(0, -1).to(torch.float64).contiguous()
            found = torch.searchsorted(self._table, flat).clamp_max(self.length - 1)
            return found.movedim(-1, 0).reshape(uniform.shape).to(self.dtype)

    def continuous(self, uniform: Tensor) -> Tensor:
        """Y with floor(Y) = X: x + (u - F(x - 1)) / p(x), differentiable in the parameters at a fixed u.

        Args:
            uniform: `(..., *shape)` in (0, 1).
        Returns: `(..., *shape)` float64, in [x, x + 1).
        """
        x = self.quantile(uniform).double()
        below, probability = self.cdf(x - 1), self.log_prob(x).exp()
        inside = (uniform - below) / probability.clamp_min(1e-300)
        # The table and its differences agree to rounding only; the floor of the result must be x all the same.
        kept = inside.detach().clamp(0, 1 - 1e-9) - (inside.detach() - inside)
        return x + kept

    def weight(self, x: Tensor) -> Tensor:
        """A tensor whose gradient in the parameters is w(x) = -dF(x) / p(x); its value means nothing.

        Args:
            x: `(..., *shape)` sampled integers.
        """
        return -self.cdf(x) / self.log_prob(x).detach().exp().clamp_min(1e-300)


def count(law: Law, uniform: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """An integer drawn by inverse transform: floor(Y), Y the continuous variable of the law.

    Args:
        law: with trainable parameters.
        uniform: `(..., *shape)` in (0, 1), drawn outside.
        relax: how the floor is read; under a wide kernel the soft count is Y - 1/2, whose mean is that of the law.
        scale: what temperature 1 means, in units.
        lattice: as in `floor`.
    Returns: `(..., *shape)` whole numbers when hard.
    Gradient: dY in the parameters, times the slope of the floor; exact in expectation for a program that is linear in the count, biased at jumps.
    Raises: ShapeError, InputError.
    """
    checks.trailing_shape("uniform", uniform, tuple(law.shape), "(..., *law.shape)")
    return floor(law.continuous(uniform), relax=relax, scale=scale, lattice=lattice).to(law.dtype)


def not_negative(law: str, name: str, value: Tensor) -> None:
    """A parameter that must be >= 0."""
    if value.numel() and float(value.detach().min()) < 0:
        raise InputError(f"{name} of {law} must be >= 0, got {float(value.detach().min())}")


def share(law: str, name: str, value: Tensor) -> None:
    """A parameter that must lie in [0, 1]."""
    if value.numel() and not (float(value.detach().min()) >= 0 and float(value.detach().max()) <= 1):
        bad = value.detach()[(value.detach() < 0) | (value.detach() > 1)].flatten()[0]
        raise InputError(f"{name} of {law} must lie in [0, 1], got {float(bad)}")
