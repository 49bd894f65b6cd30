"""Coupled orders: bound <= optimum <= plan on instances that can be enumerated, and the published numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsc.decision import Containers, OrderPlan
from dpsc.errors import InputError, ShapeError
from dpsc.instances.orders import MOQ_BUDGET_500
from dpsc.objective import newsvendor_table
from dpsc.search import orders_by_milp
from experiments.moq_budget import problem


def tiny(seed: int, items: int, share: float, containers: Containers | None, largest: int = 6) -> OrderPlan:
    g = torch.Generator().manual_seed(seed)
    mean, h, b, k = (torch.rand(items, generator=g, dtype=torch.float64) * w + 0.3 for w in (4.0, 1.0, 6.0, 3.0))
    cost = newsvendor_table(mean, h, b, largest=largest) + k[:, None] * (torch.arange(largest + 1) > 0)
    smallest = torch.randint(0, 5, (items,), generator=g).double()
    price, volume = (torch.rand(items, generator=g, dtype=torch.float64) + 0.2 for _ in range(2))
    budget = share * float((price * 4).sum())
    return OrderPlan(cost, smallest, price, budget, *((volume, containers) if containers else ()))


def brute_force(plan: OrderPlan) -> float:
    best = math.inf
    options = [[0, *range(max(int(m), 1), plan.cost.shape[1])] for m in plan.minimum_order]
    for q in itertools.product(*options):
        order = torch.tensor(q, dtype=torch.float64)
        counts = [0] if plan.containers is None else range(int((plan.volume * order).sum() / plan.containers.volume) + 4)
        for n in counts:
            value, wrong = plan.check(order, n)
            best = value if not wrong and value < best else best
    return best


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), items=st.integers(1, 4), share=st.floats(0, 1.3))
def test_bound_optimum_plan_with_a_budget(seed: int, items: int, share: float) -> None:
    plan = tiny(seed, items, share, None)
    found, best = plan.solve(), brute_force(plan)
    assert found.bound <= best + 1e-9 * abs(best)
    assert best <= found.value + 1e-9 * abs(best)
    assert not plan.check(found.decision, found.containers)[1]
    assert found.value <= best * (1 + 1e-6) + 1e-9  # the integer program is complete at this size


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 1.3), volume=st.floats(0.5, 4), fill=st.sampled_from([0.0, 0.6, 0.97]))
def test_bound_optimum_plan_with_containers(seed: int, share: float, volume: float, fill: float) -> None:
    plan = tiny(seed, 3, share, Containers(volume, 0.7, fill))
    found, best = plan.solve(), brute_force(plan)
    assert found.bound <= best + 1e-9 * abs(best)
    assert best <= found.value + 1e-9 * abs(best)
    assert not plan.check(found.decision, found.containers)[1]


def test_published_numbers() -> None:
    """500 items: the bound with the budget alone is known from elsewhere; with containers HiGHS proves 39660.42 in 30 s."""
    alone = problem(500, seed=0, budget_share=0.7, containers=None)
    assert abs(alone.budget - MOQ_BUDGET_500.known["budget"]) < 0.01
    found = alone.solve()
    assert abs(found.bound - MOQ_BUDGET_500.known["bound_budget_alone"]) < 0.01
    assert found.gap_pct < 0.01
    coupled = problem(500, seed=0, budget_share=0.7, containers={"volume": 1000.0, "cost": 250.0, "smallest_fill": 0.97})
    plan = coupled.solve()
    assert plan.bound <= 39660.82  # a plan of HiGHS
    assert plan.value >= 39660.42 - 0.01  # its bound
    assert plan.gap_pct < 0.01


def test_many_items_and_their_order_do_not_matter() -> None:
    plan = problem(6000, seed=1, budget_share=0.6, containers={"volume": 1000.0, "cost": 250.0, "smallest_fill": 0.97})
    found = plan.solve()
    assert found.gap_pct < 0.05
    assert not plan.check(found.decision, found.containers)[1]
    turned = OrderPlan(plan.cost.flip(0), plan.minimum_order.flip(0), plan.price.flip(0), plan.budget, plan.volume.flip(0), plan.containers).solve()
    assert abs(turned.bound - found.bound) < 1e-6 * found.bound
    assert abs(turned.value - found.value) < 1e-6 * found.value


def test_the_referee_agrees_on_a_small_instance() -> None:
    plan = tiny(3, 4, 0.7, Containers(2.0, 0.7, 0.6))
    referee = orders_by_milp(
        cost=plan.cost, minimum_order=plan.minimum_order, price=plan.price, budget=plan.budget, volume=plan.volume, container_volume=2.0, container_cost=0.7,
        smallest_fill=0.6, seconds=10.0,
    )  # fmt: skip
    assert referee.decision is not None
    assert not plan.check(referee.decision, referee.containers)[1]
    assert abs(referee.value - brute_force(plan)) < 1e-6


def test_the_checker_names_what_is_broken() -> None:
    plan = tiny(0, 3, 0.5, Containers(2.0, 0.7, 0.6))
    assert plan.check(torch.full((3,), 0.5, dtype=torch.float64), 0)[1] == [
        "orders that are not whole",
        "orders below their minimum or above the largest",
        "volume",
    ]
    assert "budget" in plan.check(torch.full((3,), 6.0, dtype=torch.float64), 9)[1]


COST = torch.tensor([[5.0, 4.0, 3.0, 4.0]], dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: OrderPlan(COST * math.nan, ONE, ONE, 1.0), InputError, r"cost must be finite"),
        (lambda: OrderPlan(COST[0], ONE, ONE, 1.0), ShapeError, r"cost must have shape \(N, Q \+ 1\)"),
        (lambda: OrderPlan(COST, ONE * 9, ONE, 1.0), InputError, r"minimum_order must be whole and lie in \[0, 3\], got 9.0 for item 0"),
        (lambda: OrderPlan(COST, ONE * -1, ONE, 1.0), InputError, r"minimum_order must be whole and lie in \[0, 3\], got -1.0"),
        (lambda: OrderPlan(COST, ONE, ONE * 0, 1.0), InputError, r"price must be > 0, got 0.0 for item 0"),
        (lambda: OrderPlan(COST, ONE, ONE, -1.0), InputError, r"budget must be >= 0, got -1.0"),
        (lambda: OrderPlan(COST, ONE, ONE, math.nan), InputError, r"budget must be >= 0, got nan"),
        (lambda: OrderPlan(COST, ONE, ONE, 1.0, ONE), InputError, r"volume and containers belong together"),
        (lambda: OrderPlan(COST, ONE, ONE, 1.0, ONE, Containers(0.0, 1.0)), InputError, r"containers.volume must be a finite number > 0, got 0.0"),
        (lambda: OrderPlan(COST, ONE, ONE, 1.0, ONE, Containers(1.0, 1.0, 1.5)), InputError, r"containers.smallest_fill must lie in \[0, 1\], got 1.5"),
        (lambda: OrderPlan(-COST, ONE, ONE, 1.0), InputError, r"cost must be convex from an order of 1 on, got a bend the other way for item 0"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
