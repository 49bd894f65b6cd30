"""The referee of average costs reproduces every published optimum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dpsc.errors import InputError
from dpsc.instances.average_cost import BATCHES, FIXED_COSTS, MINIMUM_ORDERS
from dpsc.objective import poisson_pmf
from dpsc.search import average_cost_optimum
from dpsc.types import Instance


def solve(instance: Instance, largest: int, lowest: int) -> object:
    p = instance.parameters
    order = torch.arange(largest + 1)
    allowed = order % p["batch"] == 0 if "batch" in p else (order == 0) | (order >= p.get("minimum_order", 1))
    return average_cost_optimum(
        allowed=allowed,
        demand_pmf=poisson_pmf(torch.tensor(p["mean_demand"], dtype=torch.float64), 30 + 3 * int(p["mean_demand"])),
        lowest=lowest,
        holding_cost=p["holding_cost"],
        stockout_cost=p["stockout_cost"],
        order_cost=p.get("order_cost", 0.0),
    )


@pytest.mark.parametrize("instance", [*MINIMUM_ORDERS, BATCHES], ids=lambda i: i.name)
def test_minimum_orders_and_batches(instance: Instance) -> None:
    found = solve(instance, 60, -60)
    assert abs(found.cost - instance.known["cost"]) < 1e-5
    assert found.error < 1e-7


@pytest.mark.parametrize("instance", FIXED_COSTS, ids=lambda i: i.name)
def test_fixed_costs(instance: Instance) -> None:
    lowest = -max(100, int(3.2 * instance.parameters["mean_demand"]))
    found = solve(instance, -lowest, lowest)
    assert abs(found.cost - instance.known["cost"]) < 1e-4
    s, level = instance.known["reorder_point"], instance.known["order_up_to_level"]
    assert int(found.order[s - lowest]) == level - s
    assert int(found.order[s - lowest + 1]) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"allowed": torch.zeros(5, dtype=torch.bool)}, r"allowed must be a bool vector over the orders 0 ... Q, with 0 allowed"),
        ({"allowed": torch.zeros(0, dtype=torch.bool)}, r"allowed must be a bool vector"),
        ({"demand_pmf": torch.tensor([0.5, 0.6])}, r"demand_pmf must be a vector of probabilities that add up to 1, got shape \(2,\) and a sum of 1.1"),
        ({"demand_pmf": torch.tensor([float("nan"), 1.0])}, r"demand_pmf must be finite"),
        ({"stockout_cost": -9.0}, r"stockout_cost must be >= 0, got -9.0"),
        ({"lowest": 3}, r"lowest must be < 0, got 3"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], text: str) -> None:
    good = {"allowed": torch.ones(9, dtype=torch.bool), "demand_pmf": torch.tensor([0.5, 0.5]), "lowest": -5, "holding_cost": 1.0, "stockout_cost": 9.0}
    call: Callable[..., object] = average_cost_optimum
    with pytest.raises(InputError, match=text):
        call(**{**good, **change})
