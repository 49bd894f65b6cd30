"""Every feature of the inventory world, over random networks: against plain Python, whole numbers to the last unit; and units, under every reading."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpsc.relax import Exact, Logistic, Smoothed, StraightThrough
from dpsc.simulate import (
    ByPriority,
    Edge,
    Network,
    Noise,
    State,
    World,
    expire,
    newest_first,
    oldest_first,
    order,
    proportional,
    receive,
    rollout,
    serve,
    start,
)
from dpsc.types import Context, Relaxation
from tests.simulate.plain import Plain

PERIODS, PATHS = 7, 2
FUTURES = ("order", "demand", "lead_time", "yield", "running", "return_lag", "return_uniform", "wait_uniform", "yield_uniform")
EVENTS: dict[str, Any] = {"half": partial(receive, share=0.5), "receive": receive, "order": order, "serve": serve, "expire": expire}


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A network without cycles (points draw on points of higher number), rules, and futures, all in plain numbers."""

    def each(count: int, values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    def table(count: int, values: st.SearchStrategy[Any]) -> list[list[list[Any]]]:
        return [[each(count, values) for _ in range(PATHS)] for _ in range(PERIODS)]

    points = draw(st.integers(1, 4))
    edges = []
    for i in [*range(points), *draw(st.lists(st.integers(0, points - 1), max_size=2))]:
        above = draw(st.lists(st.integers(i + 1, points - 1), max_size=2, unique=True)) if i + 1 < points else []
        edges.append((i, {j: draw(st.integers(1, 2)) for j in above}))
    count = len(edges)
    perishes = draw(st.booleans())
    events = draw(st.permutations(["half", "serve", "receive", "order", *(["expire"] if perishes else [])]))
    shortest = 0 if "receive" in events[events.index("order") :] else 1
    pack = each(count, st.integers(1, 3)) if draw(st.booleans()) else None
    size = pack or [1] * count
    quarters = st.integers(0, 4).map(lambda k: Fraction(k, 4))
    uniforms = st.integers(0, 15).map(lambda k: Fraction(k, 16))
    return {
        "edges": edges,
        "events": events,
        "on_hand": each(points, st.integers(0, 12)),
        "shelf_life": each(points, st.sampled_from([1, 2, 3, math.inf])) if perishes else [math.inf] * points,
        "perishes": perishes,
        "newest": draw(st.booleans()),
        "wait": draw(st.sampled_from([[Fraction(0)] * points, [Fraction(1)] * points, each(points, quarters)])),
        "return_rate": each(points, quarters),
        "priority": each(count, st.integers(0, 2)) if draw(st.booleans()) else None,
        "pack": pack,
        "minimum": [p * draw(st.integers(0, 2)) for p in size] if draw(st.booleans()) else None,
        "capacity": [p * draw(st.integers(2, 3)) for p in size] if draw(st.booleans()) else None,
        "review": each(count, st.integers(1, 2)),
        "order": table(count, st.integers(0, 9)),
        "demand": table(points, st.integers(0, 7)),
        "lead_time": table(count, st.integers(shortest, 3)),
        "yield": table(count, quarters),
        "running": table(count, st.integers(0, 1)),
        "return_lag": table(points, st.integers(1, 2)),
        "return_uniform": table(points, uniforms),
        "wait_uniform": table(points, uniforms),
        "yield_uniform": table(count, uniforms),
    }


def numbers(values: Any) -> Tensor:
    return tensor([[[float(x) for x in row] for row in rows] for rows in values])


def played(case: dict[str, Any], relax: Relaxation, *, whole: bool = True) -> tuple[World, State, Any, Noise]:
    points = len(case["on_hand"])
    wait = tensor([float(w) for w in case["wait"]])
    network = Network(points, [Edge(to, draws) for to, draws in case["edges"]])
    world = World(
        network=network,
        events=tuple(EVENTS[name] for name in case["events"]),
        lead_time=torch.full((len(case["edges"]),), 3.0, dtype=torch.float64),
        wait=float(wait[0]) if bool((wait == wait[0]).all()) else wait,
        review_period=tensor(case["review"]).double(),
        pack=None if case["pack"] is None else tensor(case["pack"]).double(),
        minimum_order=None if case["minimum"] is None else tensor(case["minimum"]).double(),
        capacity=None if case["capacity"] is None else tensor(case["capacity"]).double(),
        ration=proportional if case["priority"] is None else ByPriority(tensor(case["priority"]).double()),
        shelf_life=tensor(case["shelf_life"]).double() if case["perishes"] else None,
        issue=newest_first if case["newest"] else oldest_first,
        return_rate=tensor([float(r) for r in case["return_rate"]]),
        return_lag=torch.full((points,), 2.0, dtype=torch.float64),
        whole=whole,
    )
    noise = Noise(
        *(numbers(case[name]) for name in ("demand", "lead_time", "yield", "running", "return_lag", "return_uniform", "wait_uniform", "yield_uniform"))
    )
    orders = numbers(case["order"])

    def policy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return orders[context.period]

    result = rollout(world, policy, noise, start=start(world, tensor(case["on_hand"]).double(), paths=PATHS), relax=relax)
    return world, result.state, result.flow, noise


@settings(max_examples=50)
@given(cases())
def test_every_feature_is_what_plain_python_computes(case: dict[str, Any]) -> None:
    rules = ("edges", "on_hand", "shelf_life", "newest", "wait", "return_rate", "priority", "pack", "minimum", "capacity", "review")
    flow = played(case, Exact())[2]
    for path in range(PATHS):
        plain = Plain(**{name: case[name] for name in rules})
        for t in range(PERIODS):
            plain.period(
                t, list(case["events"]), {name: case[name][t][path] for name in case if isinstance(case[name], list) and name not in (*rules, "events")}
            )
        for t, expected in enumerate(plain.log):
            for name, values in expected.items():
                assert getattr(flow, name)[t, path].tolist() == values, (name, t, path)


def unbalanced(world: World, state: State, flow: Any, noise: Noise, on_hand: Tensor) -> list[float]:
    """What is made or lost anywhere, units: at points, on edges, among those who wait, and of returns in all."""
    draws = torch.zeros(len(world.network.edges), world.network.points, dtype=torch.float64)
    for k, edge in enumerate(world.network.edges):
        for i, units in edge.draws.items():
            draws[k, i] = units
    before = torch.cat([on_hand.expand_as(flow.on_hand[:1]), flow.on_hand[:-1]])
    points = before + flow.received + flow.returned - flow.sales - flow.waste - flow.shipped @ draws - flow.on_hand
    waited = torch.cat([torch.zeros_like(flow.backorder[:1]), flow.backorder[:-1]])
    waiting = waited + noise.demand - flow.sales - flow.lost_sales - flow.backorder
    edges = world.network.delivered(flow.shipped - flow.spoiled).sum(0) - flow.received.sum(0) - world.network.delivered(state.on_order)
    gaps = [points, waiting, edges]
    if state.ages is not None:
        gaps.append(state.ages.sum(0) - state.on_hand)
    return [float(gap.abs().max()) for gap in gaps]


@settings(max_examples=30)
@given(cases(), st.booleans())
def test_units_are_neither_made_nor_lost(case: dict[str, Any], whole: bool) -> None:
    """To the last unit when read exactly or straight-through; to 1e-10 when smoothed, or when units are divisible."""
    on_hand = tensor(case["on_hand"]).double()
    exact = played(case, Exact(), whole=whole)
    for relax in (Exact(), StraightThrough(Logistic(0.25)), Smoothed(Logistic(0.25))):
        world, state, flow, noise = played(case, relax, whole=whole)
        gaps = unbalanced(world, state, flow, noise, on_hand)
        assert max(gaps) <= (1e-10 if isinstance(relax, Smoothed) or not whole else 0.0), gaps
        if not isinstance(relax, Smoothed):
            for name in ("on_hand", "backorder", "sales", "shipped", "waste"):
                assert torch.equal(getattr(flow, name), getattr(exact[2], name))
                assert float(getattr(flow, name).min()) >= 0 or not whole
