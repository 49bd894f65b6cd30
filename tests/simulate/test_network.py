"""Networks: bills of materials, echelons, rationing, transshipment; and gradients of everything at once."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.demand import Futures, poisson
from dpsc.objective import Costs, breakdown, item_cost, path_cost
from dpsc.relax import Exact, Logistic, Smoothed
from dpsc.simulate import ByPriority, Edge, Flow, Network, Noise, State, World, advance, expire, fill, order, proportional, receive, rollout, serve, start
from dpsc.types import Context, Relaxation


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# 0 bicycle = 1 frame, 2 wheels; 1 frame = 4 tubes; 2 wheel = 3 tubes, 1 tyre; 5 trolley = 4 wheels. Tubes (3), tyres (4) are bought.
BILL = torch.zeros(6, 6)
for component, product, units in [(1, 0, 1), (2, 0, 2), (3, 1, 4), (3, 2, 3), (4, 2, 1), (2, 5, 4)]:
    BILL[component, product] = units


def test_a_bill_of_three_levels_with_shared_components() -> None:
    """Units of everything inside of everything, by hand; and a week of production, cut to the scarcest component."""
    network = Network.assembly(BILL)
    assert network.content.tolist() == [
        [1, 1, 2, 10, 2, 0],
        [0, 1, 0, 4, 0, 0],
        [0, 0, 1, 3, 1, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 4, 12, 4, 1],
    ]
    assert network.upstream_first.index(3) < network.upstream_first.index(1) < network.upstream_first.index(0)
    world = World(network=network, events=(receive, order), lead_time=torch.ones(6), whole=True)
    state = start(world, double(0, 5, 12, 30, 3, 0), paths=1)
    wanted = double(4, 6, 9, 10, 0, 3)[None]
    # Wheels: bicycles want 8, trolleys 12, 12 there: shares 4.8 -> 4 and 8, so 2 bicycles and 2 trolleys. Frames: 4 of 5 are set aside, 2 are used.
    # Tubes: frames want 24, wheels 27, 30 there: shares 14 and 16, so 3 frames; tyres: 3, so 3 wheels of the 5 that 16 tubes would make.
    state, flow = advance(state, wanted, Noise(torch.zeros(1, 6, dtype=torch.float64)), world=world, relax=Exact())
    assert flow.shipped.tolist() == [[2, 3, 3, 10, 0, 2]]
    assert state.on_hand.tolist() == [[0, 5 - 2, 12 - 4 - 8, 30 - 12 - 9, 3 - 3, 0]]


def test_echelons_of_a_tree_and_of_two_suppliers() -> None:
    tree = Network.tree([3, 3, 4, 4, -1])  # two stores below depot 3, one store and the depot below plant 4
    assert tree.echelon(double(1, 2, 4, 8, 16)[None]).tolist() == [[1, 2, 4, 11, 31]]
    two = Network(3, [Edge(0, {1: 1}), Edge(0, {2: 1}), Edge(1), Edge(2)])
    assert two.echelon(double(1, 2, 4)[None]).tolist() == [[1, 3, 5]]
    assert not two.single
    assert tree.single


@pytest.mark.parametrize(
    ("stock", "wanted", "shares"),
    [(10, [4, 3, 3], [4, 3, 3]), (7, [4, 4, 4], [2, 2, 3]), (0, [4, 3, 3], [0, 0, 0]), (5, [0, 9, 1], [0, 4, 1]), (3, [0, 0, 0], [0, 0, 0])],
)
def test_proportional_shares_of_whole_units(stock: int, wanted: list[int], shares: list[int]) -> None:
    given = proportional(double(stock), double(*wanted)[None], edges=((0, 1, 2),), relax=Exact(), whole=True)
    assert given.tolist() == [shares]
    divisible = proportional(double(stock), double(*wanted)[None], edges=((0, 1, 2),), relax=Exact(), whole=False)
    assert torch.allclose(divisible, double(*wanted)[None] * min(1, stock / max(sum(wanted), 1)))


def test_shares_hand_out_the_stock_to_the_last_unit() -> None:
    at = Futures(0, "report", items=5, paths=2000, periods=1)
    wanted = poisson(4.0, at=at)[0][:, None, :]
    stock = poisson(15.0, at=at, purpose="stock")[0][:, :1]
    given = proportional(stock, wanted, edges=(tuple(range(5)),), relax=Exact(), whole=True)
    assert torch.equal(given.sum(-1), torch.minimum(stock, wanted.sum(-1)))
    exact = wanted * torch.clamp(stock[..., None] / wanted.sum(-1, keepdim=True), max=1)
    assert float((given - exact).abs().max()) < 1
    assert bool((given <= wanted).all())
    assert bool((given >= 0).all())


def test_priority_serves_the_dear_customer_first() -> None:
    network = Network.distribution(3)
    world = World(network=network, events=(receive, order), lead_time=torch.ones(4), ration=ByPriority(double(1, 3, 2, 0)))
    state, flow = advance(start(world, double(0, 0, 0, 10), paths=1), double(4, 5, 6, 7)[None], Noise(torch.zeros(1, 4)), world=world, relax=Exact())
    assert flow.shipped.tolist() == [[0, 5, 5, 7]]
    assert state.on_hand.tolist() == [[0, 0, 0, 0]]


def test_free_transshipment_is_a_pooled_stock() -> None:
    """Two stores, of which one orders for both, swap what is missing after demand, without delay: one store with their joint stock and demand."""
    network = Network(2, [Edge(0), Edge(1), Edge(0, {1: 1}, lateral=True), Edge(1, {0: 1}, lateral=True)])

    def replenish(state: State, flow: Flow, now: Any) -> tuple[State, Flow]:
        missing = (24 - state.position.sum(-1, keepdim=True)).clamp_min(0)
        return order(state, flow, now._replace(action=torch.nn.functional.pad(missing, (0, 3))))

    def balance(state: State, flow: Flow, now: Any) -> tuple[State, Flow]:
        return order(state, flow, now._replace(action=torch.cat([torch.zeros_like(state.on_hand), state.backorder], -1)))

    events = (receive, replenish, serve, balance, receive, fill)
    world = World(network=network, events=events, lead_time=double(2, 2, 0, 0), wait=1.0, whole=True)
    demand = poisson(double(3.0, 4.0), at=Futures(0, "report", items=2, paths=50, periods=40))
    apart = rollout(world, lambda state, context, *, relax: state.on_hand, Noise(demand), start=start(world, double(12, 12), paths=50), relax=Exact()).flow
    pool = World(network=Network.items(1), events=(receive, order, serve), lead_time=double(2), wait=1.0, whole=True)
    joint = rollout(
        pool, lambda state, context, *, relax: (24 - state.position).clamp_min(0), Noise(demand.sum(-1, keepdim=True)),
        start=start(pool, double(24), paths=50), relax=Exact(),
    ).flow  # fmt: skip
    assert apart is not None
    assert joint is not None
    assert torch.equal(apart.backorder.sum(-1, keepdim=True), joint.backorder)
    assert torch.equal(apart.on_hand.sum(-1, keepdim=True), joint.on_hand)
    assert float(joint.backorder.sum()) > 0
    assert float(apart.shipped[..., 2:].sum()) > 0


def test_returns_are_the_stated_share_of_sales() -> None:
    at = Futures(0, "report", items=1, paths=400, periods=40)
    world = World(
        network=Network.items(1), events=(receive, order, serve), lead_time=double(1), return_rate=double(0.3), return_lag=double(2), whole=True
    )  # fmt: skip
    noise = Noise(poisson(6.0, at=at), return_uniform=at.uniform("return"))
    flow = rollout(world, lambda s, c, *, relax: (14 - s.position).clamp_min(0), noise, start=start(world, double(14), paths=400), relax=Exact()).flow
    assert flow is not None
    sold, back = flow.sales[:-2].sum(), flow.returned[2:].sum()
    assert abs(float(back - 0.3 * sold)) < 4 * 0.5 * (400 * 38) ** 0.5


# ----------------------------------------------------------------------------------------------------------- gradients


def everything(quantity: Tensor, rates: Tensor, relax: Relaxation) -> Tensor:
    """A network with all features at once; `(4,)` order quantities and `(3,)` rates -> mean cost."""
    network = Network(3, [Edge(0, {1: 2, 2: 1}), Edge(1, {2: 1}), Edge(2), Edge(0)])
    world = World(
        network=network, events=(partial(receive, share=0.5), serve, receive, order, expire), lead_time=double(1, 2, 1, 1), wait=0.4,
        pack=double(1, 2, 3, 2), minimum_order=double(2, 2, 3, 2), capacity=double(8, 20, 60, 8), return_rate=0.5 * rates, return_lag=double(2, 1, 1),
        shelf_life=double(2, 3, torch.inf), review_period=double(1, 2, 1, 1), whole=True,
    )  # fmt: skip
    at = Futures(5, "optimise", items=3, paths=4, periods=8)
    edges = Futures(5, "optimise", items=4, paths=4, periods=8)
    noise = Noise(
        poisson(double(4, 1, 0.5), at=at), supply_yield=0.5 + 0.5 * edges.uniform("yield"), return_uniform=at.uniform("return"),
        running=(edges.uniform("running") < 0.9).double(),
    )  # fmt: skip
    costs = Costs(
        holding=rates, backorder=2.0, lost_sale=9.0, order=double(3, 2, 1, 3), inbound=0.1, outbound=0.2, returned=0.3, waste=2.0, purchase=0.5,
        in_transit=0.05, overstock=1.5, revenue=4.0, discount=0.95,
    )  # fmt: skip

    def policy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
        return quantity + 0.1 * state.on_order

    begin = start(world, double(5.3, 6.2, 30.1), paths=4)
    price = partial(path_cost, costs=costs, periods=8)
    total = rollout(world, policy, noise, start=begin, relax=relax, price=price).total
    assert total is not None
    return total.mean()


def test_the_smoothed_program_has_its_own_gradient() -> None:
    quantity, rates = double(2.3, 7.9, 11.2, 1.7).requires_grad_(), double(1.1, 0.6, 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, r: everything(q, r, Smoothed(Logistic(0.3))), (quantity, rates), eps=1e-6, atol=1e-5)
    slopes = torch.autograd.grad(everything(quantity, rates, Smoothed(Logistic(0.3))), (quantity, rates))
    assert all(bool((slope != 0).all()) for slope in slopes)


# -------------------------------------------------------------------------------------------------------------- prices


def test_prices_are_rates_times_quantities() -> None:
    """By path, by item, by component, on the fly and afterwards: the same money."""
    world = World(network=Network.distribution(2), events=(receive, order, serve), lead_time=double(1, 2, 2), wait=0.5)
    demand = poisson(double(4, 3, 0.0), at=Futures(0, "report", items=3, paths=5, periods=9))
    costs = Costs(
        holding=double(1, 2, 0.5), lost_sale=5.0, backorder=3.0, order=double(2, 2, 10), purchase=double(0.1, 0.2, 0.3), in_transit=0.25, inbound=0.1,
        outbound=0.2, revenue=1.0, overstock=0.7, discount=0.9,
    )  # fmt: skip
    begin = start(world, double(6, 6, 10), paths=5)
    policy = lambda state, context, *, relax: (double(12, 10, 40) - state.echelon_position()).clamp_min(0)  # noqa: E731
    flow = rollout(world, policy, Noise(demand), start=begin, relax=Exact()).flow
    assert flow is not None
    expected = torch.zeros(5, 3, dtype=torch.float64)
    for t, i in itertools.product(range(9), range(3)):
        f = {name: getattr(flow, name)[t, :, i] for name in ("on_hand", "lost_sales", "backorder", "placed", "shipped", "received", "sales", "in_transit")}
        money = [1, 2, 0.5][i] * f["on_hand"] + 5 * f["lost_sales"] + 3 * f["backorder"] + [2, 2, 10][i] * f["placed"] + [0.1, 0.2, 0.3][i] * f["shipped"]
        money = money + 0.25 * f["in_transit"] + 0.1 * f["received"] + (0.2 - 1.0) * f["sales"] + (t == 8) * 0.7 * (f["on_hand"] + f["in_transit"])
        expected[:, i] += 0.9**t * money
    by_item, by_path = (
        rollout(world, policy, Noise(demand), start=begin, relax=Exact(), price=partial(price, costs=costs, periods=9)).total
        for price in (item_cost, path_cost)
    )
    assert by_item is not None
    assert by_path is not None
    assert torch.allclose(by_item, expected, rtol=1e-12)
    assert torch.allclose(by_path, expected.sum(-1), rtol=1e-12)
    parts = breakdown(flow, costs=costs)
    assert set(parts) == {"holding", "lost_sale", "backorder", "order", "purchase", "in_transit", "inbound", "outbound", "revenue", "overstock"}
    assert torch.allclose(torch.stack(list(parts.values())).sum(0), expected.sum(-1), rtol=1e-12)
    free = rollout(world, policy, Noise(demand), start=begin, relax=Exact(), price=partial(path_cost, costs=Costs())).total
    assert free is not None
    assert float(free.abs().max()) == 0.0
