"""The simulated cost of known rules is their exact cost: many published items side by side in one world, each with its own lead time, lots and prices."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from dpsc.demand import Futures, poisson
from dpsc.instances import average_cost, lost_sales
from dpsc.objective import Costs, item_cost, mean_interval
from dpsc.relax import Exact
from dpsc.simulate import Network, Noise, State, World, order, receive, rollout, serve, start
from dpsc.types import Context, Relaxation


def column(instances: list, name: str, *, known: bool = False) -> Tensor:  # type: ignore[type-arg]
    return torch.tensor([float((i.known if known else i.parameters)[name]) for i in instances], dtype=torch.float64)


def test_sixteen_items_with_lost_sales_and_capped_base_stock() -> None:
    items = [i for i in lost_sales.ALL if i.parameters["demand"] == "poisson"]
    assert len(items) == 16
    level, largest = column(items, "capped_level", known=True), column(items, "capped_order", known=True)
    world = World(network=Network.items(16), events=(receive, order, serve), lead_time=column(items, "lead_time"), capacity=largest, whole=True)
    costs = Costs(holding=column(items, "holding_cost"), lost_sale=column(items, "stockout_cost"))

    def capped(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return (level - state.position).clamp_min(0)

    demand = poisson(column(items, "mean_demand"), at=Futures(0, "report", items=16, paths=600, periods=220))
    price = partial(item_cost, costs=costs)
    total = rollout(world, capped, Noise(demand), start=start(world, level, paths=600), relax=Exact(), price=price, warm_up=20).total
    assert total is not None
    found = mean_interval(total / 200, level=1 - 1e-4, dim=0)
    exact = column(items, "capped_cost", known=True)
    assert bool(((found.low <= exact) & (exact <= found.high)).all())
    assert float((found.half_width / exact).max()) < 0.03


def test_fixed_costs_and_batches_without_lead_time() -> None:
    """Five (s, S) rules and one of full batches: review, order, demand; what is ordered arrives at once, so `receive` stands after `order`."""
    items = [*average_cost.FIXED_COSTS, average_cost.BATCHES]
    batch = torch.tensor([1.0] * 5 + [12.0], dtype=torch.float64)
    low = torch.cat([column(list(average_cost.FIXED_COSTS), "reorder_point", known=True), batch.new_tensor([4.0])])
    up_to = torch.cat([column(list(average_cost.FIXED_COSTS), "order_up_to_level", known=True), batch.new_tensor([5.0])])
    world = World(network=Network.items(6), events=(order, receive, serve), lead_time=torch.zeros(6), wait=1.0, pack=batch, whole=True)
    costs = Costs(holding=1.0, backorder=9.0, order=batch.new_tensor([64.0] * 5 + [0.0]))

    def rule(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        x = state.position
        return torch.where(x <= low, up_to - x + (batch - 1) / 2, torch.zeros_like(x))  # nearest packs of n + 5.5 are full batches of n

    demand = poisson(column(items, "mean_demand"), at=Futures(1, "report", items=6, paths=600, periods=260))
    price = partial(item_cost, costs=costs)
    total = rollout(world, rule, Noise(demand), start=start(world, up_to, paths=600), relax=Exact(), price=price, warm_up=60).total
    assert total is not None
    found = mean_interval(total / 200, level=1 - 1e-4, dim=0)
    exact = column(items, "cost", known=True)
    assert bool(((found.low <= exact) & (exact <= found.high)).all())
    assert float((found.half_width / exact).max()) < 0.02


def test_what_a_policy_is_shown() -> None:
    """Demand of the last periods, with what came before period 0, and features of the period; never the demand that is still to come."""
    world = World(network=Network.items(2), events=(receive, order, serve), lead_time=torch.ones(2))
    demand = torch.arange(24, dtype=torch.float64).reshape(4, 3, 2)
    history = -torch.arange(12, dtype=torch.float64).reshape(2, 3, 2) - 1
    features = torch.rand(4, 2, 5, dtype=torch.float64)
    seen: list[Context] = []

    def watching(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        seen.append(context)
        return torch.zeros_like(state.on_hand)

    begin = start(world, torch.zeros(2, dtype=torch.float64), paths=3)
    rollout(world, watching, Noise(demand), start=begin, relax=Exact(), observe=2, history=history, features=features)
    both = torch.cat([history, demand])
    assert [c.period for c in seen] == [0, 1, 2, 3]
    for t, context in enumerate(seen):
        assert context.observed is not None
        assert context.features is not None
        assert torch.equal(context.observed, both[t : t + 2])
        assert torch.equal(context.features, features[t])
    seen.clear()
    rollout(world, watching, Noise(demand), start=begin, relax=Exact(), observe=1)
    assert [float(c.observed[0, 0, 0]) for c in seen if c.observed is not None] == [0.0, 0.0, 6.0, 12.0]
