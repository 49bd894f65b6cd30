"""What calibration asks of a simulator, and the counter that makes methods comparable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import ShapeError
from dpsc.types import Relaxation

Reading = Callable[[float], Relaxation]
"""Fraction of the fit done -> how the simulator is read."""


class Simulator(Protocol):
    """Coordinates in, series out, the batch innermost."""

    def __call__(self, coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        """Run every column.

        Args:
            coordinates: `(D, B)`; a priori each is a standard normal number, independent of the others.
            relax: the reading of kinks and jumps.
        Returns: `(T, K, B)`: K series over T periods.
        """
        ...


class Counted:
    """A simulator that counts evaluations.

    One column run forward, with or without its gradient, is one evaluation; so is one vector-Jacobian product. m starts side by side count m.

    Args:
        simulate: what to count.
    Attributes:
        evaluations: so far.
    """

    def __init__(self, simulate: Simulator) -> None:
        self.simulate = simulate
        self.evaluations = 0

    def __call__(self, coordinates: Tensor, *, relax: Relaxation) -> Tensor:
        """`(D, B)` -> `(T, K, B)`, and B more evaluations."""
        self.evaluations += coordinates.shape[1]
        return self.simulate(coordinates, relax=relax)


def columns(name: str, coordinates: Tensor, dimension: int | None = None) -> Tensor:
    """`coordinates` as they are, if they are a floating-point `(D, B)`. Raises: ShapeError."""
    checks.floating(name, coordinates)
    if coordinates.dim() != 2 or (dimension is not None and coordinates.shape[0] != dimension):
        raise ShapeError(f"{name} must have shape (D, B) = ({'D' if dimension is None else dimension}, B), got {tuple(coordinates.shape)}")
    return coordinates


def pull_back(simulate: Simulator, point: Tensor, cotangents: Tensor, *, relax: Relaxation) -> Tensor:
    """Vector-Jacobian products w'J at one point, all of them in one batched call; V of them count V evaluations in a `Counted` simulator.

    Args:
        simulate: series of columns.
        point: `(D,)`.
        cotangents: `(T, K, V)`.
        relax: the reading; its gradient is the Jacobian meant.
    Returns: `(D, V)`.
    Raises: ShapeError.
    """
    copies = point.detach()[:, None].expand(-1, cotangents.shape[-1]).clone().requires_grad_()
    with torch.enable_grad():
        series = simulate(copies, relax=relax)
    if series.shape != cotangents.shape:
        raise ShapeError(f"cotangents must have the shape of the simulated series, {tuple(series.shape)}, got {tuple(cotangents.shape)}")
    (pulled,) = torch.autograd.grad(series, copies, cotangents, allow_unused=True)
    return torch.zeros_like(copies) if pulled is None else pulled
