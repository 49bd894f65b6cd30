"""Stock by remaining life: which units leave first, and which expire.

A unit lives for `shelf_life` periods from its receipt; units on their way do not age. Slot 0 of `(A, ..., S, N)` expires next.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Issue = Callable[[Tensor, Tensor], Tensor]


def oldest_first(ages: Tensor, units: Tensor) -> Tensor:
    """What each age gives, first in, first out.

    Args:
        ages: `(A, ..., S, N)` units.
        units: `(..., S, N)` to be taken, at most what there is.
    Returns: `(A, ..., S, N)` units that add up to `units`.
    Gradient: exact, with the sub-gradient at the kinks.
    """
    running = torch.cat([torch.minimum(ages[:-1].cumsum(0), units), units[None]])  # the last age gives the rest, whatever rounding says
    return running.diff(dim=0, prepend=torch.zeros_like(running[:1]))


def newest_first(ages: Tensor, units: Tensor) -> Tensor:
    """What each age gives, last in, first out; see `oldest_first`."""
    return oldest_first(ages.flip(0), units).flip(0)


def slot(ages: Tensor, shelf_life: Tensor) -> Tensor:
    """`(A, 1 ..., N)`: 1 where fresh units of a point go; those that last for ever go to the last slot and stay there."""
    places = torch.arange(1, len(ages) + 1, device=ages.device)[:, None]
    hot = (places == shelf_life.to(ages.device).clamp(max=len(ages))).to(ages.dtype)
    return hot.reshape(len(ages), *[1] * (ages.dim() - 2), -1)


def fresh(on_hand: Tensor, shelf_life: Tensor) -> Tensor:
    """`(A, ..., S, N)` of fresh stock `(..., S, N)`."""
    finite = shelf_life[torch.isfinite(shelf_life)]
    empty = on_hand.new_zeros(int(finite.max()) if len(finite) else 1, *on_hand.shape)
    return empty + on_hand * slot(empty, shelf_life)


def aged(ages: Tensor, shelf_life: Tensor) -> tuple[Tensor, Tensor]:
    """One period on: `(A, ..., S, N)` what is left, and `(..., S, N)` what has expired."""
    lasting = torch.isinf(shelf_life).to(ages.device)
    older = torch.cat([ages[1:], torch.zeros_like(ages[:1])])
    waste = ages[0].masked_fill(lasting, 0.0)
    return torch.where(lasting, ages, older), waste
