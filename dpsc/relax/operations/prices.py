"""Price breaks: what an order costs when larger orders are cheaper by the unit."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax.kernels import Number
from dpsc.relax.operations.minimum import positive_part
from dpsc.relax.operations.operation import quantity
from dpsc.relax.operations.step import step
from dpsc.types import Relaxation


def _schedule(breaks: Tensor, prices: Tensor) -> Tensor:
    """The change of price at each break, after checking both."""
    checks.floating("breaks", breaks)
    checks.floating("prices", prices)
    if prices.dim() < 1 or breaks.dim() < 1 or prices.shape[-1] != breaks.shape[-1] + 1:
        raise ShapeError(f"prices must have one entry more than breaks in the last dimension, got {tuple(prices.shape)} and {tuple(breaks.shape)}")
    quantity("prices", prices)
    quantity("breaks", breaks, strict=True)
    if not torch.compiler.is_compiling() and not bool((breaks.diff(dim=-1) > 0).all()):
        raise InputError(f"breaks must increase, got {breaks.tolist()}")
    return prices.diff(dim=-1)


def all_units_cost(q: Tensor, breaks: Tensor, prices: Tensor, *, relax: Relaxation, scale: Number = 1.0, lattice: Number = 0.0) -> Tensor:
    """All-units discount: an order of at least b_j pays price c_j on every unit.

    c(q) q with c(q) = c_0 + sum_j (c_j - c_{j-1}) [q >= b_j].

    Args:
        q: `(...)` ordered, units, >= 0.
        breaks: `(..., J)` b_1 < ... < b_J, units, > 0; leading dimensions broadcast with q.
        prices: `(..., J + 1)` c_0 ... c_J, money a unit, >= 0.
        relax: how the jumps get their gradient.
        scale: what temperature 1 means, units.
        lattice: spacing of q - b_j in the exact program if 0 is one of its values (1 for integers), else 0.
    Returns: `(...)` money.
    Gradient: raises in q when exact; exact in the prices under every reading that is straight-through.
    Raises: InputError, ShapeError.
    """
    change = _schedule(breaks, prices)
    reached = step(q[..., None] - breaks, relax=relax, scale=_last(scale), lattice=_last(lattice))
    return (prices[..., 0] + (change * reached).sum(-1)) * q


def incremental_cost(q: Tensor, breaks: Tensor, prices: Tensor, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """Incremental discount: only the units beyond b_j pay price c_j; a function with kinks and no jump.

    c_0 q + sum_j (c_j - c_{j-1}) [q - b_j]^+.

    Args:
        q: `(...)` ordered, units, >= 0.
        breaks: `(..., J)` b_1 < ... < b_J, units, > 0.
        prices: `(..., J + 1)` money a unit, >= 0.
        relax: how the kinks are read; `Exact` has the sub-gradient.
        scale: what temperature 1 means, units.
    Returns: `(...)` money.
    Gradient: sub-gradient when exact.
    Raises: InputError, ShapeError.
    """
    change = _schedule(breaks, prices)
    beyond = positive_part(q[..., None] - breaks, relax=relax, scale=_last(scale))
    return prices[..., 0] * q + (change * beyond).sum(-1)


def _last(value: Number) -> Number:
    return value[..., None] if isinstance(value, Tensor) and value.dim() else value
