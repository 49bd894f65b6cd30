"""The extended (R, s, Q) policy: a kick-start order, then triggered orders until a cut-off."""

from __future__ import annotations

from torch import Tensor

from dpsc import checks
from dpsc.decision.policies.quantity import Quantity, items
from dpsc.errors import InputError
from dpsc.relax import equal, step
from dpsc.types import Context, Policy, Relaxation, StockState

TRIGGERS = ("position", "idle")


class KickStart(Policy):
    """A first order of Q0 in period t0; later, in every R-th period before the cut-off, an order of Q when stock is low.

    q = [t = t0] Q0 + [t0 < t < cut-off] [low] Q. Low means position <= s (trigger "position"), or on hand <= s and nothing on its way ("idle").

    Args:
        kick_period: `(..., N)` t0 to begin with, periods; rounded and cut to the horizon whatever `whole` says.
        kick_order: `(..., N)` Q0, units.
        reorder_point: `(..., N)` s, units; may be negative.
        order_quantity: `(..., N)` Q, units.
        horizon: T, periods; t0 is sought in [earliest, T - 1].
        cutoff: first period without triggered orders.
        trigger: "position" or "idle".
        earliest: the smallest t0, such as the lead time.
        review_period: R, whole periods.
        scale: of the quantities, see `Quantity`.
        whole: whether quantities are rounded.
    Raises: InputError for a t0 outside its bounds or an unknown trigger.
    Source: Presbitero et al. (2025), doi:10.1038/s41598-025-32537-2; both readings of its trigger.
    """

    def __init__(
        self,
        kick_period: Tensor,
        kick_order: Tensor,
        reorder_point: Tensor,
        order_quantity: Tensor,
        *,
        horizon: int,
        cutoff: int,
        trigger: str = "position",
        earliest: int = 0,
        review_period: int = 1,
        scale: Tensor | float = 1.0,
        whole: bool = True,
    ) -> None:
        super().__init__()
        self.horizon, self.cutoff = checks.at_least("horizon", horizon, 1), checks.at_least("cutoff", cutoff, 0)
        self.trigger = checks.one_of("trigger", trigger, TRIGGERS)
        self.earliest, self.review_period = checks.at_least("earliest", earliest, 0), checks.at_least("review_period", review_period, 1)
        if bool((kick_period < earliest).any()) or bool((kick_period > horizon - 1).any()):
            raise InputError(f"kick_period must lie in [{earliest}, {horizon - 1}] (lead time to end of horizon), got {kick_period.tolist()}")
        self.kick_period = Quantity("kick_period", kick_period, float(horizon), signed=True)
        self.kick_order = Quantity("kick_order", kick_order, scale, whole=whole)
        self.reorder_point = Quantity("reorder_point", reorder_point, scale, signed=True, whole=whole)
        self.order_quantity = Quantity("order_quantity", order_quantity, scale, whole=whole)

    def forward(self, state: StockState, context: Context, *, relax: Relaxation) -> Tensor:
        """See the class."""
        now = checks.at_least("period", context.period, 0)
        kick_period = self.kick_period(relax=relax).clamp(self.earliest, self.horizon - 1)
        items("kick_period", kick_period, state)
        order = equal(kick_period, float(now), relax=relax) * self.kick_order(relax=relax) + 0 * state.on_hand
        if now >= self.cutoff or now % self.review_period:
            return order
        point, scale = self.reorder_point(relax=relax), self.reorder_point.scale
        lattice = 1.0 if self.reorder_point.whole else 0.0
        if self.trigger == "position":
            low = step(point - state.position, relax=relax, scale=scale, lattice=lattice)
        else:
            idle = equal(state.position - state.on_hand, relax=relax, scale=scale)
            low = step(point - state.on_hand, relax=relax, scale=scale, lattice=lattice) * idle
        started = step(now - 1 - kick_period, relax=relax, lattice=1.0)
        return order + low * started * self.order_quantity(relax=relax)
