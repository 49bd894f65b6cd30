"""minimum, maximum, positive part: functions with a kink, whose plain sub-gradient is exact, and may still be smoothed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax.kernels import Kernel, Number
from dpsc.relax.operations.operation import Soft, operands, settings
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class Minimum(Soft):
    """The smaller of two numbers."""

    name: ClassVar[str] = "minimum"
    jumps: ClassVar[bool] = False

    def hard(self, a: Tensor, b: Tensor) -> Tensor:
        """min(a, b)."""
        return torch.minimum(a, b)

    def soft(self, kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
        """E min(a, b + tau Z) = min(a, b) - tau E[Z - |a - b| / tau]^+."""
        width = self.width(kernel)
        return torch.minimum(a, b) - width * kernel.overshoot((a - b).abs() / width)

    def slopes(self, kernel: Kernel, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """P(a < b + tau Z) and its complement."""
        weight = 0.5 + 0.5 * kernel.mass((b - a) / self.width(kernel))
        return weight, 1 - weight


def minimum(a: Tensor, b: Tensor | float, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """The smaller of two numbers: sales of stock and demand, a capacity.

    Args:
        a: `(...)`.
        b: broadcasts with it.
        relax: how it gets its gradient. `Exact` is not an error here: the sub-gradient at the kink (half and half) is right almost everywhere, and
            smoothing buys a little curvature at the price of units.
        scale: what temperature 1 means, in units of a.
    Returns: `(...)`. Soft: E min(a, b + tau Z), never above the hard minimum.
    Gradient: the sub-gradient when exact; of the soft value otherwise.
    """
    return relax.read(Minimum(settings("minimum", scale)[0]), *operands("minimum", a, b))


def maximum(a: Tensor, b: Tensor | float, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """The larger of two numbers; soft, never below the hard maximum. See `minimum`."""
    return -minimum(-a, -b, relax=relax, scale=scale)


def positive_part(x: Tensor, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """max(x, 0), the order that a shortfall asks for; soft, never below it. See `minimum`."""
    return maximum(x, 0.0, relax=relax, scale=scale)
