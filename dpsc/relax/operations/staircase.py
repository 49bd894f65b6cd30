"""floor and round: staircases over the integers.

The noise that smooths a staircase is the kernel's, cut to half a step on either side, so that a wide kernel ends in linear interpolation rather than in a
blur over many steps: between n - 1/2 and n + 1/2 the soft floor rises from n - 1 to n as n - 1/2 + mass((x - n) / tau) / (2 mass(1 / (2 tau))).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax.kernels import Kernel, Number
from dpsc.relax.operations.operation import Soft, operands, settings
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class Floor(Soft):
    """The largest integer not above x."""

    name: ClassVar[str] = "floor"

    def hard(self, x: Tensor) -> Tensor:
        """floor(x)."""
        return torch.floor(x)

    def soft(self, kernel: Kernel, x: Tensor) -> Tensor:
        """E floor(x + lattice / 2 + tau Z), |tau Z| <= 1/2."""
        return _stairs(x + self.lattice / 2, kernel, self.width(kernel))

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The density of the cut kernel at the nearest jump."""
        return (_slope(x + self.lattice / 2, kernel, self.width(kernel)),)


@dataclass(frozen=True, eq=False)
class Round(Soft):
    """The nearest integer, half to even."""

    name: ClassVar[str] = "round"

    def hard(self, x: Tensor) -> Tensor:
        """round(x), half to even."""
        return torch.round(x)

    def soft(self, kernel: Kernel, x: Tensor) -> Tensor:
        """E round(x + lattice / 2 + tau Z), |tau Z| <= 1/2."""
        return _stairs(x + (0.5 + self.lattice / 2), kernel, self.width(kernel))

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The density of the cut kernel at the nearest jump."""
        return (_slope(x + (0.5 + self.lattice / 2), kernel, self.width(kernel)),)


def _half(kernel: Kernel, width: Number, like: Tensor) -> Tensor:
    """The kernel's mass within half a step."""
    return kernel.mass(torch.as_tensor(0.5, dtype=like.dtype, device=like.device) / width)


def _stairs(x: Tensor, kernel: Kernel, width: Number) -> Tensor:
    step = torch.floor(x + 0.5).detach()
    return step - 0.5 + kernel.mass((x - step) / width) / (2 * _half(kernel, width, x))


def _slope(x: Tensor, kernel: Kernel, width: Number) -> Tensor:
    offset = x - torch.floor(x + 0.5).detach()
    return kernel.density(offset / width) / (width * _half(kernel, width, x))


def floor(x: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """The largest integer not above x.

    Args:
        x: `(...)`.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of x; broadcasts.
        lattice: spacing of the values that x takes in the exact program, for example 1/2 for half of an integer; 0 if they fall anywhere.
    Returns: `(...)`. Soft: from n - 1 at n - 1/2 to n at n + 1/2, jump centred at n - lattice / 2; x - 1/2 + lattice / 2 as the temperature grows.
    Gradient: none when exact (raises); of the soft value otherwise.
    """
    return relax.read(Floor(*settings("floor", scale, lattice)), *operands("floor", x))


def round(x: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """The nearest integer, half to even.

    Args:
        x: `(...)`.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of x; broadcasts. With temperature times scale above 1 the soft value is x, the slope 1.
        lattice: spacing of the values that x takes in the exact program.
    Returns: `(...)`. Soft: x at every integer and half-integer (lattice 0); x everywhere as the temperature grows.
    Gradient: none when exact (raises); of the soft value otherwise.
    """
    return relax.read(Round(*settings("round", scale, lattice)), *operands("round", x))
