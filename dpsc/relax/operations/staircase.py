"""floor and round: staircases over the integers.

The noise that smooths a staircase is the kernel's, cut to half a step on either side, so that a wide kernel ends in linear interpolation rather than in a
blur over many steps: between n - 1/2 and n + 1/2 the soft floor rises from n - 1 to n as n - 1/2 + mass((x - n) / tau) / (2 mass(1 / (2 tau))).
"""

from __future__ import annotations

import builtins
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
        step, offset = _nearest(x + self.lattice / 2)
        width = self.width(kernel)
        return step - 0.5 + 0.5 * kernel.mass(offset / width) / _mass(kernel, 0.5, width, x)

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The density of the cut kernel at the nearest jump."""
        _, offset = _nearest(x + self.lattice / 2)
        width = self.width(kernel)
        return (kernel.density(offset / width) / (width * _mass(kernel, 0.5, width, x)),)


@dataclass(frozen=True, eq=False)
class Round(Soft):
    """The nearest integer, half to even.

    Where half-integers are on the lattice, a tie goes up at every second jump and down at the others: so do the soft jumps, by half a spacing.
    """

    name: ClassVar[str] = "round"

    def hard(self, x: Tensor) -> Tensor:
        """round(x), half to even."""
        return torch.round(x)

    def soft(self, kernel: Kernel, x: Tensor) -> Tensor:
        """E round(x + tau Z), |tau Z| <= 1/2; jumps shifted to the side of their ties."""
        step, offset, reach, width = self._place(kernel, x)
        return step - 0.5 + 0.5 * kernel.mass(offset / width) / _mass(kernel, reach, width, x)

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The density of the cut kernel at the nearest jump."""
        _, offset, reach, width = self._place(kernel, x)
        return (kernel.density(offset / width) / (width * _mass(kernel, reach, width, x)),)

    def _place(self, kernel: Kernel, x: Tensor) -> tuple[Tensor, Tensor, Tensor | float, Number]:
        """The integer above the nearest jump, the distance to that jump, the distance from it to the end of its cell, and tau."""
        step, offset = _nearest(x + 0.5)
        width = self.width(kernel)
        if not isinstance(self.lattice, Tensor) and not _has_halves(self.lattice):
            return step, offset, 0.5, width
        half = torch.where(_halves(self.lattice), self.lattice / 2, 0.0) if isinstance(self.lattice, Tensor) else self.lattice / 2
        shift = torch.where(torch.remainder(step, 2) == 0, half, -half)  # up to an even number: the jump comes earlier
        offset = offset + shift
        return step, offset, torch.where(offset > 0, 0.5 + shift, 0.5 - shift), width


def _nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest integer and the way from it to x."""
    step = torch.floor(x + 0.5).detach()
    return step, x - step


def _mass(kernel: Kernel, reach: Tensor | float, width: Number, like: Tensor) -> Tensor:
    """The kernel's mass within `reach` of the jump."""
    return kernel.mass(torch.as_tensor(reach, dtype=like.dtype, device=like.device) / width)


def _has_halves(lattice: float) -> bool:
    """Whether 1/2 is a multiple of the spacing."""
    return lattice > 0 and abs(0.5 / lattice - builtins.round(0.5 / lattice)) < 1e-9


def _halves(lattice: Tensor) -> Tensor:
    """The same, elementwise."""
    ratio = 0.5 / lattice.clamp_min(1e-300)
    return (lattice > 0) & ((ratio - torch.round(ratio)).abs() < 1e-9)


def floor(x: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """The largest integer not above x.

    Args:
        x: `(...)`.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of x; broadcasts.
        lattice: spacing of the values that x takes in the exact program, 1 or a unit fraction, such as 1/2 for half of an integer; 0 if they fall anywhere.
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
        lattice: spacing of the values that x takes in the exact program; it matters where half-integers are among them.
    Returns: `(...)`. Soft: x at every integer and half-integer (lattice 0); x everywhere as the temperature grows.
    Gradient: none when exact (raises); of the soft value otherwise.
    """
    return relax.read(Round(*settings("round", scale, lattice)), *operands("round", x))
