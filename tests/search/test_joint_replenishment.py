"""Joint replenishment: known optima, a plan by hand, error texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search import EconomicOrderQuantity, JointReplenishment
from dpsc.types import Instance


@pytest.mark.parametrize("instance", textbook.JOINT, ids=lambda i: i.name)
def test_known_optima(instance: Instance) -> None:
    found = JointReplenishment(**instance.parameters).optimum(largest=8)
    assert list(found.multiples) == instance.known["multiples"]
    assert abs(found.cost - instance.known["cost"]) < 6e-5


def test_the_cycle_time_is_the_best() -> None:
    problem = JointReplenishment(**textbook.JOINT[0].parameters)
    plan = problem.plan([1, 2, 1])
    fixed, held = 600 + 120 + 420 + 300, 160 + 40 + 50
    for cycle in (plan.cycle_time, 0.99 * plan.cycle_time, 1.01 * plan.cycle_time):
        assert fixed / cycle + held * cycle / 2 >= plan.cost - 1e-9
    assert abs(fixed / plan.cycle_time + held * plan.cycle_time / 2 - plan.cost) < 1e-9


def test_one_item_is_an_economic_order_quantity() -> None:
    found = JointReplenishment(5.0, [3.0], [0.225], [1300.0]).optimum()
    assert abs(found.cost - EconomicOrderQuantity(8.0, 0.225, 1300.0).optimum().cost) < 1e-9


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: JointReplenishment(0.0, [1.0], [1.0], [1.0]), r"order_cost must be a finite number > 0, got 0.0"),
        (lambda: JointReplenishment(1.0, [1.0], [1.0, 2.0], [1.0]), r"must have one entry an item, got 1, 2 and 1"),
        (lambda: JointReplenishment(1.0, [1.0], [-1.0], [1.0]), r"holding_cost must be a finite number > 0, got -1.0"),
        (lambda: JointReplenishment(1.0, [1.0], [1.0], [1.0]).plan([0]), r"multiples must be an integer >= 1, got 0"),
        (lambda: JointReplenishment(1.0, [1.0], [1.0], [1.0]).plan([1, 1]), r"multiples must have one entry an item, 1, got 2"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
