"""Lot sizes: the printed answers, costs against a simulation of cycles, error texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pytest

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search.economic_order_quantity import DisruptedSupply, EconomicOrderQuantity, UncertainYield
from dpsc.types import Instance


@pytest.mark.parametrize("instance", textbook.LOT_SIZES, ids=lambda i: i.name)
def test_economic_order_quantity(instance: Instance) -> None:
    found = EconomicOrderQuantity(**instance.parameters).optimum()
    assert abs(found.order_quantity - instance.known["order_quantity"]) < 6e-5
    assert abs(found.cost - instance.known["cost"]) < 6e-5
    assert abs(found.backorder_share - instance.known.get("backorder_share", 0.0)) < 6e-7


def test_disruptions() -> None:
    problem = DisruptedSupply(**textbook.DISRUPTED.parameters)
    found = problem.optimum()
    assert abs(found.order_quantity - textbook.DISRUPTED.known["order_quantity"]) < 6e-5
    assert abs(found.cost - textbook.DISRUPTED.known["cost"]) < 6e-5
    assert problem.cost(found.order_quantity * 1.01) > found.cost < problem.cost(found.order_quantity * 0.99)


def test_disruptions_by_simulating_cycles() -> None:
    p = textbook.DISRUPTED.parameters
    draw = numpy.random.default_rng(0)
    q, cycles = 500.0, 400_000
    spans = q / p["demand_rate"]
    # supply works when a cycle begins; after a time `spans` it is down with probability psi, and then away for an exponential time
    down = draw.random(cycles) < p["disruption_rate"] / (p["disruption_rate"] + p["recovery_rate"]) * (
        1 - numpy.exp(-(p["disruption_rate"] + p["recovery_rate"]) * spans)
    )
    wait = down * draw.exponential(1 / p["recovery_rate"], cycles)
    cost = p["order_cost"] + p["holding_cost"] * q * spans / 2 + p["stockout_cost"] * p["demand_rate"] * wait
    ratio = cost.mean() / (spans + wait).mean()
    error = (cost - ratio * (spans + wait)).std() / cycles**0.5 / (spans + wait).mean()
    assert abs(ratio - DisruptedSupply(**p).cost(q)) < 4 * error


@pytest.mark.parametrize("instance", textbook.YIELDS, ids=lambda i: i.name)
def test_yields(instance: Instance) -> None:
    problem = UncertainYield(**instance.parameters)
    found = problem.optimum()
    assert abs(found.order_quantity - instance.known["order_quantity"]) < 6e-3
    assert abs(found.cost - instance.known["cost"]) < 6e-4
    assert problem.cost(found.order_quantity * 1.01) > found.cost < problem.cost(found.order_quantity * 0.99)


def test_a_certain_yield_is_the_plain_problem() -> None:
    plain = EconomicOrderQuantity(8.0, 0.225, 1300.0).optimum()
    for kind, mean in (("additive", 0.0), ("multiplicative", 1.0)):
        found = UncertainYield(8.0, 0.225, 1300.0, mean, 0.0, kind).optimum()
        assert abs(found.order_quantity - plain.order_quantity) < 1e-9
        assert abs(found.cost - plain.cost) < 1e-12


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: EconomicOrderQuantity(0.0, 1.0, 1.0), r"order_cost must be a finite number > 0, got 0.0"),
        (lambda: EconomicOrderQuantity(1.0, 1.0, 1.0, -1.0), r"stockout_cost must be a finite number > 0, got -1.0"),
        (lambda: EconomicOrderQuantity(1.0, 1.0, 1.0).cost(0.0), r"order_quantity must be a finite number > 0"),
        (lambda: DisruptedSupply(1.0, 1.0, 1.0, 1.0, 0.0, 1.0), r"disruption_rate must be a finite number > 0"),
        (lambda: UncertainYield(1.0, 1.0, 1.0, 1.0, 1.0, "random"), r"kind must be one of additive, multiplicative; got 'random'"),
        (lambda: UncertainYield(1.0, 1.0, 1.0, 1.0, -1.0, "additive"), r"yield_deviation must be >= 0, got -1.0"),
        (lambda: UncertainYield(1.0, 1.0, 1.0, -5.0, 1.0, "additive").cost(4.0), r"so large that something arrives on average, got 4.0"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
