"""Policies with a trigger: (s, S), (s, Q), and the same with periodic review, (R, s, S) and (R, s, Q).

The trigger is step(s - IP), read by `relax`; under a smoothed reading it is centred half a unit lower where stocks are whole (see `dpsc.relax`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision.policies.quantity import Quantity, items
from dpsc.errors import InputError
from dpsc.relax import Exact, positive_part, step
from dpsc.types import Context, Policy, Relaxation, StockState


def _low(reorder_point: Quantity, state: StockState, relax: Relaxation) -> tuple[Tensor, Tensor]:
    """1 where the position has fallen to the reorder point, and the position."""
    point, stock = reorder_point(relax=relax), state.position
    items("reorder_point", point, state)
    return step(point - stock, relax=relax, scale=reorder_point.scale, lattice=1.0 if reorder_point.whole else 0.0), stock


class OrderUpTo(Policy):
    """(s, S): when the position has fallen to s or below, order up to S.

    q = [IP <= s] (S - IP), S = s + gap with gap >= 0.

    Args:
        reorder_point: `(..., N)` s to begin with, units; may be negative.
        order_up_to_level: `(..., N)` S to begin with, units, >= s.
        scale: see `Quantity`.
        whole: whether both are rounded, so that orders are whole units given whole stocks.
    Raises: InputError for S < s.
    Source: Scarf (1960); Snyder & Shen (2019), section 4.4.
    """

    def __init__(self, reorder_point: Tensor, order_up_to_level: Tensor, *, scale: Tensor | float = 1.0, whole: bool = True) -> None:
        super().__init__()
        self.reorder_point = Quantity("reorder_point", reorder_point, scale, signed=True, whole=whole)
        self.gap = Quantity("order_up_to_level - reorder_point", order_up_to_level - reorder_point, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        low, stock = _low(self.reorder_point, state, relax)
        level = self.reorder_point(relax=relax) + self.gap(relax=relax)
        return low * positive_part(level - stock, relax=Exact())


class ReorderPoint(Policy):
    """(s, Q): when the position has fallen to s or below, order Q.

    Args:
        reorder_point: `(..., N)` s to begin with, units; may be negative.
        order_quantity: `(..., N)` Q to begin with, units.
        scale: see `Quantity`.
        whole: as for `OrderUpTo`.
    Source: Snyder & Shen (2019), chapter 5, with one order of Q a period at most.
    """

    def __init__(self, reorder_point: Tensor, order_quantity: Tensor, *, scale: Tensor | float = 1.0, whole: bool = True) -> None:
        super().__init__()
        self.reorder_point = Quantity("reorder_point", reorder_point, scale, signed=True, whole=whole)
        self.order_quantity = Quantity("order_quantity", order_quantity, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        low, _ = _low(self.reorder_point, state, relax)
        return low * self.order_quantity(relax=relax)


class PeriodicReorder(Policy):
    """(R, s, Q), (R, s, S), (R, S): any policy that may order only every R periods.

    Args:
        policy: what is ordered when it is an item's turn; `ReorderPoint(s, Q)` makes it (R, s, Q).
        review_period: R >= 1 whole periods, a number or `(N,)`.
        first: the first period of review, a number or `(N,)`.
    """

    review_period: Tensor
    first: Tensor

    def __init__(self, policy: Policy, review_period: int | Tensor, *, first: int | Tensor = 0) -> None:
        super().__init__()
        self.policy = policy
        for name, value, low in (("review_period", review_period, 1), ("first", first, 0)):
            whole = torch.as_tensor(value)
            if whole.is_floating_point() or whole.dtype == torch.bool or (whole.numel() and int(whole.min()) < low):
                raise InputError(f"{name} must hold integers >= {low}, got {whole.tolist()}")
            self.register_buffer(name, whole.clone())

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        checks.at_least("period", context.period, 0)
        since = context.period - self.first
        turn = (since >= 0) & (since % self.review_period == 0)
        return self.policy(state, context, relax=relax) * turn
