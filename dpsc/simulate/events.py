"""The events of a period: small pure functions `(state, flow, now) -> (state, flow)`. A world lists them in the order in which they happen.

receive     what is due enters the stock, inbound and returns; `partial(receive, share=0.5)` lets half of the inbound in, and a later `receive` the rest
order       the policy reviews the stock, and what it orders is shipped as far as the stock upstream goes
serve       customers come: those who wait first, then the demand of the period; what is unmet waits or is lost; returns are scheduled
fill        those who wait are served once more, without new demand (after a transshipment, say)
expire      a period passes for what is on hand; what has reached the end of its life is thrown away
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import ShapeError
from dpsc.relax import at_least, floor, order_gate, pack
from dpsc.simulate.indivisible import whole_units
from dpsc.simulate.perishing import aged, slot
from dpsc.simulate.rationing import ship
from dpsc.simulate.world import Flow, Now, Order, State


def receive(state: State, flow: Flow, now: Now, *, share: float = 1.0) -> tuple[State, Flow]:
    """What is due, less what the supply yield takes, enters the stock, and so do the returns that are due.

    With `share` below 1 only that part of the inbound, whole units rounded down; a later `receive` lets in the rest. Returns always come in full.
    """
    world, part = now.world, state.due
    if share < 1:
        part = part * share
        if world.whole:
            part = floor(part, relax=now.relax, scale=world.scale, lattice=share if (1 / share).is_integer() else 0.0)
    good, spoiled = part, flow.spoiled
    if now.noise.supply_yield is not None:
        good = _share(part * now.noise.supply_yield, now.noise.yield_uniform, now)
        spoiled = spoiled + (part - good)
    units = state.network.delivered(good)
    rest = state.due - part if share < 1 else now.on_edges
    flow = flow._replace(received=_more(flow.received, units, now), spoiled=spoiled)
    if now.world.return_rate is not None:
        flow = flow._replace(returned=_more(flow.returned, state.due_back, now))
        units = units + state.due_back
    return put(state, units, now)._replace(due=rest, due_back=now.nothing), flow


def order(state: State, flow: Flow, now: Now) -> tuple[State, Flow]:
    """The action is asked, brought into the form that the supplier accepts, and shipped as far as the stock upstream goes.

    In this order: pack, minimum order, capacity, then whether the edge is reviewed and running in this period, ration, lead time.
    """
    world, noise, relax = now.world, now.noise, now.relax
    asked = now.action(state) if callable(now.action) else now.action
    wanted, placed = (asked.quantity, asked.placed) if isinstance(asked, Order) else (asked, None)
    if not wanted.dim() or wanted.shape[-1] != len(state.network.edges):
        raise ShapeError(f"an order must have shape (..., S, E) = (..., S, {len(state.network.edges)}), one entry an edge, got {tuple(wanted.shape)}")
    scale, lattice = world.scale, world.lattice
    if world.pack is not None:
        wanted = pack(wanted, world.pack, relax=relax, scale=scale, lattice=lattice)
    if world.minimum_order is not None:
        wanted = at_least(wanted, world.minimum_order, relax=relax, scale=scale, lattice=lattice)
    if world.capacity is not None:
        wanted = torch.minimum(wanted, world.capacity)
    open_: Tensor | None = noise.running
    if world.review_period is not None:
        reviewed = (now.period % world.review_period == 0).to(wanted.dtype)
        open_ = reviewed if open_ is None else open_ * reviewed
    if open_ is not None:
        wanted = wanted * open_
        placed = None if placed is None else placed * open_
    if placed is None and world.count_orders:
        placed = order_gate(wanted, relax=relax, scale=scale, lattice=lattice)
    shipped, drawn = ship(state.on_hand, wanted, network=state.network, ration=world.ration, relax=relax, whole=world.whole)
    if state.network.sources:
        state = take(state, drawn, now)
    state = _send(state, shipped, now)
    if placed is not None and flow.placed is not None:
        placed = flow.placed + placed
    return state, flow._replace(ordered=_more(flow.ordered, wanted, now), shipped=_more(flow.shipped, shipped, now), placed=placed)


def serve(state: State, flow: Flow, now: Now) -> tuple[State, Flow]:
    """sales = min(on hand, waiting + demand), the waiting first; unmet new demand waits with the share `wait`, the rest is lost; sales may come back later."""
    world, noise = now.world, now.noise
    demand, wait = noise.demand, world.wait
    waits = isinstance(wait, Tensor) or wait > 0
    owed = state.backorder + demand if waits else demand
    sales = torch.minimum(state.on_hand, owed)
    unmet = owed - sales
    if not waits:
        state, flow = take(state, sales, now), flow._replace(lost_sales=_more(flow.lost_sales, unmet, now))
    elif not isinstance(wait, Tensor) and wait == 1:
        state = take(state, sales, now)._replace(backorder=unmet)
    else:
        new = torch.minimum(unmet, demand)
        lost = new - _share(wait * new, noise.wait_uniform, now)
        state = take(state, sales, now)._replace(backorder=unmet - lost)
        flow = flow._replace(lost_sales=_more(flow.lost_sales, lost, now))
    if world.return_rate is not None:
        state = _send_back(state, _rounded(world.return_rate * sales, noise.return_uniform, now), now)
    return state, flow._replace(sales=_more(flow.sales, sales, now))


def fill(state: State, flow: Flow, now: Now) -> tuple[State, Flow]:
    """Those who wait are served from what is on hand."""
    sales = torch.minimum(state.on_hand, state.backorder)
    state = take(state, sales, now)._replace(backorder=state.backorder - sales)
    if now.world.return_rate is not None:
        state = _send_back(state, _rounded(now.world.return_rate * sales, now.noise.return_uniform, now), now)
    return state, flow._replace(sales=_more(flow.sales, sales, now))


def expire(state: State, flow: Flow, now: Now) -> tuple[State, Flow]:
    """Everything on hand gets one period older; what has no life left is waste."""
    assert state.ages is not None
    assert now.world.shelf_life is not None
    ages, waste = aged(state.ages, now.world.shelf_life)
    return state._replace(on_hand=state.on_hand - waste, ages=ages), flow._replace(waste=_more(flow.waste, waste, now))


# ---------------------------------------------------------------------------------------------- for events of your own


def put(state: State, units: Tensor, now: Now) -> State:
    """Units enter the stock of points, fresh."""
    ages = state.ages
    if ages is not None:
        assert now.world.shelf_life is not None
        ages = ages + units * slot(ages, now.world.shelf_life)
    return state._replace(on_hand=state.on_hand + units, ages=ages)


def take(state: State, units: Tensor, now: Now) -> State:
    """Units leave the stock of points, by the world's rule of issue."""
    ages = state.ages
    if ages is not None:
        ages = ages - now.world.issue(ages, units)
    return state._replace(on_hand=state.on_hand - units, ages=ages)


def _more(so_far: Tensor, units: Tensor, now: Now) -> Tensor:
    """The sum; what is still the zero that the period began with costs nothing."""
    return units if so_far is now.nothing or so_far is now.on_edges else so_far + units


def _share(share: Tensor, uniform: Tensor | None, now: Now) -> Tensor:
    """A share, in whole units where units are whole."""
    return whole_units(share, 0.5 if uniform is None else uniform, relax=now.relax) if now.world.whole else share


def _rounded(share: Tensor, uniform: Tensor | None, now: Now) -> Tensor:
    """floor(share + u), where units are whole."""
    if not now.world.whole:
        return share
    return floor(share + (0.5 if uniform is None else uniform), relax=now.relax, scale=now.world.scale)


def _send(state: State, units: Tensor, now: Now) -> State:
    """What is shipped is due after its lead time; at once where that is 0."""
    lead = now.noise.lead_time
    slots = (state.due, *state.pipeline)
    if lead is None:
        times = now.world.lead_times
        if len(set(times)) == 1:
            slots = tuple(s + units if k == times[0] else s for k, s in enumerate(slots))
        else:
            slots = tuple(torch.addcmul(s, units, now.world.due_after(k, units)) if k in times else s for k, s in enumerate(slots))
    else:
        slots = tuple(s + units * (lead == k) for k, s in enumerate(slots))
    return state._replace(due=slots[0], pipeline=slots[1:])


def _send_back(state: State, units: Tensor, now: Now) -> State:
    """What customers send back is due after its lag."""
    lag = now.world.return_lag if now.noise.return_lag is None else now.noise.return_lag
    return state._replace(returning=tuple(s + units * (lag == k) for k, s in enumerate(state.returning, start=1)))
