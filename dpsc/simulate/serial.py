"""A serial line with backorders: stage 1 meets the customer, each stage is supplied by the next, the last by a supplier who never runs out.

Order of events in a period: what is due arrives; then either every stage orders and demand is met (`order_first`), or demand is met and every stage orders.
An order is shipped as far as the stock upstream allows, at the moment it is placed; what cannot be shipped is not owed. Costs are booked at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact, minimum
from dpsc.types import Relaxation


class SerialState(NamedTuple):
    """`on_hand` `(..., S, N)` units, stage 1 first, stage 1 net of backorders; `pipeline` `(L, ..., S, N)`, slot 0 arriving next."""

    on_hand: Tensor
    pipeline: tuple[Tensor, ...]

    def echelon_position(self) -> Tensor:
        """`(..., S, N)` stock of a stage and all below it, on hand and on its way to them, less backorders."""
        local = self.on_hand
        for due in self.pipeline:
            local = local + due
        return local.cumsum(-1)


class SerialFlow(NamedTuple):
    """What a period moved and left, `(..., S, N)` units: shipped to each stage, on hand, on the way; `(..., S)` backorders of stage 1."""

    shipped: Tensor
    on_hand: Tensor
    in_transit: Tensor
    backorder: Tensor


def start(level: Tensor, paths: int, lead_time: Tensor) -> SerialState:
    """Every stage at its own share of an echelon level, nothing on the way.

    Args:
        level: `(..., N)` echelon base-stock levels, units.
        paths: S.
        lead_time: `(N,)` whole periods >= 1.
    """
    _lead_times(lead_time)
    local = torch.diff(level, dim=-1, prepend=torch.zeros_like(level[..., :1]))
    local = torch.cat([local[..., :1], local[..., 1:].clamp_min(0)], -1)[..., None, :]
    local = local.expand(*local.shape[:-2], paths, local.shape[-1])
    return SerialState(local, (torch.zeros_like(local),) * int(lead_time.max()))


def advance(
    state: SerialState, want: Callable[[SerialState], Tensor], demand: Tensor, *, lead_time: Tensor, order_first: bool, relax: Relaxation
) -> tuple[SerialState, SerialFlow]:
    """One period; events in the order of the module's docstring.

    Args:
        state: at the end of the period before.
        want: state at the moment of ordering -> `(..., S, N)` what each stage would like to be sent, units >= 0.
        demand: `(..., S)` of the customer, units.
        lead_time: `(N,)` whole periods >= 1.
        order_first: whether orders precede demand.
        relax: how the limit of the stock upstream is read; `Exact()` has its sub-gradient.
    Returns: state and flow. Units: what leaves a stage enters the pipeline of the one below, nothing is lost.
    """
    on_hand, pipeline = state.on_hand + state.pipeline[0], (*state.pipeline[1:], torch.zeros_like(state.on_hand))

    def served(x: Tensor) -> Tensor:
        return torch.cat([(x[..., 0] - demand)[..., None], x[..., 1:]], -1)

    if not order_first:
        on_hand = served(on_hand)
    wanted = want(SerialState(on_hand, pipeline))
    shipped = torch.cat([minimum(wanted[..., :-1], on_hand[..., 1:], relax=relax), wanted[..., -1:]], -1)
    on_hand = torch.cat([on_hand[..., :1], on_hand[..., 1:] - shipped[..., :-1]], -1)
    pipeline = tuple(due + shipped * (lead_time == slot + 1) for slot, due in enumerate(pipeline))
    if order_first:
        on_hand = served(on_hand)
    in_transit = torch.stack(pipeline).sum(0)
    kept = torch.cat([on_hand[..., :1].clamp_min(0), on_hand[..., 1:]], -1)
    return SerialState(on_hand, pipeline), SerialFlow(shipped, kept, in_transit, (-on_hand[..., 0]).clamp_min(0))


def average_cost(
    level: Tensor,
    demand: Tensor,
    want: Callable[[SerialState], Tensor],
    *,
    lead_time: Tensor,
    holding_cost: Tensor,
    stockout_cost: float,
    order_first: bool,
    charge_pipeline: bool = False,
    warm_up: int = 30,
    relax: Relaxation | None = None,
) -> Tensor:
    """Simulated cost a period of every path.

    Args:
        level: `(..., N)` echelon levels to start from (no gradient).
        demand: `(T, ..., S)` units.
        want: the policy, see `advance`.
        lead_time: `(N,)` periods.
        holding_cost: `(N,)` money a unit on hand at the end of a period.
        stockout_cost: money a unit backordered at stage 1.
        order_first: whether orders precede demand.
        charge_pipeline: whether units on their way to stage i cost what stage i + 1 charges.
        warm_up: periods that are not counted.
        relax: see `advance`.
    Returns: `(..., S)` money a period.
    Gradient: pathwise, in whatever `want` depends on; the program has kinks and no jumps, so it is unbiased.
    Raises: InputError for a horizon within the warm-up, ShapeError.
    """
    stages = len(lead_time)
    if level.shape[-1] != stages or holding_cost.shape != (stages,):
        raise ShapeError(f"level and holding_cost must end in N = {stages} stages, got {tuple(level.shape)} and {tuple(holding_cost.shape)}")
    if not demand.shape[0] > checks.at_least("warm_up", warm_up, 0):
        raise InputError(f"demand must have more than warm_up = {warm_up} periods, got {demand.shape[0]}")
    checks.finite("demand", demand)
    upstream = torch.cat([holding_cost[1:], torch.zeros_like(holding_cost[:1])])
    state = start(level.detach(), demand.shape[-1], lead_time)
    total: Tensor | None = None
    for period, wanted in enumerate(demand):
        state, flow = advance(state, want, wanted, lead_time=lead_time, order_first=order_first, relax=Exact() if relax is None else relax)
        if period >= warm_up:
            cost = (flow.on_hand * holding_cost).sum(-1) + stockout_cost * flow.backorder
            if charge_pipeline:
                cost = cost + (flow.in_transit * upstream).sum(-1)
            total = cost if total is None else total + cost
    assert total is not None
    return total / (demand.shape[0] - warm_up)


def _lead_times(lead_time: Tensor) -> None:
    if lead_time.dim() != 1 or not len(lead_time) or not bool((lead_time == lead_time.round()).all()) or float(lead_time.min()) < 1:
        raise InputError(f"lead_time must be a vector of whole periods >= 1, got {lead_time.tolist()}")
