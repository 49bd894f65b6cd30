"""Order policies: from the state of a world to what is wanted."""

from __future__ import annotations

from torch import Tensor

from dpsc import checks
from dpsc.relax import positive_part
from dpsc.types import Relaxation


def base_stock_order(position: Tensor, level: Tensor, *, relax: Relaxation) -> Tensor:
    """Order up to a level; with echelon positions and levels, the echelon base-stock policy.

    q = [S - IP]^+.

    Args:
        position: `(..., S, N)` inventory position, units.
        level: `(..., N)` base-stock level S, units.
        relax: how the kink is read; `Exact()` has its sub-gradient. Whole levels and positions give whole orders.
    Returns: `(..., S, N)` order, units.
    Gradient: exact in `level` where S > IP, zero elsewhere, when exact.
    Raises: DtypeError, ShapeError.
    Source: Snyder & Shen (2019), section 4.3.
    """
    checks.floating("position", position)
    checks.trailing_shape("level", level, position.shape[-1:], "(..., N)")
    return positive_part(level[..., None, :] - position, relax=relax)
