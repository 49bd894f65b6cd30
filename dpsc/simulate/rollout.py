"""The rollout: a policy plays a world against its futures. One function, for every world, reading and device."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.simulate.border import check_futures, overflow
from dpsc.simulate.world import Flow, Noise, Order, State, World, advance
from dpsc.types import Context, Relaxation


class Ordering(Protocol):
    """A `dpsc.types.Policy`, or any function like it."""

    def __call__(self, state: Any, context: Context, *, relax: Relaxation) -> Tensor | Order:
        """State and context -> `(..., S, E)` units wanted, or an `Order`."""
        ...


class Rollout(NamedTuple):
    """What became of a policy.

    Attributes:
        state: after the last period.
        total: the sum of `price` over the periods; None without a price.
        flow: `(T, ..., S, N)` of every field; None with a price.
    """

    state: State
    total: Tensor | None
    flow: Flow | None


def rollout(
    world: World,
    policy: Ordering,
    noise: Noise,
    *,
    start: State,
    relax: Relaxation,
    price: Callable[[Flow, int], Tensor] | None = None,
    warm_up: int = 0,
    observe: int = 0,
    history: Tensor | None = None,
    features: Tensor | None = None,
) -> Rollout:
    """Play T periods.

    Args:
        world: what is fixed.
        policy: called as `policy(state, context, relax=relax)` by the event `order`, so at its moment in the period.
        noise: futures, `(T, ..., S, N)`.
        start: the first state, `(..., S, N)`; see `dpsc.simulate.world.start`. Leading dimensions are candidates; all meet the same futures.
        relax: the reading.
        price: flow of a period and its number -> money, `(..., S)` or `(..., S, N)`: summed while the periods pass, so that no trajectory is kept.
        warm_up: periods whose price does not count.
        observe: K, how many periods of demand the policy sees in `context.observed`.
        history: `(K, ..., S, N)` demand before period 0, units; zeros where None.
        features: `(T, ..., S, N, F)` or `(T, N, F)`, handed on period by period.
    Returns: state, and total (with `price`) or flow (without).
    Gradient: by the reading, through every period.
    Raises: before the first step, InputError or ShapeError for whatever `check_futures` refuses. After the last one, InputError where a quantity has
        overflowed: the rollout is then repeated without gradients to name item and period.
    """
    periods = check_futures(world, noise, start)
    if not 0 <= checks.at_least("warm_up", warm_up, 0) < periods:
        raise InputError(f"warm_up must be shorter than the {periods} periods of demand, got {warm_up}")
    past = _past(noise.demand, checks.at_least("observe", observe, 0), history)

    # Above this, a floating-point number does not count single units any more.
    largest = 2 / torch.finfo(start.on_hand.dtype).eps if world.whole else math.inf
    peak = start.on_hand.new_zeros(())

    def play(watch: bool) -> Rollout:
        nonlocal peak
        state, total, kept = start, None, []
        for period in range(periods):
            known = Context(period, None if past is None else past[period : period + observe], None if features is None else features[period])
            action = functools.partial(_asked, policy, known, relax)
            state, flow = advance(state, action, noise.at(period), world=world, relax=relax, period=period)
            if world.whole:
                peak = torch.maximum(peak, state.on_hand.detach().amax())
            if watch:
                found = overflow(world, _quantities(state, flow), largest)
                if found:
                    raise InputError(f"the simulation overflowed in period {period}: {found}")
            if price is None:
                kept.append(flow)
            elif period >= warm_up:
                money = price(flow, period)
                total = money if total is None else total + money
        return Rollout(state, total, stacked(kept) if kept else None)

    result = play(False)
    with torch.no_grad():
        seen = [value for _, value in _quantities(result.state, None)] + ([] if result.total is None else [result.total])
        if not all(bool(torch.isfinite(value).all()) for value in seen) or not bool(peak <= largest):
            play(True)
            raise InputError("the price of a period overflowed, although every quantity of the simulation is finite")
    return result


def _asked(policy: Ordering, context: Context, relax: Relaxation, state: State) -> Tensor | Order:
    return policy(state, context, relax=relax)


def _quantities(state: State, flow: Flow | None) -> list[tuple[str, Tensor]]:
    found = [] if flow is None else [("the order", flow.ordered)]
    return [*found, ("on_hand", state.on_hand), ("backorder", state.backorder), *((f"pipeline slot {k}", slot) for k, slot in enumerate(state.pipeline))]


def _past(demand: Tensor, observe: int, history: Tensor | None) -> Tensor | None:
    """`(K + T, ..., S, N)`: entry t ... t + K - 1 is what is known in period t."""
    if not observe:
        return None
    if history is None:
        history = torch.zeros_like(demand[:1]).expand(observe, *demand.shape[1:])
    if history.shape[0] != observe or history.shape[-1] != demand.shape[-1]:
        raise ShapeError(f"history must have shape (K, ..., S, N) = ({observe}, ..., {demand.shape[-1]}), got {tuple(history.shape)}")
    checks.finite("history", history)
    return torch.cat([history.expand(observe, *demand.shape[1:]), demand])


def stacked(flows: list[Flow]) -> Flow:
    """Flows of T periods -> one flow of `(T, ..., S, N)`; the pipeline is summed over its slots."""

    def stack(values: list[Any]) -> Any:
        return None if values[0] is None else torch.stack(torch.broadcast_tensors(*values))

    columns = {name: stack([getattr(flow, name) for flow in flows]) for name in Flow._fields if name != "pipeline"}
    return Flow(**columns, pipeline=(stack([flow.in_transit for flow in flows]),))
