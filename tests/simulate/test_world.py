"""The inventory world: a trace by hand, the special cases that exist on their own, batches and shards, units."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from dpsc.instances import replenishment as instance
from dpsc.objective import Costs, item_cost, path_cost
from dpsc.relax import Exact, Logistic, Smoothed, StraightThrough, equal, round, step
from dpsc.simulate import replenishment, serial
from dpsc.simulate.events import expire, order, receive, serve
from dpsc.simulate.network import Network
from dpsc.simulate.rationing import ByPriority
from dpsc.simulate.rollout import Rollout, rollout
from dpsc.simulate.world import Event, Noise, Order, State, World, start
from dpsc.types import Context, Relaxation


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- by hand

HALF = partial(receive, share=0.5)
EVENTS: tuple[Event, ...] = (HALF, serve, receive, order, expire)


def three_weeks(events: tuple[Event, ...]) -> list[tuple[float, ...]]:
    """Sales, lost sales, order, waste, on hand of one item: 5 to start with, what is missing to 11 on hand is ordered, demand 3, 9, 3; half of the sales come
    back after a week; units live two weeks; lead time one week."""
    world = World(
        network=Network.items(1),
        events=events,
        lead_time=double(1),
        return_rate=double(0.5),
        return_lag=double(1),
        shelf_life=double(2),
        whole=True,
    )

    def up_to_11(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return (11 - state.on_hand).clamp_min(0)

    flow = rollout(world, up_to_11, Noise(double(3, 9, 3)[:, None, None]), start=start(world, double(5), paths=1), relax=Exact()).flow
    assert flow is not None
    return [tuple(float(x[t]) for x in (flow.sales, flow.lost_sales, flow.ordered, flow.waste, flow.on_hand)) for t in range(3)]


def test_three_weeks_by_hand() -> None:
    """Week 0: nothing is due; 3 are sold, 2 left, so 9 are ordered; floor(1.5 + .5) = 2 will come back.
    Week 1: of 9 due, 4 come in, and 2 returns: 8 on hand; demand 9 takes 8, 1 is lost, floor(4 + .5) = 4 will come back; the other 5 come in; 6 are ordered.
    Week 2: 3 of 6 and 4 returns come in beside 5 of last week: 12; demand 3 takes 3 of the old ones; the other 3 come in: 12, so nothing is ordered; the 2
    old ones that are left expire."""
    assert three_weeks(EVENTS) == [(3, 0, 9, 0, 2), (8, 1, 6, 0, 5), (3, 0, 0, 2, 10)]


@pytest.mark.parametrize(("i", "j"), list(itertools.combinations(range(len(EVENTS)), 2)))
def test_swapping_any_two_events_changes_the_trace(i: int, j: int) -> None:
    swapped = list(EVENTS)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    assert three_weeks(tuple(swapped)) != three_weeks(EVENTS)


# ------------------------------------------------------------------------------------------------ worlds that exist on their own


@pytest.mark.parametrize("trigger", ["position", "idle"])
@pytest.mark.parametrize("relax", [Exact(), StraightThrough(Logistic(0.25)), Smoothed(Logistic(0.25))], ids=["exact", "straight", "smoothed"])
def test_the_extended_rsq_world_is_a_case(trigger: str, relax: Relaxation) -> None:
    """All paths: trajectories to the bit when read hard, costs and gradients to rounding."""
    articles, cutoff = instance.articles(3), 9
    paths = instance.paths(articles, 256)
    scale = articles.scale
    theta = {name: torch.full((3,), value, dtype=torch.float64) for name, value in zip(replenishment.PARAMETERS, (1.2, 3.0, 2.0, 3.0), strict=True)}
    theta = {name: value.requires_grad_(not isinstance(relax, Exact)) for name, value in theta.items()}
    world = World(
        network=Network.items(3),
        events=(HALF, serve, receive, order),
        lead_time=torch.full((3,), paths.lead_time.max().item(), dtype=torch.float64),
        return_rate=articles.return_rate,
        return_lag=torch.full((3,), paths.return_lag.max().item(), dtype=torch.float64),
        whole=True,
        scale=scale,
    )
    kick_week = round(theta["kick_week"], relax=relax, scale=12.0)
    kick_order = round(theta["kick_order"] * scale, relax=relax, scale=scale)
    quantity = round(theta["order_quantity"] * scale, relax=relax, scale=scale)
    level = theta["reorder_point"] * scale

    def extended(state: State, context: Context, *, relax: Relaxation) -> Order:
        week = context.period
        if trigger == "position":
            low = step(level - state.on_hand - state.on_order, relax=relax, scale=scale)
        else:
            low = step(level - state.on_hand, relax=relax, scale=scale) * equal(state.on_order, relax=relax, scale=scale)
        kick = equal(kick_week, float(week), relax=relax)
        again = low * step(week - 1 - kick_week, relax=relax, lattice=1.0) * (week < cutoff)
        return Order(kick * kick_order + again * quantity, kick + again)

    costs = Costs(
        holding=articles.holding_cost, inbound=articles.inbound_cost, order=articles.order_cost, outbound=articles.outbound_cost,
        returned=articles.return_cost, lost_sale=articles.lost_sale_cost, overstock=articles.overstock_cost,
    )  # fmt: skip
    noise = Noise(paths.demand, lead_time=paths.lead_time, return_lag=paths.return_lag, return_uniform=paths.uniform)
    begin = start(world, torch.zeros(3, dtype=torch.float64), paths=256)
    ours = rollout(world, extended, noise, start=begin, relax=relax, price=partial(item_cost, costs=costs, periods=12)).total
    assert ours is not None
    theirs = replenishment.simulate(theta, paths, articles=articles, relax=relax, trigger=trigger, cutoff=cutoff)
    flow = rollout(world, extended, noise, start=begin, relax=relax).flow
    assert flow is not None
    if isinstance(relax, Smoothed):
        assert torch.allclose(flow.on_hand, torch.stack(theirs.on_hand), rtol=0, atol=1e-9)
    else:
        assert torch.equal(flow.on_hand, torch.stack(theirs.on_hand))
    assert torch.allclose(ours, theirs.cost, rtol=1e-12, atol=1e-8)
    if not isinstance(relax, Exact):
        one, two = (torch.autograd.grad(c.mean(), list(theta.values())) for c in (ours, theirs.cost))
        for a, b in zip(one, two, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def serial_cost_by_hand(level: Tensor, demand: Tensor, *, order_first: bool, charge_pipeline: bool) -> Tensor:
    """Three stages, stage by stage, stock of the first one net of those who wait: the mean cost of the last 40 periods on every path."""
    lead, h = (2, 1, 3), (1.0, 0.5, 0.2)
    hand = [x.expand(demand.shape[1]) for x in level.detach().diff(prepend=double(0))]
    way = [[torch.zeros_like(hand[0])] * k for k in lead]
    total = torch.zeros_like(hand[0])
    for t, d in enumerate(demand):
        hand, way = [x + w[0] for x, w in zip(hand, way, strict=True)], [w[1:] for w in way]
        hand[0] = hand[0] if order_first else hand[0] - d
        below, sent = torch.zeros_like(d), []
        for i in range(3):
            below = below + hand[i] + sum(way[i])
            want = (level[i] - below).clamp_min(0)
            sent.append(torch.minimum(want, hand[i + 1]) if i < 2 else want)
        hand = [hand[0], hand[1] - sent[0], hand[2] - sent[1]]
        way = [[*w, q] for w, q in zip(way, sent, strict=True)]
        hand[0] = hand[0] - d if order_first else hand[0]
        if t >= 30:
            total = total + 9 * (-hand[0]).clamp_min(0) + sum(c * x.clamp_min(0) for c, x in zip(h, hand, strict=True))
            total = total + (0.5 * sum(way[0]) + 0.2 * sum(way[1]) if charge_pipeline else 0)
    return total / 40


@pytest.mark.parametrize("order_first", [True, False])
@pytest.mark.parametrize("charge_pipeline", [True, False])
def test_the_serial_line_is_a_case(order_first: bool, charge_pipeline: bool) -> None:
    """To 1e-12 of a loop over stages, and its gradient."""
    demand = torch.from_numpy(numpy.maximum(numpy.random.default_rng(1).normal(5, 2, (70, 200)), 0))
    one, two = (double(20, 25, 42).requires_grad_() for _ in range(2))
    ours = serial.average_cost(
        one,
        demand,
        lambda state: (one - state.echelon_position()).clamp_min(0),
        lead_time=double(2, 1, 3),
        holding_cost=double(1.0, 0.5, 0.2),
        stockout_cost=9.0,
        order_first=order_first,
        charge_pipeline=charge_pipeline,
    )
    plain = serial_cost_by_hand(two, demand, order_first=order_first, charge_pipeline=charge_pipeline)
    assert torch.allclose(ours, plain, rtol=1e-12, atol=0)
    assert torch.allclose(torch.autograd.grad(ours.mean(), one)[0], torch.autograd.grad(plain.mean(), two)[0], rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- batches


def warehouse(level: Tensor, demand: Tensor, **rules: Any) -> Rollout:
    """One warehouse and three stores under echelon base-stock levels `(..., 4)`; demand `(T, S, 4)`."""
    world = World(network=Network.distribution(3), lead_time=double(2, 3, 2, 3), events=(receive, order, serve), **rules)
    penalty = double(9, 9, 9, 0).to(level)
    costs = Costs(holding=double(1, 1, 1, 0.3).to(level), lost_sale=penalty, backorder=penalty)

    def policy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return (level[..., None, :] - state.echelon_position()).clamp_min(0)

    begin = start(world, torch.zeros_like(level.detach()), paths=demand.shape[-2])
    return rollout(world, policy, Noise(demand), start=begin, relax=Exact(), price=partial(path_cost, costs=costs), warm_up=5)


def demands(periods: int = 30, paths: int = 16) -> Tensor:
    return torch.from_numpy(numpy.random.default_rng(0).poisson([5.0, 3.0, 4.0, 0.0], (periods, paths, 4)).astype(float))


def test_candidates_are_leading_dimensions_and_shards_are_the_whole() -> None:
    levels, demand = double(20, 15, 18, 70) + torch.arange(6, dtype=torch.float64).reshape(2, 3, 1), demands()
    together = warehouse(levels, demand).total
    assert together is not None
    assert together.shape == (2, 3, 16)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], warehouse(levels[i, j], demand).total)
    assert torch.equal(together, torch.cat([warehouse(levels, part).total for part in (demand[:, :5], demand[:, 5:])], -1))  # type: ignore[misc]


def test_layout_and_precision_do_not_matter() -> None:
    """Paths may lie innermost in memory, which is faster where points are few; single precision counts the same whole units."""
    level, demand = double(20, 15, 18, 70), demands()
    for wait in (0.0, 1.0):
        row = warehouse(level, demand, wait=wait, ration=ByPriority(double(1, 2, 3, 0)))
        column = warehouse(level, demand.mT.contiguous().mT, wait=wait, ration=ByPriority(double(1, 2, 3, 0)))
        single = warehouse(level.float(), demand.float(), wait=wait, ration=ByPriority(torch.tensor([1.0, 2.0, 3.0, 0.0])))
        assert torch.equal(row.state.on_hand, column.state.on_hand)
        assert torch.equal(row.state.on_hand.float(), single.state.on_hand)
        assert torch.equal(row.state.backorder.float(), single.state.backorder)
        assert single.state.on_hand.dtype == torch.float32
        assert row.total is not None
        assert column.total is not None
        assert torch.allclose(row.total, column.total, rtol=1e-14)


@pytest.mark.gpu
def test_the_gpu_plays_as_the_cpu_does() -> None:
    """The same program, without a device argument: every tensor says where it lives."""
    found = []
    for device in ("cpu", "cuda"):
        level = double(20, 15, 18, 70).to(device).requires_grad_()
        total = warehouse(level, demands().to(device), wait=0.5).total
        assert total is not None
        assert total.device.type == device
        found.append((total.detach().cpu(), torch.autograd.grad(total.mean(), level)[0].cpu()))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-12)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-9)


@pytest.mark.parametrize("wait", [0.0, 1.0, 0.25])
def test_the_gradient_of_a_network_is_that_of_differences(wait: float) -> None:
    level, demand = double(20.3, 15.1, 18.7, 60.9).requires_grad_(), demands(40, 200) + 0.5 * torch.rand(40, 200, 4, dtype=torch.float64)
    total = warehouse(level, demand, wait=wait).total
    assert total is not None
    (slope,) = torch.autograd.grad(total.mean(), level)
    for i in range(4):
        h = torch.zeros(4, dtype=torch.float64)
        h[i] = 1e-6
        up, down = (warehouse(level.detach() + s * h, demand, wait=wait).total for s in (1, -1))
        assert up is not None
        assert down is not None
        assert abs(float((up - down).mean() / 2e-6) - float(slope[i])) < 1e-3 * (1 + abs(float(slope[i])))
