"""Lot plans: printed answers, enumeration, error texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy
import pytest

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search.wagner_whitin import plan_cost, wagner_whitin
from dpsc.types import Instance


@pytest.mark.parametrize("instance", textbook.LOT_PLANS, ids=lambda i: i.name)
def test_printed_plans(instance: Instance) -> None:
    found = wagner_whitin(**instance.parameters)
    assert list(found.orders) == instance.known["orders"]
    assert found.cost == instance.known["cost"]


def test_every_plan_of_six_periods() -> None:
    draw = numpy.random.default_rng(0)
    for _ in range(20):
        problem = {
            "demand": draw.integers(0, 60, 6).astype(float).tolist(),
            "order_cost": float(draw.uniform(10, 200)),
            "holding_cost": float(draw.uniform(0.1, 3)),
        }
        best = float("inf")
        for opened in itertools.product((False, True), repeat=6):
            orders, at = [0.0] * 6, None
            for t, d in enumerate(problem["demand"]):
                at = t if opened[t] or at is None else at
                orders[at] += d
            best = min(best, plan_cost(orders, **problem))
        found = wagner_whitin(**problem)
        assert abs(found.cost - best) < 1e-9
        assert abs(plan_cost(found.orders, **problem) - found.cost) < 1e-9


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wagner_whitin(demand=[], order_cost=1.0, holding_cost=1.0), r"demand must be a list of numbers >= 0, got \[\]"),
        (lambda: wagner_whitin(demand=[1.0, -2.0], order_cost=1.0, holding_cost=1.0), r"demand must be a list of numbers >= 0, got \[1.0, -2.0\]"),
        (lambda: wagner_whitin(demand=[1.0], order_cost=-1.0, holding_cost=1.0), r"order_cost must be >= 0, got -1.0"),
        (lambda: wagner_whitin(demand=[1.0], order_cost=1.0, holding_cost=-1.0), r"holding_cost must be >= 0, got -1.0"),
        (lambda: plan_cost([0.0, 3.0], demand=[1.0, 2.0], order_cost=1.0, holding_cost=1.0), r"orders must cover demand, got a shortage of 1.0 in period 0"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
