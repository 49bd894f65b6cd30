"""Schedules: from the fraction of training done to a reading."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax.kernels import Kernel
from dpsc.types import Relaxation


def geometric(start: float, end: float, fraction: float) -> float:
    """start (end / start)^fraction: equal ratios in equal times."""
    return start * (end / start) ** fraction


def linear(start: float, end: float, fraction: float) -> float:
    """start + (end - start) fraction."""
    return start + (end - start) * fraction


def cosine(start: float, end: float, fraction: float) -> float:
    """Slow at both ends."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


@dataclass(frozen=True)
class Anneal:
    """A reading whose temperature moves while the training goes on.

    `schedule(fraction)` is the reading at that fraction; `fit` hands the fraction to the loss.

    Args:
        reading: `Smoothed` or `StraightThrough`.
        kernel: `Ramp`, `Logistic`, `Normal`, `Cauchy`.
        start: first temperature, > 0.
        end: last temperature, > 0.
        curve: `geometric`, `linear`, `cosine`, or a function (start, end, fraction) -> temperature.
    """

    reading: Callable[[Kernel], Relaxation]
    kernel: Callable[[float], Kernel]
    start: float
    end: float
    curve: Callable[[float, float, float], float] = geometric

    def __post_init__(self) -> None:
        checks.positive("start", self.start)
        checks.positive("end", self.end)

    def temperature(self, fraction: float) -> float:
        """The temperature at a fraction of the training in [0, 1]."""
        if not 0 <= fraction <= 1:
            raise InputError(f"fraction must lie in [0, 1], got {fraction!r}")
        return self.curve(self.start, self.end, fraction)

    def __call__(self, fraction: float) -> Relaxation:
        """The reading at a fraction of the training in [0, 1]."""
        return self.reading(self.kernel(self.temperature(fraction)))
