"""A serial line with backorders: stage 1 meets the customer, each stage is supplied by the next, the last by a supplier who never runs out.

It is a world like any other; this page only puts one together. Order of events in a period: what is due arrives; then either every stage orders and demand is
met (`order_first`), or demand is met and every stage orders. An order is shipped as far as the stock upstream allows; what cannot be shipped is not owed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from dpsc.simulate.events import order, receive, serve
from dpsc.simulate.network import Network
from dpsc.simulate.rollout import rollout
from dpsc.simulate.world import Flow, Noise, State, World, start
from dpsc.types import Context, Relaxation


def line(lead_time: Tensor, *, order_first: bool) -> World:
    """The world of a serial line. Demand may be negative: textbooks have normal demand that is not cut.

    Args:
        lead_time: `(N,)` whole periods >= 1, stage 1 first.
        order_first: whether orders precede demand.
    """
    events = (receive, order, serve) if order_first else (receive, serve, order)
    return World(network=Network.serial(len(lead_time)), events=events, lead_time=lead_time, wait=1.0, signed_demand=True, count_orders=False)


def local_levels(level: Tensor) -> Tensor:
    """`(..., N)` echelon levels -> what each stage holds of them when nothing is on the way: a line starts there."""
    local = torch.diff(level, dim=-1, prepend=torch.zeros_like(level[..., :1]))
    return local.clamp_min(0)


def average_cost(
    level: Tensor,
    demand: Tensor,
    want: Callable[[State], Tensor],
    *,
    lead_time: Tensor,
    holding_cost: Tensor,
    stockout_cost: float,
    order_first: bool,
    charge_pipeline: bool = False,
    warm_up: int = 30,
    relax: Relaxation | None = None,
) -> Tensor:
    """Simulated cost a period of every path: h on hand at the end of a period, p a backorder of stage 1.

    Args:
        level: `(..., N)` echelon levels to start from (no gradient).
        demand: `(T, ..., S)` units.
        want: the policy, state at the moment of ordering -> `(..., S, N)` units.
        lead_time: `(N,)` periods.
        holding_cost: `(N,)` money a unit on hand at the end of a period.
        stockout_cost: money a unit backordered at stage 1.
        order_first: whether orders precede demand.
        charge_pipeline: whether units on their way to stage i cost what stage i + 1 charges.
        warm_up: periods that are not counted.
        relax: the reading; the program has kinks and no jumps, unless `want` brings some.
    Returns: `(..., S)` money a period.
    Gradient: pathwise, in whatever `want` depends on; unbiased.
    Raises: InputError for a horizon within the warm-up, ShapeError.
    """
    stages = len(lead_time)
    if level.shape[-1] != stages or holding_cost.shape != (stages,):
        raise ShapeError(f"level and holding_cost must end in N = {stages} stages, got {tuple(level.shape)} and {tuple(holding_cost.shape)}")
    if not demand.shape[0] > checks.at_least("warm_up", warm_up, 0):
        raise InputError(f"demand must have more than warm_up = {warm_up} periods, got {demand.shape[0]}")
    checks.finite("demand", demand)
    world = line(lead_time, order_first=order_first)
    upstream = torch.cat([holding_cost[1:], torch.zeros_like(holding_cost[:1])])

    def policy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return want(state)

    def price(flow: Flow, period: int) -> Tensor:
        cost = flow.on_hand @ holding_cost + stockout_cost * flow.backorder[..., 0]
        return cost + flow.in_transit @ upstream if charge_pipeline else cost

    begin = start(world, local_levels(level.detach()), paths=demand.shape[-1])
    noise = Noise(pad(demand[..., None], (0, stages - 1)))
    total = rollout(world, policy, noise, start=begin, relax=Exact() if relax is None else relax, price=price, warm_up=warm_up).total
    assert total is not None
    return total / (demand.shape[0] - warm_up)
