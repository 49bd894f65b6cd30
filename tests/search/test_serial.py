"""Serial systems: published optima, the price of given levels, and a simulation written from the definition."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import scipy.stats

from dpsc.errors import InputError
from dpsc.instances import serial, textbook
from dpsc.search import serial_cost
from dpsc.types import Instance


@pytest.mark.parametrize("instance", serial.ALL, ids=lambda i: i.name)
def test_published_optima(instance: Instance) -> None:
    found = serial_cost(**instance.parameters)
    assert abs(found.cost - instance.known["cost"]) < 2e-4
    assert numpy.abs(numpy.array(found.levels) - instance.known["levels"]).max() < 0.03
    again = serial_cost(**instance.parameters, levels=instance.known["levels"])
    assert abs(again.cost - instance.known["cost"]) < 2e-4
    worse = serial_cost(**instance.parameters, levels=[x + 2 for x in instance.known["levels"]])
    assert worse.cost > found.cost + 0.01


def test_one_stage_is_a_newsvendor() -> None:
    found = serial_cost(mean_demand=50.0, deviation=8.0, clipped=False, holding_cost=[0.18], lead_time=[4], stockout_cost=0.70, order_first=True)
    cover = scipy.stats.norm(50 * 5, 8 * 5**0.5)
    level = cover.ppf(0.70 / 0.88)
    assert abs(found.levels[0] - level) < 0.02
    assert abs(level - 264.7669) < 1e-3  # Snyder & Shen, example 4.4
    assert abs(found.cost - 4.4668) < 2e-4


@pytest.mark.parametrize("order_first", [True, False])
def test_against_a_simulation_of_the_definition(order_first: bool) -> None:
    h, lead, p, levels = [1.0, 0.4], [2, 1], 6.0, [18.0 + 5 * order_first, 25.0 + 5 * order_first]
    exact = serial_cost(
        mean_demand=5.0, deviation=2.0, clipped=True, holding_cost=h, lead_time=lead, stockout_cost=p, order_first=order_first, levels=levels
    ).cost
    demand = numpy.maximum(numpy.random.default_rng(0).normal(5, 2, (500, 4000)), 0)
    hand = [numpy.full(4000, levels[0]), numpy.full(4000, levels[1] - levels[0])]
    pipe = [[numpy.zeros(4000)] * k for k in lead]
    cost = numpy.zeros(4000)
    for t, wanted in enumerate(demand):
        hand = [x + q[0] for x, q in zip(hand, pipe, strict=True)]
        pipe = [q[1:] for q in pipe]
        if not order_first:
            hand[0] = hand[0] - wanted
        first = hand[0] + sum(pipe[0])
        sent = numpy.minimum(numpy.maximum(levels[0] - first, 0), hand[1])
        bought = numpy.maximum(levels[1] - first - hand[1] - sum(pipe[1]), 0)
        hand[1] = hand[1] - sent
        pipe = [[*pipe[0], sent], [*pipe[1], bought]]
        if order_first:
            hand[0] = hand[0] - wanted
        if t >= 100:
            cost += numpy.maximum(hand[0], 0) + p * numpy.maximum(-hand[0], 0) + 0.4 * hand[1]
    cost /= len(demand) - 100
    assert abs(cost.mean() - exact) < 4 * cost.std() / 4000**0.5 + 1e-3


@pytest.mark.parametrize("instance", textbook.SERIAL_POISSON, ids=lambda i: i.name)
def test_poisson_demand(instance: Instance) -> None:
    p = instance.parameters
    holding = [sum(p["echelon_holding_cost"][i:]) for i in range(4)]
    call = functools.partial(
        serial_cost, mean_demand=16.0, deviation=4.0, clipped=False, holding_cost=holding, lead_time=p["lead_time"], stockout_cost=p["stockout_cost"],
        order_first=False, charge_pipeline=True, law="poisson",
    )  # fmt: skip
    assert abs(call(**instance.known["convention"]).cost - instance.known["cost"]) < 6e-6
    exact = call()
    assert all(level == round(level) for level in exact.levels)
    assert abs(call(levels=exact.levels).cost - exact.cost) < 1e-12
    assert 0 < exact.cost / instance.known["cost"] - 1 < 6e-4


def test_a_fraction_of_a_period_is_a_shorter_period() -> None:
    half = serial_cost(
        mean_demand=64.0,
        deviation=8.0,
        clipped=False,
        holding_cost=[2.0, 1.0],
        lead_time=[0.5, 0.5],
        stockout_cost=9.0,
        order_first=False,
        charge_pipeline=True,
    )
    whole = serial_cost(
        mean_demand=32.0, deviation=8.0 * 0.5**0.5, clipped=False, holding_cost=[2.0, 1.0], lead_time=[1, 1], stockout_cost=9.0, order_first=False,
        charge_pipeline=True,
    )  # fmt: skip
    assert abs(half.cost - whole.cost) < 1e-9


GOOD: dict[str, Any] = {
    "mean_demand": 5.0, "deviation": 1.0, "clipped": False, "holding_cost": [2.0, 1.0], "lead_time": [1, 2], "stockout_cost": 9.0, "order_first": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"holding_cost": [1.0, 2.0]}, r"holding_cost must fall from stage to stage and stay > 0, got \[1.0, 2.0\]"),
        ({"lead_time": [1]}, r"must have one entry a stage, got 2, 1 and 2"),
        ({"lead_time": [0, 1]}, r"lead_time must be a finite number > 0, got 0"),
        ({"lead_time": [0, 1], "clipped": True}, r"lead_time must be an integer >= 1, got 0"),
        ({"law": "gamma"}, r"law must be one of normal, poisson; got 'gamma'"),
        ({"levels": [1.0]}, r"must have one entry a stage, got 2, 2 and 1"),
        ({"stockout_cost": -1.0}, r"stockout_cost must be a finite number > 0, got -1.0"),
        ({"deviation": float("nan")}, r"deviation must be a finite number > 0, got nan"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], text: str) -> None:
    call: Callable[..., object] = serial_cost
    with pytest.raises(InputError, match=text):
        call(**{**GOOD, **change})
