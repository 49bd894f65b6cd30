"""The economy by sectors: at rest, in the long run, by hand, conserved, monotone, differentiable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.simulate import firms, sectors
from dpsc.simulate.sectors import Behaviour, Day, Economy, Flow

A = torch.tensor([[0.1, 0.3, 0.0], [0.2, 0.1, 0.4], [0.0, 0.1, 0.0]], dtype=torch.float64)
HOUSEHOLDS, OTHERS = torch.tensor([5.0, 2, 3], dtype=torch.float64), torch.tensor([1.0, 3, 1], dtype=torch.float64)
RULES = [sectors.leontief, sectors.critical, sectors.strongly_critical, sectors.half_critical, sectors.linear]


def economy(weight: Tensor | None = None) -> Economy:
    output = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - A, HOUSEHOLDS + OTHERS)
    ratings = torch.tensor([[1.0, 1, 0], [0.5, 0, 1], [0, 0.5, 0]], dtype=torch.float64) if weight is None else weight
    return Economy(A, output, HOUSEHOLDS, OTHERS, torch.tensor([4.0, 2, 7], dtype=torch.float64), ratings)


def day(labour: object = 1.0, households: object = 1.0, others: object = 1.0) -> Day:
    return Day(*(torch.as_tensor(x, dtype=torch.float64).reshape(-1, 1) * torch.ones(3, 1, dtype=torch.float64) for x in (labour, households, others)))


def play(world: Economy, days: list[Day], inputs: Callable, behaviour: Behaviour = Behaviour()) -> tuple[list[sectors.State], list[Flow]]:  # noqa: B008
    states, flows = [sectors.start(world)], []
    for one in days:
        state, flow = sectors.step(states[-1], world, one, inputs=inputs, behaviour=behaviour)
        states.append(state)
        flows.append(flow)
    return states, flows


@pytest.mark.parametrize("rule", RULES)
def test_without_a_shock_nothing_moves_and_a_lasting_one_ends_at_the_leontief_solution(rule: Callable) -> None:
    world = economy()
    _, flows = play(world, [day()] * 200, rule)
    assert float((flows[-1].output[:, 0] / world.output - 1).abs().max()) < 1e-13
    _, flows = play(world, [day(households=[0.7, 0.9, 1.0])] * 2500, rule)
    final = HOUSEHOLDS * torch.tensor([0.7, 0.9, 1.0], dtype=torch.float64) + OTHERS
    wanted = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - A, final)
    assert float((flows[-1].output[:, 0] / wanted - 1).abs().max()) < 1e-10
    assert torch.allclose(flows[-1].consumed[:, 0], final, rtol=1e-10)


def test_the_rules_by_hand() -> None:
    world = economy()
    stock = torch.tensor([[0.2, 0.6, 0.0], [0.1, 0.1, 0.4], [0.0, 0.3, 0.0]], dtype=torch.float64)[..., None]
    x0 = world.output.tolist()
    inf = torch.inf
    assert torch.allclose(sectors.leontief(world, stock)[:, 0], torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64))
    assert torch.allclose(sectors.critical(world, stock)[:, 0], torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
    assert torch.allclose(sectors.strongly_critical(world, stock)[:, 0], torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64))
    assert torch.allclose(sectors.half_critical(world, stock)[:, 0], torch.tensor([min(2.0, (0.5 + x0[0]) / 2), 2.0, 1.0], dtype=torch.float64))
    assert torch.allclose(sectors.linear(world, stock)[:, 0], torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))
    nothing = economy(torch.zeros(3, 3, dtype=torch.float64))
    assert sectors.critical(nothing, stock)[:, 0].tolist() == [inf, inf, inf]
    everything = economy(torch.ones(3, 3, dtype=torch.float64))
    for rule in (sectors.critical, sectors.strongly_critical, sectors.half_critical):
        assert torch.equal(rule(everything, stock), sectors.leontief(everything, stock))


def test_goods_are_conserved_and_nobody_gets_more_than_ordered() -> None:
    world = economy()
    states, flows = play(world, [day(labour=[1, 0.4, 1])] * 30, sectors.leontief)
    for before, after, flow in zip(states, states[1:], flows, strict=False):
        use = world.coefficients[..., None] * flow.output
        received = (after.stock - before.stock + use).sum(1)
        assert torch.allclose(received + flow.consumed, flow.output, atol=1e-12)
        assert bool((after.stock >= 0).all())
        assert bool((flow.output <= flow.demand + 1e-12).all())
        assert bool((flow.output[1] <= 0.4 * world.output[1] + 1e-12).all())


def test_labour_follows_slowly_or_at_once() -> None:
    world = economy()
    slow, _ = play(world, [day(households=0.5)] * 3, sectors.linear, Behaviour(hiring=0.1, firing=0.2))
    at_once, flows = play(world, [day(households=0.5)] * 3, sectors.linear, Behaviour(hiring=1.0, firing=1.0))
    wanted = flows[0].demand[:, 0] / world.output
    assert torch.allclose(at_once[1].labour[:, 0], wanted)
    assert torch.allclose(slow[1].labour[:, 0], 1 - 0.2 * (1 - wanted))
    never, _ = play(world, [day(households=0.5)] * 3, sectors.linear, Behaviour(hiring=0.0, firing=0.0))
    assert torch.equal(never[-1].labour, never[0].labour)


def test_where_the_conventions_meet_it_is_the_network_of_firms() -> None:
    # Orders first, stocks in days of use, critical inputs only, labour that falls and is not hired again: then labour is productivity at a capacity of 1.
    # (An input that is not critical and runs out is used with the deliveries of the day here, without them there; it does not run out in this run.)
    world, horizon = economy(torch.tensor([[1.0, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)), 30
    labour = 1 - torch.linspace(0, 0.25, horizon, dtype=torch.float64)[:, None, None] * torch.tensor([[0.2], [1.0], [0.0]], dtype=torch.float64)
    households = 1 - 0.3 * torch.sin(torch.arange(horizon, dtype=torch.float64) / 5)[:, None, None] ** 2 * torch.ones(3, 1, dtype=torch.float64)
    days = [Day(labour[t], households[t], torch.ones(3, 1, dtype=torch.float64)) for t in range(horizon)]
    states, flows = play(world, days, sectors.critical, Behaviour(adjustment_time=6.0, hiring=0.0, firing=0.0))
    assert float(torch.stack([state.stock for state in states])[:, A > 0].min()) > 0
    supplier, buyer = A.nonzero(as_tuple=True)
    network = firms.Network.of(supplier, buyer, A[supplier, buyer], HOUSEHOLDS + OTHERS)
    run = firms.rollout(
        network,
        firms.Parameters(inventory=world.stock_days, adjustment_time=6.0, capacity=1.0),
        productivity=labour,
        final_demand=HOUSEHOLDS[:, None] * households + OTHERS[:, None],
        rules=firms.Rules(production=firms.partly_binding(world.weight[network.supplier.long(), network.buyer.long()]), order_first=True, shock_on_stock=False),
    )
    assert float(run.output.min()) < 0.9 * float(run.output[0].min())
    assert torch.allclose(torch.stack([flow.output for flow in flows]), run.output, rtol=1e-12)


def test_gradients_against_differences_and_batch_against_single() -> None:
    world = economy()

    def total(x: Tensor) -> Tensor:
        state, out = sectors.start(world, x.shape[-1]), 0.0
        for t in range(12):
            one = Day(1 - x[0] * 0.9**t * torch.tensor([[0.2], [1.0], [0.1]], dtype=x.dtype), 1 - x[1] * torch.ones(3, 1, dtype=x.dtype), x[1] * 0 + 1 - x[2])
            one = Day(one.labour, one.households, one.others.expand(3, -1))
            state, flow = sectors.step(state, world, one, inputs=sectors.half_critical, behaviour=Behaviour(5 + 10 * x[3]))
            out = out + flow.output.sum(0)
        return out

    x = torch.tensor([[0.5], [0.11], [0.07], [0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(total, (x,), eps=1e-6, atol=1e-6)
    other = torch.tensor([[0.2], [0.3], [0.01], [0.9]], dtype=torch.float64)
    both = total(torch.cat([x.detach(), other], 1))
    assert torch.allclose(both, torch.cat([total(x.detach()), total(other)]), rtol=1e-14)


def test_what_is_wrong_with_an_economy_is_named() -> None:
    good = economy()
    with pytest.raises(ShapeError, match=r"weight must have shape \(N, N\) = \(3, 3\), got \(2, 2\)"):
        Economy(A, good.output, HOUSEHOLDS, OTHERS, good.stock_days, torch.ones(2, 2))
    with pytest.raises(InputError, match=r"stock_days >= 1"):
        Economy(A, good.output, HOUSEHOLDS, OTHERS, good.stock_days * 0, good.weight)
    with pytest.raises(InputError, match=r"output must be what is sold"):
        Economy(A, 2 * good.output, HOUSEHOLDS, OTHERS, good.stock_days, good.weight)
