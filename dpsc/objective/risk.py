"""Risk measures: from the costs of many futures to one number that can be reported exactly and trained smoothly.

A measure is called as `measure(cost, relax=reading)`. Read exactly it is the sample statistic that a report states; read smoothed, its weights on the ordered
costs are blurred, so that many futures steer a training step instead of one or two. Straight-through has the exact value with the blurred gradient.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, Kernel
from dpsc.relax.operations import Soft
from dpsc.types import Relaxation


class RiskMeasure(Protocol):
    """Costs of S futures -> one number; cash-additive: a cost that is certain is worth itself."""

    def __call__(self, cost: Tensor, *, relax: Relaxation = ..., dim: int = ...) -> Tensor:
        """`(..., S, ...)` -> the same without `dim`."""
        ...


@dataclass(frozen=True, eq=False)
class _Ordered(Soft):
    """A weighted sum of ordered costs; `weights` and `blurred` make the weights of n ordered costs."""

    measure: _Spectral | None = None

    name: ClassVar[str] = "risk measure"
    jumps: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def hard(self, cost: Tensor) -> Tensor:
        """The sample statistic."""
        assert self.measure is not None
        return (_ascending(cost) * self.measure.weights(cost.shape[-1], cost)).sum(-1)

    def soft(self, kernel: Kernel, cost: Tensor) -> Tensor:
        """The same with blurred weights."""
        assert self.measure is not None
        return (cost.sort(-1).values * self.measure.blurred(cost.shape[-1], cost, kernel)).sum(-1)


class _Spectral(abc.ABC):
    """A measure that is a weighted mean of the ordered costs."""

    @abc.abstractmethod
    def weights(self, count: int, like: Tensor) -> Tensor:
        """`(count,)` exact weights of the costs in ascending order; they add up to 1."""

    @abc.abstractmethod
    def spectrum(self, share: Tensor, kernel: Kernel) -> Tensor:
        """The blurred weight of all costs up to a share of the futures, rising from one number to another."""

    def blurred(self, count: int, like: Tensor, kernel: Kernel) -> Tensor:
        """`(count,)` smooth weights that add up to 1; temperature 1 means all of the probability."""
        edge = torch.arange(count + 1, dtype=like.dtype, device=like.device) / count
        below = self.spectrum(edge, kernel)
        weight = below.diff()
        return weight / weight.sum()

    def __call__(self, cost: Tensor, *, relax: Relaxation | None = None, dim: int = -2) -> Tensor:
        """The measure over the futures.

        Args:
            cost: `(..., S, N)` money, or any shape with futures along `dim`.
            relax: `Exact()` (default) for what is reported, `Smoothed(kernel)` or `StraightThrough(kernel)` for training; temperatures are shares of the
                futures, .05 say.
            dim: of the futures.
        Returns: `(..., N)`.
        Gradient: of the ordered costs' weights; exact almost everywhere in every reading.
        Raises: ShapeError, InputError for NaN costs.
        """
        return (Exact() if relax is None else relax).read(_Ordered(measure=self), _futures(cost, dim))


def _futures(cost: Tensor, dim: int) -> Tensor:
    checks.floating("cost", cost)
    if not -cost.dim() <= dim < cost.dim() or cost.shape[dim] < 1:
        raise ShapeError(f"cost must have at least one future along dim {dim}, got shape {tuple(cost.shape)}")
    if not torch.compiler.is_compiling() and bool(cost.detach().isnan().any()):
        where = tuple(cost.detach().isnan().nonzero()[0].tolist())
        raise InputError(f"cost must not be NaN, got NaN at index {where}")
    return cost.movedim(dim, -1)


def _ascending(cost: Tensor) -> Tensor:
    """The costs in order; without a gradient on a CPU by numpy, whose vectorised sort takes a fifteenth of torch's time."""
    plain = cost.device.type == "cpu" and cost.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()
    if not plain or (torch.is_grad_enabled() and cost.requires_grad) or torch._C._functorch.is_functorch_wrapped_tensor(cost):
        return cost.contiguous().sort(-1).values  # one memory layout, so that both ways add up in the same order
    return torch.from_numpy(numpy.sort(cost.detach().contiguous().numpy(), axis=-1))


def _level(level: float) -> None:
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise InputError(f"level must lie strictly between 0 and 1, got {level!r}")


@dataclass(frozen=True)
class Mean(_Spectral):
    """The mean cost; for those who do not mind risk."""

    def weights(self, count: int, like: Tensor) -> Tensor:
        """1 / n."""
        return torch.full((count,), 1 / count, dtype=like.dtype, device=like.device)

    def spectrum(self, share: Tensor, kernel: Kernel) -> Tensor:
        """The share itself."""
        return share


@dataclass(frozen=True)
class Quantile(_Spectral):
    """The cost that a share of the futures stays below: P75, P90.

    Exact: linear interpolation between the two order statistics around (n - 1) level, as numpy and torch have it.

    Args:
        level: in (0, 1).
    """

    level: float

    def __post_init__(self) -> None:
        _level(self.level)

    def weights(self, count: int, like: Tensor) -> Tensor:
        """All on the two costs around the level."""
        place = torch.arange(count, dtype=like.dtype, device=like.device)
        return (1 - (place - (count - 1) * self.level).abs()).clamp_min(0)

    def spectrum(self, share: Tensor, kernel: Kernel) -> Tensor:
        """The kernel's distribution function around the level."""
        return 0.5 * kernel.mass((share - self.level) / kernel.temperature)


@dataclass(frozen=True)
class CVaR(_Spectral):
    """Conditional value at risk: the mean of the worst (1 - level) of the futures; coherent, unlike the quantile.

    Exact: the future on the border counts by its fraction, so that the measure is min over t of t + E[cost - t]^+ / (1 - level).

    Args:
        level: in [0, 1); 0 is the mean.
    Source: Rockafellar & Uryasev (2000), doi:10.21314/JOR.2000.038.
    """

    level: float

    def __post_init__(self) -> None:
        if self.level != 0:
            _level(self.level)

    def weights(self, count: int, like: Tensor) -> Tensor:
        """1 / ((1 - level) n) on the worst, a fraction of it on the border."""
        place = torch.arange(1, count + 1, dtype=like.dtype, device=like.device)
        return (place - self.level * count).clamp(0, 1) / ((1 - self.level) * count)

    def spectrum(self, share: Tensor, kernel: Kernel) -> Tensor:
        """E[share - level + tau Z]^+: the border is blurred."""
        u = (share - self.level) / kernel.temperature
        return kernel.temperature * (u.clamp_min(0) + kernel.overshoot(u.abs()))


@dataclass(frozen=True)
class WorstCase(_Spectral):
    """The largest cost of all futures; smoothed, a mean over the last few."""

    def weights(self, count: int, like: Tensor) -> Tensor:
        """1 on the last."""
        return (torch.arange(1, count + 1, device=like.device) == count).to(like.dtype)

    def spectrum(self, share: Tensor, kernel: Kernel) -> Tensor:
        """The kernel's distribution function around 1."""
        return 0.5 * kernel.mass((share - 1) / kernel.temperature)


@dataclass(frozen=True)
class Entropic:
    """log E exp(a cost) / a: the mean plus half of a times the variance, for small a; smooth already, so every reading is the exact one.

    Args:
        aversion: a > 0, per unit of money.
    """

    aversion: float

    def __post_init__(self) -> None:
        checks.positive("aversion", self.aversion)

    def __call__(self, cost: Tensor, *, relax: Relaxation | None = None, dim: int = -2) -> Tensor:
        """The measure over the futures; see the other measures.

        Gradient: exact.
        """
        cost = _futures(cost, dim)
        count = torch.tensor(float(cost.shape[-1]), dtype=cost.dtype, device=cost.device)
        return (torch.logsumexp(self.aversion * cost, -1) - count.log()) / self.aversion
