"""step: whether a number has reached zero, and equal: whether it sits on a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax.kernels import Kernel, Number
from dpsc.relax.operations.operation import Soft, operands, settings
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class Step(Soft):
    """1 where x >= 0."""

    name: ClassVar[str] = "step"

    def hard(self, x: Tensor) -> Tensor:
        """[x >= 0]; NaN stays NaN, which a comparison would drop."""
        return 1 - (-x).clamp(0, 1).ceil()

    def soft(self, kernel: Kernel, x: Tensor) -> Tensor:
        """P(x + lattice / 2 + tau Z >= 0)."""
        return 0.5 + 0.5 * kernel.mass((x + self.lattice / 2) / self.width(kernel))

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The kernel's density."""
        width = self.width(kernel)
        return (kernel.density((x + self.lattice / 2) / width) / width,)


@dataclass(frozen=True, eq=False)
class Equal(Soft):
    """1 where x lies in [-lattice / 2, lattice / 2)."""

    name: ClassVar[str] = "equal"

    def hard(self, x: Tensor) -> Tensor:
        """[-lattice / 2 <= x < lattice / 2]."""
        return torch.where(x.isnan(), x, ((x >= -self.lattice / 2) & (x < self.lattice / 2)).to(x.dtype))

    def soft(self, kernel: Kernel, x: Tensor) -> Tensor:
        """P(-lattice / 2 <= x + tau Z < lattice / 2): over all cells of the lattice these add up to 1."""
        width, half = self.width(kernel), self.lattice / 2
        return 0.5 * (kernel.mass((x + half) / width) - kernel.mass((x - half) / width))

    def slopes(self, kernel: Kernel, x: Tensor) -> tuple[Tensor]:
        """The difference of two densities."""
        width, half = self.width(kernel), self.lattice / 2
        return ((kernel.density((x + half) / width) - kernel.density((x - half) / width)) / width,)


def step(x: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """1 where x >= 0, else 0: a trigger, a threshold, a branch.

    Args:
        x: `(...)`; step(0) = 1.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of x (a week of demand, say); broadcasts.
        lattice: spacing of the values that x takes in the exact program if 0 is one of them (1 for a difference of integers), else 0.
    Returns: `(...)`, in [0, 1]. Soft: the jump is centred at -lattice / 2.
    Gradient: none when exact (raises); the kernel's density otherwise.
    """
    return relax.read(Step(*settings("step", scale, lattice)), *operands("step", x))


def equal(x: Tensor, value: Tensor | float = 0.0, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 1.0) -> Tensor:
    """1 where x equals value, else 0, for numbers on a lattice: "in week t0", "nothing on order".

    Args:
        x: `(...)`.
        value: broadcasts.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of x.
        lattice: spacing of the values, > 0; anything within half of it counts as equal.
    Returns: `(...)`, in [0, 1]. Soft: over all values of the lattice the results add up to 1.
    Gradient: none when exact (raises); zero on the value itself by symmetry, towards the value on either side.
    """
    scale, _ = settings("equal", scale)
    return relax.read(Equal(scale, settings("equal (lattice)", lattice)[0]), *operands("equal", x - value))
