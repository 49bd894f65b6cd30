"""(r, Q): printed answers, enumeration, integration, error texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scipy import integrate

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search.reorder_quantity import NormalReorder, PoissonReorder
from dpsc.types import Instance

NORMAL = NormalReorder(**textbook.NORMAL_REORDER.parameters)


@pytest.mark.parametrize("instance", textbook.POISSON_REORDER, ids=lambda i: i.name)
def test_poisson(instance: Instance) -> None:
    problem = PoissonReorder(**instance.parameters)
    found, known = problem.optimum(), instance.known
    assert (found.reorder_point, found.order_quantity) == (known["reorder_point"], known["order_quantity"])
    assert abs(found.cost - known["cost"]) < 6e-6
    everything = {(r, q): problem.cost(r, q) for r in range(-5, 15) for q in range(1, 15)}
    assert min(everything, key=lambda pair: everything[pair]) == (known["reorder_point"], known["order_quantity"])


@pytest.mark.parametrize("name", ["expected_inventory", "backorder_quantity", "safety_stock", "loss_function"])
def test_approximations(name: str) -> None:
    found, (r, q) = getattr(NORMAL, name)(), textbook.NORMAL_REORDER.known[name]
    assert abs(found.reorder_point - r) < 6e-4
    assert abs(found.order_quantity - q) < 6e-4
    if name == "expected_inventory":
        assert abs(found.cost - textbook.NORMAL_REORDER.known["expected_inventory_cost"]) < 6e-4
    assert NORMAL.cost(found.reorder_point, found.order_quantity) >= NORMAL.optimum().cost - 1e-9


def test_the_exact_cost_is_the_mean_of_g_and_its_optimum_is_one() -> None:
    r, q = 130.0, 320.0
    held = integrate.quad(NORMAL._rate, r, r + q)[0]
    assert abs(NORMAL.cost(r, q) - (NORMAL.order_cost * NORMAL.demand_rate + held) / q) < 1e-9
    best = NORMAL.optimum()
    for move in ((0.5, 0), (-0.5, 0), (0, 1.0), (0, -1.0)):
        assert NORMAL.cost(best.reorder_point + move[0], best.order_quantity + move[1]) > best.cost
    assert abs(NORMAL._rate(best.reorder_point) - best.cost) < 1e-6  # Zheng: at the optimum g(r) = g(r + Q) = the cost


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: PoissonReorder(1.0, 0.0, 1.0, 1.0, 1.0), r"lead_time must be a finite number > 0, got 0.0"),
        (lambda: PoissonReorder(1.0, 1.0, 1.0, 1.0, 1.0).cost(2, 0), r"order_quantity must be an integer >= 1, got 0"),
        (lambda: NormalReorder(1.0, -1.0, 1.0, 1.0, 1.0, 1.0), r"deviation must be a finite number > 0, got -1.0"),
        (lambda: NORMAL.cost(1.0, 0.0), r"order_quantity must be a finite number > 0"),
        (lambda: NormalReorder(1.0, 1.0, 1.0, 100.0, 1.0, 0.1).expected_inventory(), r"stockout_cost must be so large that h Q < p lambda"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
