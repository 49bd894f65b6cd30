"""Kernels: the symmetric noise that a jump is smoothed with.

A kernel is the law of tau Z, Z symmetric around 0 and tau the temperature. A soft step is P(x + tau Z >= 0), a soft minimum E min(a, b + tau Z). Write
u = x / tau. Each kernel knows `mass(u)` = P(-u <= Z <= u) with the sign of u (an odd function; the soft step is (1 + mass(u)) / 2), `density(u)` = the
density of Z, and `overshoot(v)` = E[Z - v]^+ for v >= 0. `units` is the width of the jump in the units of what is smoothed: temperature times scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpsc.errors import InputError

Number = float | Tensor


class Kernel(Protocol):
    """What an operation asks of a kernel."""

    temperature: Number

    def mass(self, u: Tensor) -> Tensor:
        """P(|Z| <= |u|) with the sign of u; odd, from -1 to 1."""
        ...

    def density(self, u: Tensor) -> Tensor:
        """Density of Z; even."""
        ...

    def overshoot(self, v: Tensor) -> Tensor:
        """E[Z - v]^+ for v >= 0; never negative."""
        ...


def _check(temperature: Number) -> None:
    if isinstance(temperature, Tensor):
        if temperature.dim() or not temperature.is_floating_point():
            raise InputError(f"temperature must be a number or a floating-point tensor without dimensions, got shape {tuple(temperature.shape)}")
        value = float(temperature)
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise InputError(f"temperature must be a finite number > 0, got {temperature!r}")
    else:
        value = float(temperature)
    if not 0 < value < math.inf:
        raise InputError(f"temperature must be a finite number > 0, got {value}")


@dataclass(frozen=True)
class Ramp:
    """Z uniform on [-1/2, 1/2): a step becomes a line of width tau. A staircase read with a ramp at least as wide as its steps is linear interpolation.

    Args:
        temperature: tau > 0, in units of the operation's `scale`.
    Gradient: 0 outside of the ramp, so a jump farther than tau / 2 away is not seen.
    """

    temperature: Number = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def mass(self, u: Tensor) -> Tensor:
        """2 u, cut at -1 and 1."""
        return (2 * u).clamp(-1, 1)

    def density(self, u: Tensor) -> Tensor:
        """1 on [-1/2, 1/2), else 0."""
        return ((u >= -0.5) & (u < 0.5)).to(u.dtype)

    def overshoot(self, v: Tensor) -> Tensor:
        """([1/2 - v]^+)^2 / 2."""
        return (0.5 - v).clamp_min(0).square() / 2


@dataclass(frozen=True)
class Logistic:
    """Z logistic: a step becomes a sigmoid, a choice a softmax, a minimum a softplus away from the hard one.

    Args:
        temperature: tau > 0, in units of the operation's `scale`; Z has standard deviation 1.81.
    """

    temperature: Number = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def mass(self, u: Tensor) -> Tensor:
        """tanh(u / 2)."""
        return torch.tanh(u / 2)

    def density(self, u: Tensor) -> Tensor:
        """sigmoid(u) sigmoid(-u)."""
        return torch.sigmoid(u) * torch.sigmoid(-u)

    def overshoot(self, v: Tensor) -> Tensor:
        """log(1 + exp(-v))."""
        return torch.log1p(torch.exp(-v))


@dataclass(frozen=True)
class Normal:
    """Z standard normal: thin tails, so distant jumps are forgotten sooner than with a logistic kernel.

    Args:
        temperature: tau > 0, in units of the operation's `scale`.
    """

    temperature: Number = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def mass(self, u: Tensor) -> Tensor:
        """erf(u / sqrt 2)."""
        return torch.erf(u * math.sqrt(0.5))

    def density(self, u: Tensor) -> Tensor:
        """exp(-u^2 / 2) / sqrt(2 pi)."""
        return torch.exp(-u.square() / 2) * (1 / math.sqrt(2 * math.pi))

    def overshoot(self, v: Tensor) -> Tensor:
        """phi(v) - v P(Z > v), cut at 0 where the difference is lost to rounding."""
        return (self.density(v) - v * torch.special.ndtr(-v)).clamp_min(0)


@dataclass(frozen=True)
class Cauchy:
    """Z Cauchy: heavy tails, so that a jump is felt from afar; where every other kernel has gone flat, this one still points somewhere.

    It has no mean, so it cannot smooth a `minimum`.

    Args:
        temperature: tau > 0, in units of the operation's `scale`; half of the mass lies within one tau.
    """

    temperature: Number = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def mass(self, u: Tensor) -> Tensor:
        """2 atan(u) / pi."""
        return torch.atan(u) * (2 / math.pi)

    def density(self, u: Tensor) -> Tensor:
        """1 / (pi (1 + u^2))."""
        return 1 / (math.pi * (1 + u.square()))

    def overshoot(self, v: Tensor) -> Tensor:
        """Infinite."""
        raise InputError("minimum needs a kernel with a mean (Ramp, Logistic, Normal), got Cauchy")
