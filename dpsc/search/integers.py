"""The best point of a small integer box, coarse to fine: the referee of a policy with a handful of whole parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError


class BestInteger(NamedTuple):
    """`point` `(K,)` int64, its `value`, and how many points were evaluated."""

    point: Tensor
    value: float
    evaluations: int


def integer_box_optimum(
    objective: Callable[[Tensor], Tensor],
    *,
    lower: Tensor,
    upper: Tensor,
    step: Tensor | int = 1,
    keep: int = 60,
    rows: int = 1000,
) -> BestInteger:
    """Evaluate a coarse grid of the whole box, then the neighbourhoods of its best points with ever smaller steps, until step 1 brings nothing new.

    With step 1 it is the full enumeration, and exact. With larger steps it is exact where the best point lies near one of the `keep` best of every round:
    widen `keep` to see whether the answer moves.

    Args:
        objective: `(C, K)` points of whole numbers, float64 -> `(C,)`.
        lower: `(K,)` smallest whole numbers.
        upper: `(K,)` largest, inclusive.
        step: of the coarse grid, whole, >= 1, one or `(K,)`.
        keep: points whose neighbourhoods are refined a round.
        rows: most points in one call.
    Raises: InputError, ShapeError.
    """
    low, high = (torch.as_tensor(b).to(torch.int64) for b in (lower, upper))
    if low.dim() != 1 or low.shape != high.shape:
        raise ShapeError(f"lower and upper must have one shape (K,), got {tuple(low.shape)} and {tuple(high.shape)}")
    if not bool((low <= high).all()):
        raise InputError(f"lower must be <= upper, got {low.tolist()} and {high.tolist()}")
    width = torch.as_tensor(step).to(torch.int64).expand(low.shape).clone()
    if not bool((width >= 1).all()):
        raise InputError(f"step must be >= 1, got {width.tolist()}")
    checks.at_least("keep", keep, 1)
    known = _Known(objective, low, high, rows)
    known.add(torch.cartesian_prod(*(torch.arange(int(a), int(b) + 1, int(w)) for a, b, w in zip(low, high, width, strict=True))).reshape(-1, len(low)))
    best = known.best()[1]
    while True:
        finest = bool((width == 1).all())
        moves = torch.cartesian_prod(*(torch.arange(-int(w), int(w) + 1, max(1, int(w) // 3)) for w in width)).reshape(-1, len(low))
        around = (known.lowest(keep)[:, None] + moves).reshape(-1, len(low))
        known.add(torch.minimum(torch.maximum(around, low), high))
        point, now = known.best()
        if finest and now >= best:
            return BestInteger(point, now, len(known.value))
        best, width = now, (width // 2).clamp_min(1)


class _Known:
    """Values of the points evaluated so far, addressed by their place in the box."""

    def __init__(self, objective: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, rows: int) -> None:
        self.objective, self.low, self.rows = objective, low, rows
        self.size = high - low + 1
        if float(self.size.double().prod()) >= 2**62:
            raise InputError(f"the box holds {float(self.size.double().prod()):.3g} points, too many to number")
        self.stride = torch.cat([self.size.flip(0).cumprod(0).flip(0)[1:], self.size.new_ones(1)])
        self.place, self.value = low.new_zeros(0), torch.zeros(0, dtype=torch.float64)

    def add(self, points: Tensor) -> None:
        """Evaluate those that are new."""
        place = ((points - self.low) * self.stride).sum(-1).unique()
        place = place[~torch.isin(place, self.place)]
        for block in place.split(self.rows) if len(place) else ():
            found = self.objective(self.points(block).double())
            if found.shape != (len(block),):
                raise ShapeError(f"the objective must return (C,) = ({len(block)},) values, got {tuple(found.shape)}")
            self.place, self.value = torch.cat([self.place, block]), torch.cat([self.value, torch.where(found.isnan(), torch.inf, found.double())])

    def points(self, place: Tensor) -> Tensor:
        """`(C, K)` points at places of the box."""
        return self.low + place[:, None] // self.stride % self.size

    def lowest(self, count: int) -> Tensor:
        """The best points so far."""
        return self.points(self.place[self.value.argsort(stable=True)[:count]])

    def best(self) -> tuple[Tensor, float]:
        """The best one and its value."""
        i = int(self.value.argmin())
        return self.points(self.place[i : i + 1])[0], float(self.value[i])
