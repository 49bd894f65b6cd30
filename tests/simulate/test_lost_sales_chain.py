"""The lost-sales chain: its costs against the referee, its gradient against differences, its bounds, its texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpsc import instances
from dpsc.errors import InputError, ShapeError
from dpsc.instances.lost_sales import demand_pmf
from dpsc.search import LostSales, capped_base_stock
from dpsc.simulate.lost_sales_chain import LostSalesChain

PMF = torch.tensor([0.2, 0.3, 0.3, 0.2], dtype=torch.float64)


def chain(lead_time: int, pmf: Tensor = PMF, stockout_cost: float = 9.0) -> LostSalesChain:
    bounds = LostSales(pmf, lead_time, 1.0, stockout_cost).bounds()
    return LostSalesChain(pmf, lead_time=lead_time, holding_cost=1.0, stockout_cost=stockout_cost, bounds=bounds, dtype=torch.float64)


@pytest.mark.parametrize("name", ["lost_sales_poisson_1_9", "lost_sales_poisson_2_4", "lost_sales_poisson_3_9", "lost_sales_geometric_2_9"])
def test_whole_orders_cost_what_the_referee_says(name: str) -> None:
    instance = instances.get(name)
    p = instance.parameters
    pmf = demand_pmf(p["demand"], p["mean_demand"])
    of = chain(p["lead_time"], pmf, p["stockout_cost"])
    level, cap = instance.known.get("capped_level", 20), instance.known.get("capped_order", 7)
    rule = capped_base_stock(level, cap)
    cost, _ = of.average_cost(rule(of.states), of.start(), sweeps=400)
    known = LostSales(pmf, p["lead_time"], 1.0, p["stockout_cost"]).cost(rule, highest=level, largest_order=cap)[0]
    assert abs(float(cost) - known) < 1e-6
    if "capped_cost" in instance.known:
        assert abs(float(cost) - instance.known["capped_cost"]) < 1e-4


def by_matrix(of: LostSalesChain, order: Tensor) -> float:
    """The same cost from a full transition matrix, states looked up one by one."""
    where = {tuple(s): i for i, s in enumerate(of.states.long().tolist())}
    move = torch.zeros(len(where), len(where), dtype=torch.float64)
    for state, i in where.items():
        q = float(order[i])
        for z, share in ((int(q), 1 - q + int(q)), (int(q) + 1, q - int(q))):
            for d, p in enumerate(PMF.tolist()):
                left = max(state[0] - d, 0)
                after = (left + z,) if len(state) == 1 else (left + state[1], *state[2:], z)
                if share > 0:
                    move[i, where[after]] += share * p
    return float(torch.linalg.matrix_power(move, 2048)[0] @ of.period_cost)


@pytest.mark.parametrize("lead_time", [1, 2, 3])
def test_randomly_rounded_orders_and_their_gradient(lead_time: int) -> None:
    of = chain(lead_time)
    torch.manual_seed(lead_time)
    order = (torch.rand(len(of.states), dtype=torch.float64) * 0.9 + 0.05) * of.room
    order.requires_grad_()
    cost, _ = of.average_cost(order, of.start(), sweeps=500)
    assert abs(float(cost.detach()) - by_matrix(of, order.detach())) < 1e-9
    cost.backward()
    chosen = order.grad.abs().argsort(descending=True)[:4].tolist()
    for i in chosen:
        move = torch.zeros_like(order)
        move[i] = 1e-4
        beside = [float(of.average_cost(order.detach() + sign * move, of.start(), sweeps=500)[0]) for sign in (1, -1)]
        assert abs((beside[0] - beside[1]) / 2e-4 - float(order.grad[i])) < 1e-6
    assert (order.grad[of.room == 0] == 0).all()


def test_the_memory_continues_and_float32_agrees() -> None:
    of = chain(2)
    order = torch.minimum((7.0 - of.states.sum(-1)).clamp(0, 2.5), of.room)
    at_once, _ = of.average_cost(order, of.start(), sweeps=60)
    memory = of.start()
    for _ in range(60):
        stepwise, memory = of.average_cost(order, memory)
    assert torch.equal(at_once, stepwise)
    assert abs(float(memory.share.sum()) - 1) < 1e-12
    single = LostSalesChain(PMF, lead_time=2, holding_cost=1.0, stockout_cost=9.0, bounds=LostSales(PMF, 2, 1.0, 9.0).bounds())
    assert abs(float(single.average_cost(order.float(), single.start(), sweeps=60)[0]) - float(at_once)) < 1e-5


def test_projected_stock_by_following_the_demand() -> None:
    of = chain(3)
    for at in (3, len(of.states) // 2, len(of.states) - 1):
        state = of.states[at].long().tolist()
        law = {state[0]: 1.0}
        for due in [*state[1:], 0]:
            after: dict[int, float] = {}
            for x, share in law.items():
                for d, p in enumerate(PMF.tolist()):
                    after[max(x - d, 0) + due] = after.get(max(x - d, 0) + due, 0.0) + share * p
            law = after
        assert abs(sum(x * share for x, share in law.items()) - float(of.projected_stock()[at])) < 1e-12


def make(**changed: object) -> LostSalesChain:
    return LostSalesChain(**{"demand_pmf": PMF, "lead_time": 2, "holding_cost": 1.0, "stockout_cost": 9.0, "bounds": [3, 5, 7]} | changed)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: make(demand_pmf=PMF / 2), InputError, r"demand_pmf must be a vector of probabilities that add up to 1, got a sum of 0.5"),
        (lambda: make(lead_time=0), InputError, r"lead_time must be an integer >= 1, got 0"),
        (lambda: make(stockout_cost=0.0), InputError, r"stockout_cost must be a finite number > 0"),
        (lambda: make(bounds=[3, 2, 7]), InputError, r"bounds must be lead_time \+ 1 = 3 whole levels >= 1 that do not fall, got \[3, 2, 7\]"),
        (lambda: make(bounds=[3, 7]), InputError, r"bounds must be lead_time \+ 1 = 3"),
        (lambda: make().average_cost(make().room + 1, make().start()), InputError, r"order must lie in \[0, room\], got 4.0 in state \[0.0, 0.0\], room 3.0"),
        (lambda: make().average_cost(make().room[1:], make().start()), ShapeError, r"order must have the shape of room"),
        (lambda: demand_pmf("normal", 5.0), InputError, r"demand must be one of geometric, poisson; got 'normal'"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
