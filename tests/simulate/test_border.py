"""What an inventory world refuses before its first step, by name; and what it says when it overflows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import DpscError, ExactJumpError, InputError, ShapeError
from dpsc.objective import Costs, item_cost, path_cost
from dpsc.relax import Exact
from dpsc.simulate import Edge, Network, Noise, State, World, expire, order, receive, rollout, serve, start
from dpsc.types import Context, Relaxation

EVENTS = (receive, order, serve)
RING = [Edge(0, {1: 1}), Edge(1, {2: 1}), Edge(2, {0: 1})]
TWO = torch.tensor([2.0, 2.0], dtype=torch.float64)


def world(**changes: Any) -> World:
    return World(**({"network": Network.serial(2), "events": EVENTS, "lead_time": TWO} | changes))


def nothing(state: State, context: Context, *, relax: Relaxation) -> Tensor:
    return torch.zeros_like(state.on_hand)


def play(of: World | None = None, policy: Any = nothing, demand: Tensor | None = None, **noise: Any) -> object:
    of = of or world()
    demand = torch.ones(6, 3, 2, dtype=torch.float64) if demand is None else demand
    return rollout(of, policy, Noise(demand, **noise), start=start(of, TWO, paths=3), relax=Exact())


def spoiled(value: float, at: tuple[int, ...] = (4, 1, 0), shape: tuple[int, ...] = (6, 3, 2)) -> Tensor:
    result = torch.ones(shape, dtype=torch.float64)
    result[at] = value
    return result


def growing(state: State, context: Context, *, relax: Relaxation) -> Tensor:
    return torch.full_like(state.on_hand, 1e200) * torch.tensor([1.0, 1e150 if context.period == 3 else 1.0], dtype=torch.float64)


MISTAKES: list[tuple[Callable[[], object], type[DpscError], str]] = [
    # futures
    (lambda: play(demand=spoiled(-2)), InputError, r"demand must be >= 0, got -2 in period 4, index \(4, 1, 0\)"),
    (lambda: play(demand=spoiled(math.nan)), InputError, r"demand must be finite, got 1 of 36 entries NaN or infinite, the first, nan, at index \(4, 1, 0\)"),
    (lambda: play(demand=spoiled(1, shape=(6, 3, 5))), ShapeError, r"demand must have shape \(T, ..., S, N\) = \(T, ..., S, 2\), got \(6, 3, 5\)"),
    (lambda: play(demand=spoiled(1, shape=(6, 4, 2))), ShapeError, r"must broadcast, got the state: \(3,\), demand: \(4,\)"),
    (lambda: play(demand=spoiled(1, (0, 0, 0), (1, 3, 2))), InputError, r"horizon must not be shorter than the lead time, got 1 periods and a lead time of 2"),
    (lambda: play(lead_time=spoiled(0)), InputError, r"lead_time must be whole and in \[1, 2\], got 0 in period 4, index \(4, 1, 0\)"),
    (lambda: play(lead_time=spoiled(3)), InputError, r"lead_time must be whole and in \[1, 2\], got 3 in period 4"),
    (lambda: play(lead_time=spoiled(1.5)), InputError, r"lead_time must be whole, got 1.5 in period 4"),
    (lambda: play(supply_yield=spoiled(1.5)), InputError, r"supply_yield must be in \[0, 1\], got 1.5 in period 4"),
    (lambda: play(running=spoiled(-1)), InputError, r"running must be in \[0, 1\], got -1 in period 4"),
    (lambda: play(lead_time=spoiled(1, shape=(5, 3, 2))), ShapeError, r"lead_time must have the 6 periods of demand, got 5"),
    (lambda: play(world(whole=True), demand=spoiled(0.5)), InputError, r"demand must be whole where units are whole, got 0.5 in period 4"),
    (lambda: play(return_lag=spoiled(1)), InputError, r"return_lag is drawn, but the world has no return_rate"),
    # a world
    (lambda: world(lead_time=TWO - 2), InputError, r"lead_time must be >= 1 period where no receive follows the order.*got 0 for edge 0"),
    (lambda: world(lead_time=TWO - 3), InputError, r"lead_time must be whole periods >= 0, got -1 for edge 0"),
    (lambda: world(lead_time=TWO[:1]), ShapeError, r"lead_time must end in E = 2 edges, got shape \(1,\)"),
    (lambda: world(capacity=TWO * torch.tensor([1.0, 0.0])), InputError, r"capacity must be units > 0, got 0 for edge 1, which leads to point 1"),
    (lambda: world(pack=TWO * 0), InputError, r"pack must be units > 0, got 0 for edge 0"),
    (lambda: world(pack=TWO, minimum_order=TWO + 1), InputError, r"minimum_order must be a multiple of pack, got \[3.0, 3.0\] and packs of \[2.0, 2.0\]"),
    (lambda: world(capacity=TWO, minimum_order=TWO + 1), InputError, r"minimum_order must not exceed capacity, got 3 above 2 for edge 0"),
    (lambda: world(review_period=TWO - 1.5), InputError, r"review_period must be whole periods >= 1, got 0.5 for edge 0"),
    (lambda: world(wait=1.5), InputError, r"wait must lie in \[0, 1\], got 1.5"),
    (lambda: world(wait=torch.tensor([0.5, -0.5])), InputError, r"wait must lie in \[0, 1\], got -0.5 for point 1"),
    (lambda: world(wait=torch.ones(3)), ShapeError, r"wait must end in N = 2 points, got shape \(3,\)"),
    (lambda: world(return_rate=TWO / 4), InputError, r"return_rate needs a return_lag"),
    (lambda: world(shelf_life=TWO), InputError, r"events must contain expire, which shelf_life needs; got receive, order, serve"),
    (lambda: world(events=(*EVENTS, expire)), InputError, r"events contain expire, which needs a shelf_life"),
    (lambda: world(events=(order, serve)), InputError, r"events must contain receive, or what is ordered never arrives"),
    (lambda: world(events=(partial(receive, share=0.5), order, serve)), InputError, r"one receive among the events must let in all.*got shares of 0.5"),
    (lambda: start(world(), -TWO, paths=1), InputError, r"on_hand must be >= 0 at the start, got -2"),
    (lambda: start(world(), TWO[:1], paths=1), ShapeError, r"on_hand must have shape \(..., N\) = \(..., 2\), got \(1,\)"),
    # a network
    (lambda: Network(3, RING, names=("shop", "depot", "plant")), InputError, r"must not be cyclic, got shop <- depot <- plant <- shop"),
    (lambda: Network.assembly([[0, 1], [1, 0]]), InputError, r"must not be cyclic, got 0 <- 1 <- 0"),
    (lambda: Network.assembly([[0, 0], [-2, 0]]), InputError, r"bill must be >= 0, got -2.0 units of point 1 in a unit of point 0"),
    (lambda: Network(2, [Edge(0, {1: 0}), Edge(1)]), InputError, r"edge 0 uses 0 units of point 1 for a unit of point 0: the multiplicity must be > 0"),
    (lambda: Network(2, [Edge(0, {1: -1}), Edge(1)]), InputError, r"edge 0 uses -1 units of point 1 for a unit of point 0: the multiplicity must be > 0"),
    (lambda: Network(2, [Edge(0, {5: 1})]), InputError, r"edge 0 joins points in 0 ... 1, got 5"),
    (lambda: Network(2, [Edge(0, {0: 1})]), InputError, r"edge 0 draws on the point that it delivers to, 0"),
    (lambda: world(network=Network.assembly([[0, 0], [0.5, 0]]), whole=True), InputError, r"with whole units a bill .* must have whole multiplicities"),
    (lambda: play(demand=spoiled(1, shape=(6, 3, 1), at=(0, 0, 0))), ShapeError, r"demand must have shape .* got \(6, 3, 1\)"),
    (lambda: play(policy=lambda state, context, *, relax: state.on_hand[..., :1]), ShapeError, r"an order must have shape .*S, 2\).*got \(3, 1\)"),
    # overflow, and a policy that breaks its word
    (lambda: play(policy=growing), InputError, r"the simulation overflowed in period 3: the order became inf for point 1, index \(0, 1\)"),
    (
        lambda: play(world(whole=True), policy=lambda state, context, *, relax: torch.full_like(state.on_hand, 1e16 if context.period == 1 else 1.0)),
        InputError,
        r"the simulation overflowed in period 1: the order became 1e\+16, above 9.0072e\+15, where float64 stops counting single units for point 0",
    ),
    (lambda: play(policy=lambda state, context, *, relax: -torch.ones_like(state.on_hand)), InputError, r"the quantity of order_gate must be >= 0, got -1.0"),
    # prices
    (lambda: Costs(holding=math.nan), InputError, r"holding must be finite, got nan"),
    (lambda: Costs(discount=1.5), InputError, r"discount must lie in \(0, 1\], got 1.5"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), MISTAKES)
def test_mistakes_are_named(call: Callable[[], object], error: type[DpscError], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_pricing_says_what_it_misses() -> None:
    flow = rollout(world(count_orders=False), nothing, Noise(torch.ones(6, 3, 2, dtype=torch.float64)), start=start(world(), TWO, paths=3), relax=Exact()).flow
    assert flow is not None
    with pytest.raises(InputError, match=r"fixed order cost, but the world does not count orders"):
        path_cost(flow, costs=Costs(order=1.0))
    with pytest.raises(InputError, match=r"overstock is charged after the last period"):
        path_cost(flow, costs=Costs(overstock=1.0))
    two = Network(1, [Edge(0), Edge(0)])
    of = World(network=two, events=EVENTS, lead_time=TWO)
    flow = rollout(
        of, lambda state, context, *, relax: torch.ones(3, 2, dtype=torch.float64), Noise(torch.ones(6, 3, 1, dtype=torch.float64)),
        start=start(of, TWO[:1], paths=3), relax=Exact(),
    ).flow  # fmt: skip
    assert flow is not None
    with pytest.raises(ShapeError, match=r"item_cost needs one supplier a point, got order of 2 edges and 1 points; use path_cost"):
        item_cost(flow, costs=Costs(order=1.0))


def test_a_jump_that_is_read_exactly_has_no_gradient() -> None:
    of = world(pack=TWO)
    wanted = torch.full((3, 2), 3.0, dtype=torch.float64, requires_grad=True)
    flow = rollout(
        of, lambda state, context, *, relax: wanted, Noise(torch.ones(6, 3, 2, dtype=torch.float64)), start=start(of, TWO, paths=3), relax=Exact()
    ).flow
    assert flow is not None
    with pytest.raises(ExactJumpError, match="round"):
        flow.on_hand.sum().backward()
