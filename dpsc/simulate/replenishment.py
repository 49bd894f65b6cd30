"""The extended (R, s, Q) world: one warehouse, lost sales, a kick-start order, a triggered order, returns.

Order of events in week t: half of the inbound due (rounded down) and all returns due enter the stock; demand is served, the rest is lost; the other half
of the inbound enters; the returns of this week's sales are scheduled; the policy reviews the stock and orders, with this week's lead time; costs are
booked on the stock at the end of the week. After the last week, stock and units on order are charged as overstock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import ExactJumpError, InputError
from dpsc.relax import Exact, equal, floor, minimum, round, step
from dpsc.types import Relaxation

PARAMETERS = ("kick_week", "kick_order", "reorder_point", "order_quantity")


class Articles(Protocol):
    """What the world reads of its articles, `(N,)` each: `scale` is the mean weekly demand in units, costs are money a unit (an order)."""

    @property
    def scale(self) -> Tensor:
        """Mean weekly demand, units."""
        ...

    @property
    def holding_cost(self) -> Tensor:
        """A unit and week."""
        ...

    @property
    def inbound_cost(self) -> Tensor:
        """A unit received."""
        ...

    @property
    def order_cost(self) -> Tensor:
        """An order placed."""
        ...

    @property
    def outbound_cost(self) -> Tensor:
        """A unit sold."""
        ...

    @property
    def return_cost(self) -> Tensor:
        """A unit returned."""
        ...

    @property
    def lost_sale_cost(self) -> Tensor:
        """A unit of unmet demand."""
        ...

    @property
    def overstock_cost(self) -> Tensor:
        """A unit left or on order at the end."""
        ...

    @property
    def return_rate(self) -> Tensor:
        """Share of the sales that comes back."""
        ...


class Paths(Protocol):
    """What the world reads of its futures, `(T, S, N)` each: units of demand, weeks of lead time (>= 1) and of return lag (>= 1), uniforms."""

    @property
    def demand(self) -> Tensor:
        """Units."""
        ...

    @property
    def lead_time(self) -> Tensor:
        """Weeks, of an order placed in this week."""
        ...

    @property
    def return_lag(self) -> Tensor:
        """Weeks, of the returns of this week's sales."""
        ...

    @property
    def uniform(self) -> Tensor:
        """In [0, 1): rounds the returns."""
        ...


class State(NamedTuple):
    """Stock at the end of a week, `(..., S, N)` units; `pipeline` and `returning` hold what is due in one, two ... weeks."""

    on_hand: Tensor
    on_order: Tensor
    pipeline: tuple[Tensor, ...]
    returning: tuple[Tensor, ...]


class Flow(NamedTuple):
    """What moved in a week, `(..., S, N)`: units, and the number of orders placed."""

    inbound: Tensor
    returned: Tensor
    sales: Tensor
    lost_sales: Tensor
    order: Tensor
    orders: Tensor


def advance(
    state: State, policy: Mapping[str, Tensor], paths: Paths, week: int, *, articles: Articles, relax: Relaxation, trigger: str, cutoff: int
) -> tuple[State, Flow]:
    """One week; events in the order of the module's docstring.

    Args:
        state: at the end of the week before.
        policy: `kick_week` (whole weeks), `kick_order`, `reorder_point`, `order_quantity` in units, `(..., 1, N)`.
        paths: the futures.
        week: t.
        articles: costs and rates.
        relax: how rounding, trigger and calendar are read; the minimum of stock and demand keeps its sub-gradient.
        trigger: "position" (stock + on order <= s) or "idle" (stock <= s and nothing on order).
        cutoff: first week without triggered orders.
    """
    scale, demand = articles.scale, paths.demand[week]
    inbound, returned = state.pipeline[0], state.returning[0]
    first = floor(inbound / 2, relax=relax, scale=scale, lattice=0.5)
    available = state.on_hand + first + returned
    sales = minimum(available, demand, relax=Exact())
    on_hand = available - sales + (inbound - first)
    on_order = state.on_order - inbound
    coming_back = floor(articles.return_rate * sales + paths.uniform[week], relax=relax, scale=scale)

    kick_week = policy["kick_week"]
    if trigger == "position":
        low = step(policy["reorder_point"] - on_hand - on_order, relax=relax, scale=scale)
    else:
        low = step(policy["reorder_point"] - on_hand, relax=relax, scale=scale) * equal(on_order, relax=relax, scale=scale)
    kick = equal(kick_week, float(week), relax=relax)
    started = step(week - 1 - kick_week, relax=relax, lattice=1.0)
    again = low * started if week < cutoff else torch.zeros_like(low)
    order = kick * policy["kick_order"] + again * policy["order_quantity"]

    lead, lag = paths.lead_time[week], paths.return_lag[week]
    pipeline = tuple(due + order * (lead == i + 1) for i, due in enumerate((*state.pipeline[1:], torch.zeros_like(inbound))))
    returning = tuple(due + coming_back * (lag == i + 1) for i, due in enumerate((*state.returning[1:], torch.zeros_like(returned))))
    return State(on_hand, on_order + order, pipeline, returning), Flow(inbound, returned, sales, demand - sales, order, kick + again)


class Simulated(NamedTuple):
    """What the futures cost, `(..., S, N)` money, and the stock at the end of every week, T tensors `(..., S, N)` of units."""

    cost: Tensor
    on_hand: tuple[Tensor, ...]


class Replenishment:
    """The world on fixed futures, checked once, for the many evaluations of a search or a training; `simulate` and `cost` are this, used once.

    Args:
        paths: futures.
        articles: costs and rates.
        trigger: "position" or "idle".
        cutoff: first week without triggered orders.
        compiled: whether to play the twelve weeks as one compiled program instead of operation by operation: the same numbers to the bit where they are
            read exactly or straight-through, gradients to rounding, several times as fast. Needs a C++ compiler; the first call of every shape, dtype
            and kind of reading takes tens of seconds, later ones (of any temperature, any futures, any instance of this class) none.
        longest: weeks of the longest lead time and the longest return lag; read off the futures if not given. Futures drawn in shards give it, so that
            all shards are one program.
    Raises: InputError for an unknown trigger, a lead time or lag below 1 or above `longest`.
    """

    def __init__(
        self, paths: Paths, *, articles: Articles, trigger: str = "position", cutoff: int = 9, compiled: bool = False, longest: tuple[int, int] | None = None
    ) -> None:
        checks.one_of("trigger", trigger, ("position", "idle"))
        found: list[int] = []
        for name, value in (("lead_time", paths.lead_time), ("return_lag", paths.return_lag)):
            low, high = (float(x) for x in value.aminmax()) if value.numel() else (1.0, 1.0)
            if not low >= 1:
                raise InputError(f"{name} must be >= 1 week, got {low}")
            if longest is not None and high > longest[len(found)]:
                raise InputError(f"{name} must be <= {longest[len(found)]} weeks, the longest that was announced, got {high}")
            found.append(int(high))
        self.paths, self.articles, self.trigger, self.cutoff, self.compiled = paths, articles, trigger, cutoff, compiled
        self.longest = (found[0], found[1]) if longest is None else longest

    def simulate(self, parameters: Mapping[str, Tensor], *, relax: Relaxation) -> Simulated:
        """Play every path.

        Args:
            parameters: `kick_week` t0 in weeks (cut to the horizon, rounded), `kick_order` Q0, `reorder_point` s and `order_quantity` Q in multiples of
                the article's scale (Q0 and Q cut at 0, rounded to units); `(..., N)` each.
            relax: the reading.
        Gradient: by the reading; raises when exact.
        Raises: InputError for unknown parameters.
        """
        return Simulated(*self._play(parameters, relax, True))

    def cost(self, parameters: Mapping[str, Tensor], *, relax: Relaxation) -> Tensor:
        """Cost of every path and article, `(..., S, N)` money; see `simulate`."""
        return self._play(parameters, relax, False)[0]

    def _play(self, parameters: Mapping[str, Tensor], relax: Relaxation, stock: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        checks.exact_names("the extended (R, s, Q) policy", parameters, PARAMETERS)
        given = (dict(parameters), self.paths, self.articles)
        if not self.compiled:
            return _play(*given, relax, self.trigger, self.cutoff, self.longest, stock)
        if any(p.requires_grad for p in parameters.values()) and torch.is_grad_enabled() and isinstance(relax, Exact):
            raise ExactJumpError("a compiled program that is read exactly has no gradient; pass relax=StraightThrough(Logistic(0.25)), or use torch.no_grad()")
        with torch._dynamo.config.patch(recompile_limit=256):
            return _compiled()(*given, _with_tensor_temperature(relax), self.trigger, self.cutoff, self.longest, stock)


def simulate(parameters: Mapping[str, Tensor], paths: Paths, *, articles: Articles, relax: Relaxation, trigger: str = "position", cutoff: int = 9) -> Simulated:
    """Play every path of the extended (R, s, Q) policy once; see `Replenishment`."""
    return Replenishment(paths, articles=articles, trigger=trigger, cutoff=cutoff).simulate(parameters, relax=relax)


def cost(parameters: Mapping[str, Tensor], paths: Paths, *, articles: Articles, relax: Relaxation, trigger: str = "position", cutoff: int = 9) -> Tensor:
    """Cost of every path and article, `(..., S, N)` money; see `Replenishment`."""
    return Replenishment(paths, articles=articles, trigger=trigger, cutoff=cutoff).cost(parameters, relax=relax)


def _play(
    parameters: Mapping[str, Tensor], paths: Paths, articles: Articles, relax: Relaxation, trigger: str, cutoff: int, longest: tuple[int, int], stock: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Twelve weeks, without a look at any value, so that the whole can be compiled."""
    weeks, scale = paths.demand.shape[0], articles.scale
    theta = {name: value[..., None, :] for name, value in parameters.items()}
    policy = {
        "kick_week": round(theta["kick_week"].clamp(0, weeks - 1), relax=relax, scale=float(weeks)),
        "kick_order": round(theta["kick_order"].clamp_min(0) * scale, relax=relax, scale=scale),
        "reorder_point": theta["reorder_point"] * scale,
        "order_quantity": round(theta["order_quantity"].clamp_min(0) * scale, relax=relax, scale=scale),
    }
    zero = torch.zeros_like(policy["kick_week"] + paths.demand[0])
    state = State(zero, zero, (zero,) * longest[0], (zero,) * longest[1])
    total, on_hand = zero, []
    for week in range(weeks):
        state, flow = advance(state, policy, paths, week, articles=articles, relax=relax, trigger=trigger, cutoff=cutoff)
        on_hand.append(state.on_hand)
        total = (
            total
            + articles.holding_cost * state.on_hand
            + articles.inbound_cost * flow.inbound
            + articles.order_cost * flow.orders
            + articles.outbound_cost * flow.sales
            + articles.return_cost * flow.returned
            + articles.lost_sale_cost * flow.lost_sales
        )
    return total + articles.overstock_cost * (state.on_hand + state.on_order), tuple(on_hand) if stock else ()


@functools.cache
def _compiled() -> Callable[..., tuple[Tensor, tuple[Tensor, ...]]]:
    """The twelve weeks unrolled and fused; torch keeps one program for every shape and kind of reading."""
    program: Callable[..., tuple[Tensor, tuple[Tensor, ...]]] = torch.compile(_play, fullgraph=True, dynamic=False)
    return program


def _with_tensor_temperature(relax: Relaxation) -> Relaxation:
    """The same reading with its temperature in a tensor, which a compiled program takes as an input; a number would be compiled in."""
    kernel = getattr(relax, "kernel", None)
    if kernel is None or isinstance(kernel.temperature, Tensor):
        return relax
    return replace(relax, kernel=replace(kernel, temperature=torch.tensor(float(kernel.temperature))))  # type: ignore[type-var]


def with_shared_warehouse(played: Simulated, *, capacity: Tensor | float, price: Tensor | float) -> Tensor:
    """Cost of all articles together when they share a warehouse: their own costs, and a price for every unit and week above its capacity.

    Args:
        played: what was simulated.
        capacity: units that the warehouse holds.
        price: money a unit and week above.
    Returns: `(..., S)` money.
    Gradient: exact at the kink where the warehouse is full (zero there), the reading's elsewhere.
    """
    total = played.cost.sum(-1)
    for on_hand in played.on_hand:
        total = total + price * (on_hand.sum(-1) - capacity).clamp_min(0)
    return total
