"""Echelon base-stock in a distribution tree: every point orders up to a level of all stock at and below it; a short supplier rations.

A tree is a vector `supplier`, `(N,)` int64: the index of the point that supplies each one, or -1 for a source that never runs out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.decision.policies.quantity import Quantity, items
from dpsc.decision.rationing import Ration, balanced
from dpsc.errors import InputError
from dpsc.relax import Exact, floor, positive_part, round
from dpsc.types import Context, Policy, Relaxation, StockState

TINY = 1e-9  # units: a forecast of zero must not divide


def downstream(supplier: Tensor) -> Tensor:
    """`(N, N)` bool: [i, j] says whether point i is j or supplied by it, directly or through others.

    Raises: InputError for a supplier that does not exist, or a cycle.
    """
    points = len(supplier)
    if supplier.dim() != 1 or supplier.is_floating_point() or not points or int(supplier.min()) < -1 or int(supplier.max()) >= points:
        raise InputError(f"supplier must be a vector of N integers in [-1, N), got {supplier.tolist()}")
    above = torch.eye(points, dtype=torch.bool, device=supplier.device)
    current = supplier.clone()
    for _ in range(points):
        if bool((current < 0).all()):
            return above
        at = (current >= 0).nonzero()[:, 0]
        above[at, current[at]] = True
        current[at] = supplier[current[at]]
    raise InputError(f"supplier must describe a tree, got a cycle: {supplier.tolist()}")


def echelon_position(state: StockState, below: Tensor) -> Tensor:
    """Stock at and below every point, on hand and on its way to any of them, less backorders.

    Args:
        state: of a world.
        below: `(N, N)` of `downstream`.
    Returns: `(..., S, N)` units.
    """
    local = state.position
    return local @ below.to(local.dtype)


def allocated(want: Tensor, on_hand: Tensor, supplier: Tensor, weight: Tensor, *, ration: Ration, relax: Relaxation, whole: bool) -> Tensor:
    """What each point is sent when every supplier hands out no more than it holds.

    Args:
        want: `(..., S, N)` units >= 0.
        on_hand: `(..., S, N)` units that can be shipped.
        supplier: `(N,)`.
        weight: `(..., N)` or `(..., S, N)` > 0, for the ration.
        ration: how a short supplier shares out.
        relax: reads rounding and priorities.
        whole: whether shares are rounded down to whole units; what is left over stays with the supplier.
    Returns: `(..., S, N)` units.
    """
    given = want
    for point in supplier[supplier >= 0].unique().tolist():
        those = (supplier == point).nonzero()[:, 0]
        share = ration(want[..., those], on_hand[..., point].clamp_min(0), weight.expand_as(want)[..., those], relax=relax)
        if whole:
            share = floor(share + 1e-9, relax=relax)  # 3 - 1e-16 is three
        given = given.index_copy(-1, those, share)
    return given


def forecast(context: Context, like: Tensor) -> Tensor:
    """`(..., S, N)` demand a period that the context expects of every point and all below it: `context.features[..., 0]`.

    Raises: InputError where the context has none, or of another shape.
    """
    if context.features is None or context.features.shape[-2] != like.shape[-1]:
        got = None if context.features is None else tuple(context.features.shape)
        raise InputError(f"a relative policy needs context.features of shape (..., S, N, F) with N = {like.shape[-1]}, got {got}")
    return context.features[..., 0]


class EchelonBaseStock(Policy):
    """Every point orders up to a level of its echelon; suppliers ration what they have.

    q_j = [S_j - echelon position_j]^+, of which a supplied point gets what the ration leaves it.

    Args:
        level: `(..., N)` echelon levels S to begin with, units.
        supplier: `(N,)` the tree.
        weight: `(..., N)` weights of the ration to begin with, > 0 (standard deviations, say), trained; the scale, untrained, where None.
        ration: `balanced` (a quadratic program), `proportional`, `by_priority`, or a function like them.
        scale: of levels and weights, see `Quantity`.
        whole: whether orders are whole units (given whole stocks).
        relative: whether levels and weights are multiples of a forecast, `context.features[..., 0]`, instead of units; the scale is then 1.
    Source: Clark & Scarf (1960) for lines; Federgruen & Zipkin (1984) for one warehouse and many stores.
    """

    supplier: Tensor
    below: Tensor

    def __init__(
        self,
        level: Tensor,
        supplier: Tensor,
        *,
        weight: Tensor | None = None,
        ration: Ration = balanced,
        scale: Tensor | float = 1.0,
        whole: bool = True,
        relative: bool = False,
    ) -> None:
        super().__init__()
        below = downstream(supplier)
        if level.shape[-1:] != supplier.shape:
            raise InputError(f"level must have one entry for each of the {len(supplier)} points of the tree, got shape {tuple(level.shape)}")
        self.register_buffer("supplier", supplier.clone())
        self.register_buffer("below", below)
        scale = 1.0 if relative else scale
        self.level = Quantity("level", level, scale, whole=whole and not relative)
        self.weight = None if weight is None else Quantity("weight", weight, scale, whole=False)
        self.ration, self.whole, self.relative = ration, whole, relative

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        level = self.level(relax=relax)
        items("level", level, state)
        weight = self.level.scale if self.weight is None else self.weight(relax=relax)
        if self.relative:
            expected = forecast(context, state.on_hand)
            level, weight = level * expected, weight * expected + TINY
            if self.whole:
                level = round(level, relax=relax)
        want = positive_part(level - echelon_position(state, self.below), relax=Exact())
        return allocated(want, state.on_hand, self.supplier, weight, ration=self.ration, relax=relax, whole=self.whole)
