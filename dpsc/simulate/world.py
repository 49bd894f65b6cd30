"""The inventory world: what is in a state, what moves in a period, and what is fixed. One period is `advance`, a pure function; it draws nothing.

A period: the clock moves every pipeline one slot on, so that what is due becomes `due`; then the world's events happen, one after the other, in the order in
which `World.events` lists them. That tuple is the only place where the order is stated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.simulate.border import check_world
from dpsc.simulate.network import Network
from dpsc.simulate.perishing import Issue, fresh, oldest_first
from dpsc.simulate.rationing import Ration, proportional
from dpsc.types import Relaxation

Number = float | Tensor


class State(NamedTuple):
    """Units, `(..., S, N)` at points and `(..., S, E)` on edges.

    Attributes:
        on_hand: at every point, >= 0.
        backorder: that customers of every point wait for, >= 0.
        due: on edges, to be received in this period; zero between periods.
        pipeline: L tensors on edges, slot 0 due in the next period.
        due_back: returns to be taken back in this period.
        returning: R tensors of returns on their way, slot 0 due in the next period.
        ages: `(A, ..., S, N)` of what is on hand, slot 0 expiring at the next `expire`; None where nothing perishes.
        network: who supplies whom.
    """

    on_hand: Tensor
    backorder: Tensor
    due: Tensor
    pipeline: tuple[Tensor, ...]
    due_back: Tensor
    returning: tuple[Tensor, ...]
    ages: Tensor | None
    network: Network

    @property
    def on_order(self) -> Tensor:
        """`(..., S, E)` due and on the way."""
        total = self.due
        for slot in self.pipeline:
            total = total + slot
        return total

    @property
    def position(self) -> Tensor:
        """`(..., S, N)` inventory position: on hand and on order, less backorders. Returns on their way do not count."""
        return self.on_hand - self.backorder + self.network.delivered(self.on_order)

    def echelon_position(self) -> Tensor:
        """`(..., S, N)` inventory position of a point and of all below it."""
        return self.network.echelon(self.position)


class Flow(NamedTuple):
    """What a period moved, and what it left behind: units, `(..., S, N)` at points and `(..., S, E)` on edges.

    Attributes:
        received: at points, good units that came in.
        returned: at points, units that customers sent back.
        sales: at points, units handed to customers, those who had waited included.
        lost_sales: at points, unmet demand that did not wait.
        waste: at points, units that expired.
        spoiled: on edges, units that were due and did not come (supply yield).
        ordered: on edges, units asked for, after review, packs, minimum order and capacity.
        shipped: on edges, units that left.
        placed: on edges, the number of orders; None where the world does not count them.
        on_hand: at points, at the end of the period.
        backorder: at points, at the end of the period.
        pipeline: on edges, the slots at the end of the period (in a stacked flow their sum alone).
    """

    received: Tensor
    returned: Tensor
    sales: Tensor
    lost_sales: Tensor
    waste: Tensor
    spoiled: Tensor
    ordered: Tensor
    shipped: Tensor
    placed: Tensor | None
    on_hand: Tensor
    backorder: Tensor
    pipeline: tuple[Tensor, ...]

    @property
    def in_transit(self) -> Tensor:
        """`(..., S, E)` units on their way at the end of the period."""
        total = self.pipeline[0]
        for slot in self.pipeline[1:]:
            total = total + slot
        return total


class Noise(NamedTuple):
    """Futures: `(T, ..., S, N)` at points and `(T, ..., S, E)` on edges, or one period of them; None where nothing is random.

    Attributes:
        demand: of customers at points, units >= 0.
        lead_time: of what is ordered in a period, whole periods; orders may overtake each other. None: `World.lead_time`.
        supply_yield: share of what is due that comes, in [0, 1]. None: all.
        running: 1 where an edge can take orders in a period, 0 where it is disrupted. None: always.
        return_lag: after which the returns of a period's sales come back, whole periods >= 1. None: `World.return_lag`.
        return_uniform: in [0, 1), rounds returns: floor(rate sales + u). None: 1/2.
        wait_uniform: the same for unmet demand that waits.
        yield_uniform: the same for the yield, on edges.
    """

    demand: Tensor
    lead_time: Tensor | None = None
    supply_yield: Tensor | None = None
    running: Tensor | None = None
    return_lag: Tensor | None = None
    return_uniform: Tensor | None = None
    wait_uniform: Tensor | None = None
    yield_uniform: Tensor | None = None

    def at(self, period: int) -> Noise:
        """One period."""
        return Noise(*(None if x is None else x[period] for x in self))  # type: ignore[arg-type]  # demand is never None


class Order(NamedTuple):
    """What a policy asks for where "is there an order" is more than [quantity > 0].

    Attributes:
        quantity: `(..., S, E)` units.
        placed: `(..., S, E)` number of orders, which fixed costs are multiplied with.
    """

    quantity: Tensor
    placed: Tensor


Action = Tensor | Order | Callable[[State], Tensor | Order]


class Now(NamedTuple):
    """What an event knows beside state and flow: action, one period of noise, world, reading, period, and zeros `(..., S, N)` and `(..., S, E)`."""

    action: Action
    noise: Noise
    world: World
    relax: Relaxation
    period: int
    nothing: Tensor
    on_edges: Tensor


class Event(Protocol):
    """A small pure function; `functools.partial` gives it numbers."""

    def __call__(self, state: State, flow: Flow, now: Now) -> tuple[State, Flow]:
        """What is the case after the event."""
        ...


@dataclass(frozen=True, eq=False)
class World:
    """What does not change with time: who supplies whom, in which order things happen, and the rules of every point and edge.

    Args:
        network: N points, E edges.
        events: what happens in a period, in this order.
        lead_time: `(E,)` whole periods; the longest one where `Noise.lead_time` draws them. An order is received that many periods later; 0, in the same
            period, is possible where a `receive` follows the `order`.
        wait: `(N,)` share of unmet demand that waits: 0 lost sales, 1 backorders, or a mix.
        review_period: `(E,)` whole periods >= 1: orders are placed in periods 0, R, 2 R ... None: every period.
        pack: `(E,)` units > 0: orders are rounded to multiples. None: no packs.
        minimum_order: `(E,)` units >= 0: orders below half of it are dropped, others raised to it. None: no minimum.
        capacity: `(E,)` units > 0: most that an edge takes in a period. None: no limit.
        ration: who gets what of a short stock: `proportional`, `ByPriority(priority)`, or your own.
        shelf_life: `(N,)` whole periods >= 1, inf for ever: a unit is thrown away by that many `expire` after its receipt, which the events must contain; where
            `expire` is the last event, these are the periods in which it can be used. None: nothing perishes.
        issue: which units leave first: `oldest_first` (FIFO) or `newest_first` (LIFO).
        return_rate: `(N,)` share of the sales that comes back, in [0, 1]. None: no returns.
        return_lag: `(N,)` whole periods >= 1; the longest one where `Noise.return_lag` draws them.
        whole: whether units are indivisible: shares, yields, waiting customers and returns are rounded so that units add up.
        signed_demand: whether demand may be negative, as normal demand that is not cut at zero: units then come in instead of going out. Refused otherwise.
        count_orders: whether `Flow.placed` is filled, which fixed order costs need.
        scale: `(E,)` or `(N,)` or a number > 0, units: what temperature 1 means to roundings and gates (a period of demand, say).
    Raises: InputError, ShapeError, with the name of what is wrong.
    """

    network: Network
    events: tuple[Event, ...]
    lead_time: Tensor
    wait: Number = 0.0
    review_period: Tensor | None = None
    pack: Tensor | None = None
    minimum_order: Tensor | None = None
    capacity: Tensor | None = None
    ration: Ration = proportional
    shelf_life: Tensor | None = None
    issue: Issue = oldest_first
    return_rate: Tensor | None = None
    return_lag: Tensor | None = None
    whole: bool = False
    signed_demand: bool = False
    count_orders: bool = True
    scale: Number = 1.0

    def __post_init__(self) -> None:
        check_world(self)

    @functools.cached_property
    def lead_times(self) -> tuple[int, ...]:
        """`(E,)` as numbers."""
        return tuple(int(x) for x in self.lead_time.tolist())

    def due_after(self, delay: int, like: Tensor) -> Tensor:
        """`(E,)`: 1 for the edges whose lead time is `delay`, else 0; made once."""
        key = (delay, like.dtype, like.device)
        if key not in self._masks:
            self._masks[key] = (self.lead_time == delay).to(dtype=like.dtype, device=like.device)
        return self._masks[key]

    @functools.cached_property
    def _masks(self) -> dict[Any, Tensor]:
        return {}

    @property
    def lattice(self) -> float:
        """Spacing of orders in the exact program."""
        return 1.0 if self.whole else 0.0


def start(world: World, on_hand: Tensor, *, paths: int) -> State:
    """Stock on hand, fresh, and nothing on the way.

    Args:
        world: whose state it is.
        on_hand: `(..., N)` units >= 0; leading dimensions are candidates.
        paths: S.
    """
    network = world.network
    checks.floating("on_hand", on_hand)
    checks.trailing_shape("on_hand", on_hand, (network.points,), "(..., N)")
    checks.finite("on_hand", on_hand)
    if on_hand.numel() and float(on_hand.detach().amin()) < 0:
        raise InputError(f"on_hand must be >= 0 at the start, got {float(on_hand.detach().amin())}")
    checks.at_least("paths", paths, 1)
    stock = on_hand[..., None, :].expand(*on_hand.shape[:-1], paths, network.points)
    zero = torch.zeros((), dtype=on_hand.dtype, device=on_hand.device)
    nothing, on_edges = zero.expand_as(stock), zero.expand(*stock.shape[:-1], len(network.edges))
    ages = None if world.shelf_life is None else fresh(stock, world.shelf_life)
    returns = 0 if world.return_lag is None else int(world.return_lag.max())
    return State(stock, nothing, on_edges, (on_edges,) * max(1, int(world.lead_time.max())), nothing, (nothing,) * returns, ages, network)


def advance(state: State, action: Action, noise: Noise, *, world: World, relax: Relaxation, period: int = 0) -> tuple[State, Flow]:
    """One period: the clock, then the world's events in their order.

    Args:
        state: at the end of the period before, `(..., S, N)`.
        action: `(..., S, E)` units wanted, an `Order`, or a function of the state at the moment of ordering.
        noise: one period.
        world: what is fixed.
        relax: how jumps are read (packs, minimum orders, gates, roundings, priorities); kinks (the minimum of stock and demand) keep their sub-gradient.
        period: t, which the review periods look at.
    Returns: state at the end of the period, and what moved. Units: nothing is made or lost; see `Flow`.
    Gradient: by the reading, in the action, the state and every floating parameter of the world.
    """
    zero = torch.zeros((), dtype=state.on_hand.dtype, device=state.on_hand.device)
    nothing, on_edges = zero.expand_as(state.on_hand), zero.expand_as(state.due)
    state = state._replace(due=state.due + state.pipeline[0], pipeline=(*state.pipeline[1:], on_edges))
    if state.returning:
        state = state._replace(due_back=state.due_back + state.returning[0], returning=(*state.returning[1:], nothing))
    flow = Flow(nothing, nothing, nothing, nothing, nothing, on_edges, on_edges, on_edges, None, nothing, nothing, ())
    now = Now(action, noise, world, relax, period, nothing, on_edges)
    for event in world.events:
        state, flow = event(state, flow, now)
    return state, flow._replace(on_hand=state.on_hand, backorder=state.backorder, pipeline=state.pipeline)
