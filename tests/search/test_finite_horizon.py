"""Finite horizons: printed answers, a Monte Carlo price, one period by the newsvendor, error texts."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search.finite_horizon import FiniteHorizon
from dpsc.search.newsvendor import NormalNewsvendor
from dpsc.types import Instance


@pytest.mark.parametrize("instance", textbook.HORIZONS, ids=lambda i: i.name)
def test_printed_answers(instance: Instance) -> None:
    known = instance.known
    found = FiniteHorizon(**instance.parameters, **known["convention"]).optimum()
    assert abs(found.cost - known["cost"]) < 6e-6
    assert list(found.order_up_to_levels) == known["order_up_to_levels"]
    assert list(found.reorder_points) == known.get("reorder_points", known["order_up_to_levels"])
    exact = FiniteHorizon(**instance.parameters)
    best = exact.optimum()
    assert abs(best.cost - known["cost"]) < 2e-4 * known["cost"]
    assert abs(exact.cost(best.reorder_points, best.order_up_to_levels) - best.cost) < 1e-9
    other = [*best.order_up_to_levels[:4], best.order_up_to_levels[4] + 2, *best.order_up_to_levels[5:]]
    assert exact.cost(best.reorder_points, other) > best.cost


def test_the_price_of_a_plan_by_simulation() -> None:
    problem = FiniteHorizon(**textbook.HORIZONS[1].parameters)
    points, levels = [15] * 10, [40] * 9 + [25]
    draw = numpy.random.default_rng(0)
    paths = 100_000
    x, total, factor = numpy.zeros(paths), numpy.zeros(paths), 1.0
    for s, top in zip(points, levels, strict=True):
        low = (x <= s) & (x < top)
        total += factor * (problem.order_cost * low + problem.purchase_cost * low * (top - x))
        x = numpy.where(low, top, x)
        d = draw.normal(problem.mean_demand, problem.deviation, paths)
        total += factor * (problem.holding_cost * numpy.maximum(x - d, 0) + problem.stockout_cost * numpy.maximum(d - x, 0))
        x = x - numpy.maximum(numpy.round(d), 0)
        factor *= problem.discount
    total += factor * (problem.terminal_holding_cost * numpy.maximum(x, 0) + problem.terminal_stockout_cost * numpy.maximum(-x, 0))
    assert abs(total.mean() - problem.cost(points, levels)) < 4 * total.std() / paths**0.5


GOOD: dict[str, Any] = {
    "periods": 1, "mean_demand": 50.0, "deviation": 8.0, "holding_cost": 0.18, "stockout_cost": 0.7, "purchase_cost": 0.0, "order_cost": 0.0,
    "terminal_holding_cost": 0.0, "terminal_stockout_cost": 0.0, "discount": 1.0,
}  # fmt: skip


def test_one_period_is_a_newsvendor_of_whole_units() -> None:
    found = FiniteHorizon(**GOOD).optimum()
    newsvendor = NormalNewsvendor(50.0, 8.0, 0.18, 0.7)
    assert found.order_up_to_levels == (round(newsvendor.optimum().level),)
    assert abs(found.cost - newsvendor.cost(found.order_up_to_levels[0])) < 1e-12


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"periods": 0}, r"periods must be an integer >= 1, got 0"),
        ({"deviation": 0.0}, r"deviation must be a finite number > 0"),
        ({"order_cost": -1.0}, r"order_cost must be >= 0, got -1.0"),
        ({"discount": 1.5}, r"discount must lie in \(0, 1\], got 1.5"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        FiniteHorizon(**{**GOOD, **change})


def test_plans_of_the_wrong_length_or_range_are_named() -> None:
    with pytest.raises(InputError, match=r"must have one entry a period, 1, got 2 and 1"):
        FiniteHorizon(**GOOD).cost([1, 2], [3])
    with pytest.raises(InputError, match=r"order_up_to_levels must lie in \[-190, 140\], got \[900\]"):
        FiniteHorizon(**GOOD).cost([1], [900])
