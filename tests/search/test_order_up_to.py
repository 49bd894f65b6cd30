"""(s, S): published and printed answers, the chain of the other referee, error texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dpsc.errors import InputError
from dpsc.instances import average_cost, textbook
from dpsc.objective import poisson_pmf
from dpsc.search.order_up_to import OrderUpToCost, power_approximation
from dpsc.types import Instance


def referee(instance: Instance) -> OrderUpToCost:
    p = instance.parameters
    pmf = poisson_pmf(torch.tensor(p["mean_demand"], dtype=torch.float64), int(2 * p["mean_demand"]) + 40)
    return OrderUpToCost(pmf, holding_cost=p["holding_cost"], stockout_cost=p["stockout_cost"], order_cost=p["order_cost"])


@pytest.mark.parametrize("instance", [*textbook.ORDER_UP_TO, *average_cost.FIXED_COSTS], ids=lambda i: i.name)
def test_published_optima(instance: Instance) -> None:
    of = referee(instance)
    found, known = of.optimum(), instance.known
    assert (found.reorder_point, found.order_up_to_level) == (known["reorder_point"], known["order_up_to_level"])
    assert abs(found.cost - known["cost"]) < 6e-5
    s, top = known["reorder_point"], known["order_up_to_level"]
    assert all(of.cost(s + i, top + j) >= found.cost - 1e-12 for i in (-1, 0, 1) for j in (-2, -1, 0, 1, 2))


def test_a_cycle_by_its_chain() -> None:
    """Stationary distribution of the inventory after ordering, solved directly."""
    of, s, top = referee(textbook.ORDER_UP_TO[0]), 3, 9
    pmf = poisson_pmf(torch.tensor(6.0, dtype=torch.float64), 52)
    states = list(range(s + 1, top + 1))
    move = torch.zeros(len(states), len(states), dtype=torch.float64)
    orders = torch.zeros(len(states), dtype=torch.float64)
    for i, y in enumerate(states):
        for d, p in enumerate(pmf.tolist()):
            low = y - d <= s
            move[i, states.index(top if low else y - d)] += p
            orders[i] += p * low
    share = torch.linalg.matrix_power(move, 1024)[0]
    cost = sum(float(w) * (of.period(y) + 5.0 * float(o)) for w, y, o in zip(share, states, orders, strict=True))
    assert abs(cost - of.cost(s, top)) < 1e-9


def test_power_approximation() -> None:
    p, known = textbook.POWER_APPROXIMATION.parameters, textbook.POWER_APPROXIMATION.known
    s, top = power_approximation(**p)
    assert abs(s - known["reorder_point"]) < 6e-5
    assert abs(top - known["order_up_to_level"]) < 6e-5
    assert (
        abs(power_approximation(**p, cut=True)[1] - textbook.NEWSVENDORS[0].known["level"]) < 1e-5
    )  # its lots are short: both are cut at the base-stock level
    assert power_approximation(**{**p, "order_cost": 500.0}, cut=True) == power_approximation(**{**p, "order_cost": 500.0})


PMF = torch.tensor([0.5, 0.5], dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: OrderUpToCost(PMF, holding_cost=1.0, stockout_cost=9.0, order_cost=-1.0), r"order_cost must be >= 0, got -1.0"),
        (lambda: OrderUpToCost(PMF[:1] * 2, holding_cost=1.0, stockout_cost=9.0, order_cost=1.0), r"must leave a chance of some demand"),
        (lambda: OrderUpToCost(PMF, holding_cost=0.0, stockout_cost=9.0, order_cost=1.0), r"holding_cost must be a finite number > 0"),
        (
            lambda: OrderUpToCost(PMF, holding_cost=1.0, stockout_cost=9.0, order_cost=1.0).cost(3, 3),
            r"reorder_point must be below order_up_to_level, got 3 and 3",
        ),
        (lambda: power_approximation(mean_demand=0.0, deviation=1.0, holding_cost=1.0, stockout_cost=1.0, order_cost=1.0), r"mean_demand must be a finite"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
