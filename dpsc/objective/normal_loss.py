"""What normal demand is expected to exceed a level by: the loss function and its integral, differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normal_loss(level: Tensor, mean: Tensor | float, deviation: Tensor | float) -> Tensor:
    """n(x) = E[D - x]^+ of normal D.

    Args:
        level: `(...)` x, units.
        mean: of D, units; broadcasts.
        deviation: > 0, units; broadcasts.
    Returns: `(...)` units; E[x - D]^+ is x - mean + n(x).
    Gradient: exact in all three; P(D <= x) - 1 in the level.
    Source: Snyder & Shen (2019), section C.3.
    """
    z = (level - mean) / deviation
    return deviation * (_density(z) - z * torch.special.ndtr(-z))


def normal_second_loss(level: Tensor, mean: Tensor | float, deviation: Tensor | float) -> Tensor:
    """E[((D - x)^+)^2] / 2 of normal D, the integral of n from x on; arguments and gradient as of `normal_loss`."""
    z = (level - mean) / deviation
    return 0.5 * deviation**2 * ((z * z + 1) * torch.special.ndtr(-z) - z * _density(z))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
