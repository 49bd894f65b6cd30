"""Extensions of the step: each in its limit is the plain step, keeps the network at rest, conserves what it moves, and has the gradient of its differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import DtypeError, ExactJumpError, InputError, ShapeError
from dpsc.relax import Exact, Logistic, Smoothed
from dpsc.simulate import firms
from dpsc.simulate.firms import entry, labour, lags, prices, products

STEPS = 30


@pytest.fixture(scope="module")
def network() -> firms.Network:
    return firms.synthetic(25, degree=4.0, seed=2)


PARAMETERS = firms.Parameters(inventory=3.0, adjustment_time=6.0, capacity=1.2)
ON_CAPACITY = firms.Rules(shock_on_stock=False)


def hit(network: firms.Network, size: float | Tensor = 0.7) -> Tensor:
    """Every third firm loses a share of its productivity at step 3, `(T, M, 2)`; the second column a half of it."""
    lost = torch.where(torch.arange(network.firms) % 3 == 0, size * torch.ones(network.firms, dtype=torch.float64), 0.0)
    return 1 - firms.exponential(STEPS, onset=3, size=torch.stack([lost, lost / 2], 1), rate=0.1)


def plain(network: firms.Network, productivity: Tensor, rules: firms.Rules | None = None) -> Tensor:
    state, made = firms.start(network, PARAMETERS, batch=productivity.shape[2]), []
    for z in productivity:
        state, flow = firms.step(state, network, PARAMETERS, firms.Shock(z), rules=rules)
        made.append(flow.output)
    return torch.stack(made)


def play(state: Any, advance: Callable, network: firms.Network, productivity: Tensor, **how: Any) -> tuple[list[Any], list[firms.Flow]]:
    states, flows = [state], []
    for z in productivity:
        state, flow = advance(states[-1], network, PARAMETERS, firms.Shock(z), **how)
        states.append(state)
        flows.append(flow)
    return states, flows


def outputs(flows: list[firms.Flow]) -> Tensor:
    return torch.stack([flow.output for flow in flows])


def against_differences(total: Callable[[Tensor], Tensor], x: list[float]) -> None:
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(total, (at,), eps=1e-7, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- prices


def test_constant_costs_keep_prices_and_give_the_plain_step(network: firms.Network) -> None:
    z = hit(network)
    states, flows = play(prices.start(network, PARAMETERS, batch=2), prices.step, network, z, cost=prices.own_cost(network), elasticity=0.0, lag=3.0)
    assert torch.equal(outputs(flows), plain(network, z))
    assert torch.allclose(states[-1].price, torch.ones_like(states[-1].price), rtol=1e-13)


def test_a_lasting_cost_ends_at_the_price_equation(network: firms.Network) -> None:
    cost = prices.own_cost(network) * torch.where(torch.arange(25) % 4 == 0, 1.3, 1.0)[:, None]
    wanted = torch.linalg.solve(torch.eye(25, dtype=torch.float64) - network.dense().T, cost)
    assert torch.allclose(prices.at_rest(network, cost), wanted, rtol=1e-13)
    price = torch.ones_like(cost)
    for _ in range(600):
        price = prices.push(network, price, cost, lag=4.0)
    assert torch.allclose(price, wanted, rtol=1e-12)
    # At once, after three steps, the series to its third term.
    once = torch.ones_like(cost)
    for _ in range(3):
        once = prices.push(network, once, cost)
    A = network.dense().T
    assert torch.allclose(once, cost + A @ (cost + A @ (cost + A @ torch.ones_like(cost))), rtol=1e-13)


def test_dear_goods_are_bought_less_and_scarce_ones_get_dear(network: firms.Network) -> None:
    z = hit(network, 0.9)
    calm, _ = play(prices.start(network, PARAMETERS, batch=2), prices.step, network, z, cost=prices.own_cost(network), scarcity=0.0)
    scarce, flows = play(prices.start(network, PARAMETERS, batch=2), prices.step, network, z, cost=prices.own_cost(network), scarcity=0.5, elasticity=0.8)
    assert float(max(s.price.max() for s in scarce)) > 1.05
    assert float(max(s.price.max() for s in calm)) < 1 + 1e-12
    dearest = int(scarce[8].price[:, 0].argmax())
    assert float(flows[8].demand[dearest, 0]) < float(plain_demand(network, z, 8)[dearest, 0])
    asked = prices.final_demand(torch.tensor([[2.0]]), torch.tensor([[1.25]]), torch.tensor([[0.5]]))
    assert asked.item() == pytest.approx(2 / 1.25**0.5)


def plain_demand(network: firms.Network, z: Tensor, t: int) -> Tensor:
    state = firms.start(network, PARAMETERS, batch=2)
    for k in range(t + 1):
        state, flow = firms.step(state, network, PARAMETERS, firms.Shock(z[k]))
    return flow.demand


def test_gradient_of_prices(network: firms.Network) -> None:
    def total(x: Tensor) -> Tensor:
        state, out = prices.start(network, PARAMETERS), 0.0
        for z in hit(network)[:10, :, :1]:
            state, flow = prices.step(
                *(state, network, PARAMETERS, firms.Shock(z)), cost=prices.own_cost(network) * x[0], elasticity=x[1], lag=1 + x[2], scarcity=x[3]
            )
            out = out + flow.output.sum() + state.price.sum()
        return out

    against_differences(total, [1.11, 0.42, 1.3, 0.21])


def test_inputs_that_cost_more_than_the_output_are_refused() -> None:
    index = torch.tensor([0, 1])
    loss = firms.Network.of(index, index.flip(0), torch.tensor([1.2, 0.1], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"firm 1 buys 1.2 a unit"):
        prices.own_cost(loss)


# --------------------------------------------------------------------------------------------------------------- lags


def test_lags_of_zero_are_the_plain_step(network: firms.Network) -> None:
    z, lag = hit(network), torch.zeros(network.edges, dtype=torch.int64)
    _, flows = play(lags.start(network, PARAMETERS, lag, batch=2), lags.step, network, z, lag=lag)
    assert torch.equal(outputs(flows), plain(network, z))
    mixed = torch.arange(network.edges) % 3
    zero = torch.where(mixed > 0, mixed, 0)
    states, _ = play(lags.start(network, PARAMETERS, zero, batch=2), lags.step, network, torch.ones_like(z), lag=zero)
    assert torch.allclose(states[-1].firms.stock, states[0].firms.stock, rtol=1e-12)
    assert torch.allclose(states[-1].pipeline.sum(0), states[0].pipeline.sum(0), rtol=1e-12)


def test_goods_under_way_are_conserved_and_arrive_in_time(network: firms.Network) -> None:
    lag = torch.arange(network.edges) % 4
    states, flows = play(lags.start(network, PARAMETERS, lag, batch=2), lags.step, network, hit(network), lag=lag)
    for before, after, flow in zip(states, states[1:], flows, strict=False):
        gained = network.received(flow.delivered) - flow.use
        held = after.firms.stock + network.received(after.pipeline.sum(0)) - before.firms.stock - network.received(before.pipeline.sum(0))
        assert torch.allclose(held, gained, atol=1e-12)
    # A supplier stops at step 3: its buyer's stock is untouched for as many steps as the goods are under way.
    chain = firms.Network.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    z = torch.ones(12, 2, 1, dtype=torch.float64)
    z[3:, 0] = 0
    two = torch.tensor([2])
    states, _ = play(lags.start(chain, PARAMETERS, two), lags.step, chain, z, lag=two)
    stock = torch.stack([s.firms.stock[0, 0] for s in states])
    assert torch.allclose(stock[:6], stock[0].expand(6))
    assert float(stock[6]) == pytest.approx(float(stock[0]) - 0.5)


def test_gradient_with_lags(network: firms.Network) -> None:
    lag = torch.arange(network.edges) % 3

    def total(x: Tensor) -> Tensor:
        parameters = firms.Parameters(inventory=2 + x[0], adjustment_time=4 + x[1], capacity=1.2)
        state, out = lags.start(network, parameters, lag), 0.0
        for z in hit(network)[:12, :, :1]:
            state, flow = lags.step(state, network, parameters, firms.Shock(1 - x[2] * (1 - z)), lag=lag)
            out = out + flow.output.sum()
        return out

    against_differences(total, [0.31, 1.7, 1.05])


def test_lags_that_are_none_are_named(network: firms.Network) -> None:
    with pytest.raises(ShapeError, match=r"lag must have shape \(E,\)"):
        lags.start(network, PARAMETERS, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DtypeError, match=r"whole steps\), got dtype torch.float32"):
        lags.start(network, PARAMETERS, torch.zeros(network.edges))
    with pytest.raises(InputError, match=r"lag must be >= 0 steps, got -1 on edge 2"):
        lags.start(network, PARAMETERS, -(torch.arange(network.edges) == 2).long())
    lag = torch.ones(network.edges, dtype=torch.int64)
    with pytest.raises(InputError, match=r"orders that are placed last"):
        lags.step(lags.start(network, PARAMETERS, lag), network, PARAMETERS, firms.Shock(hit(network)[0]), lag=lag, rules=firms.Rules(order_first=True))


# ------------------------------------------------------------------------------------------------------------- labour


def test_without_hiring_and_firing_a_full_firm_is_the_plain_one(network: firms.Network) -> None:
    z = hit(network)
    states, flows = play(labour.start(network, PARAMETERS, batch=2, workers=1.2), labour.step, network, z, hiring=0.0, firing=0.0)
    assert torch.equal(outputs(flows), plain(network, z, ON_CAPACITY))
    assert torch.equal(states[-1].workers, states[0].workers)


def test_labour_at_rest_and_at_once(network: firms.Network) -> None:
    calm, flows = play(labour.start(network, PARAMETERS), labour.step, network, torch.ones(STEPS, 25, 1, dtype=torch.float64), hiring=0.1, firing=0.2)
    assert torch.allclose(outputs(flows)[-1][:, 0], network.output, rtol=1e-12)
    assert torch.allclose(calm[-1].workers, calm[0].workers, rtol=1e-12)
    states, _ = play(labour.start(network, PARAMETERS, batch=2), labour.step, network, hit(network), hiring=1.0, firing=1.0)
    before, after = states[6], states[7]
    by_stock = network.lowest(before.firms.stock / network.recipe[:, None])
    wanted = torch.minimum(torch.minimum(before.firms.demand, by_stock) / network.output[:, None], torch.tensor(1.2, dtype=torch.float64))
    assert torch.allclose(after.workers, wanted, rtol=1e-12)


def test_slow_hiring_costs_output(network: firms.Network) -> None:
    totals = [
        float(outputs(play(labour.start(network, PARAMETERS, batch=2), labour.step, network, hit(network), hiring=h, firing=0.5)[1]).sum())
        for h in (0.02, 0.2, 1.0)
    ]
    assert totals[0] < totals[1] < totals[2]


def test_gradient_of_labour(network: firms.Network) -> None:
    def total(x: Tensor) -> Tensor:
        state, out = labour.start(network, PARAMETERS, workers=x[2]), 0.0
        for z in hit(network)[:12, :, :1]:
            state, flow = labour.step(state, network, PARAMETERS, firms.Shock(z), hiring=x[0], firing=x[1])
            out = out + flow.output.sum() + state.workers.sum()
        return out

    against_differences(total, [0.13, 0.27, 1.03])


# ------------------------------------------------------------------------------------------------------ exit and entry

ACCOUNTS: dict[str, Any] = {"margin": 0.4, "surplus": 0.1, "reserve": 0.5}


def test_without_fixed_costs_nobody_closes(network: firms.Network) -> None:
    z = hit(network)
    states, flows = play(entry.start(network, PARAMETERS, reserve=0.5, batch=2), entry.step, network, z, margin=0.3, surplus=0.3, reserve=0.5, entry=0.1)
    assert torch.equal(outputs(flows), plain(network, z))
    assert float(states[-1].open.min()) == 1
    calm, _ = play(entry.start(network, PARAMETERS, reserve=0.5), entry.step, network, torch.ones(STEPS, 25, 1, dtype=torch.float64), **ACCOUNTS)
    assert torch.allclose(calm[-1].cash, calm[0].cash, rtol=1e-12)


def test_a_firm_closes_when_its_cash_is_gone_and_is_replaced() -> None:
    # One firm alone, stopped at step 3: it loses margin - surplus = .3 a step of its .5 in cash, and closes in the second step.
    alone = firms.Network.of(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64), torch.ones(1).double())
    z = torch.ones(12, 1, 1, dtype=torch.float64)
    z[3:6] = 0
    gone, flows = play(entry.start(alone, PARAMETERS, reserve=0.5), entry.step, alone, z, **ACCOUNTS, entry=0.0)
    assert [float(s.open) for s in gone[1:]] == [1, 1, 1, 1, *[0] * 8]
    assert float(gone[4].cash) == pytest.approx(0.2)
    assert float(outputs(flows)[6:].sum()) == 0
    back, flows = play(entry.start(alone, PARAMETERS, reserve=0.5), entry.step, alone, z, **ACCOUNTS, entry=0.5)
    assert float(back[5].open) == 0.5
    assert float(outputs(flows)[-1]) == pytest.approx(1, abs=0.02)
    next_day, _ = play(entry.start(alone, PARAMETERS, reserve=0.5), entry.step, alone, z, **ACCOUNTS, entry=1.0)
    assert all(float(s.open) == 1 for s in next_day)


def test_an_exit_has_no_exact_gradient_and_a_smooth_one(network: firms.Network) -> None:
    def total(x: Tensor, relax: Any) -> Tensor:
        state, out = entry.start(network, PARAMETERS, reserve=x[0]), 0.0
        for z in hit(network)[:8, :, :1]:
            state, flow = entry.step(state, network, PARAMETERS, firms.Shock(z), margin=0.4, surplus=x[1], reserve=x[0], entry=x[2], relax=relax)
            out = out + flow.output.sum()
        return out

    with pytest.raises(ExactJumpError):
        total(torch.tensor([0.5, 0.1, 0.1], dtype=torch.float64, requires_grad=True), Exact()).backward()
    against_differences(lambda x: total(x, Smoothed(Logistic(0.1))), [0.53, 0.11, 0.13])


# ----------------------------------------------------------------------------------------------------------- products


def test_one_product_a_firm_is_leontief(network: firms.Network) -> None:
    z = hit(network)
    shared = firms.Rules(production=products.SharedCapacity(torch.arange(network.firms)))
    assert torch.allclose(plain(network, z, shared), plain(network, z), rtol=1e-12)


def test_capacity_goes_where_it_is_wanted() -> None:
    # Two products of one firm, each 1 unit at rest, capacity 1.2 each. Nobody wants the first any more, and 2 of the second: alone it makes 1.2, together 2.
    pair = firms.Network.of(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    )
    wanted = torch.tensor([[0.0], [2.0]], dtype=torch.float64).expand(4, 2, 1)
    alone = firms.rollout(pair, PARAMETERS, final_demand=wanted)
    together = firms.rollout(pair, PARAMETERS, final_demand=wanted, rules=firms.Rules(production=products.SharedCapacity(torch.zeros(2, dtype=torch.int64))))
    assert alone.output[-1, :, 0].tolist() == pytest.approx([0, 1.2])
    assert together.output[-1, :, 0].tolist() == pytest.approx([0, 2.0])
    much = firms.rollout(pair, PARAMETERS, final_demand=2 * wanted, rules=firms.Rules(production=products.SharedCapacity(torch.zeros(2, dtype=torch.int64))))
    assert much.output[-1, :, 0].tolist() == pytest.approx([0, 2.4])


def test_the_capacity_of_a_firm_is_never_exceeded(network: firms.Network) -> None:
    firm = torch.arange(network.firms) // 3
    z = hit(network)
    made = plain(network, z, firms.Rules(production=products.SharedCapacity(firm)))
    room = 1.2 * network.output[:, None] * z
    by_firm = [torch.zeros(STEPS, int(firm.max()) + 1, 2, dtype=torch.float64).index_add(1, firm, v) for v in (made, room)]
    assert bool((by_firm[0] <= by_firm[1] + 1e-12).all())


def test_gradient_of_shared_capacity(network: firms.Network) -> None:
    rules = firms.Rules(production=products.SharedCapacity(torch.arange(network.firms) // 2))

    def total(x: Tensor) -> Tensor:
        parameters = firms.Parameters(inventory=2 + x[0], adjustment_time=6.0, capacity=1 + x[1])
        return firms.rollout(network, parameters, productivity=1 - x[2] * (1 - hit(network)[:12]), rules=rules, check=False).output.sum()

    against_differences(total, [0.37, 0.13, 0.9])


def test_what_is_no_firm_is_named(network: firms.Network) -> None:
    with pytest.raises(ShapeError, match=r"firm must be \(M,\) integers, got torch.float32"):
        products.SharedCapacity(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"firm must have shape \(M,\) = \(25,\), one entry a product, got \(3,\)"):
        plain(network, hit(network), firms.Rules(production=products.SharedCapacity(torch.zeros(3, dtype=torch.int64))))
