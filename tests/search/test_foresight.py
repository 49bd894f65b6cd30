"""The foresight bound: surprises have mean zero, the bound stays below what is known to be optimal, and below every policy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.instances import lost_sales
from dpsc.search.foresight import ForesightBound, Reference, surprises

MEAN = 5.0
COUNT = torch.arange(80, dtype=torch.float64)
LAW = torch.exp(COUNT * math.log(MEAN) - MEAN - torch.lgamma(COUNT + 1))


def excess(c: Tensor) -> Tensor:
    return ((COUNT - c[..., None]).clamp_min(0) * LAW).sum(-1)


def tail(c: Tensor) -> Tensor:
    return ((c[..., None] < COUNT) * LAW).sum(-1)


def single_store(seed: int, paths: int, periods: int, *, lead: int, level: float, cap: float) -> tuple[Reference, Tensor]:
    """A capped base-stock policy under lost sales, as the reference, and its cost of each period (holding 1, lost sale 9)."""
    generator = torch.Generator().manual_seed(seed)
    demand = torch.poisson(torch.full((periods, paths, 1), MEAN, dtype=torch.float64), generator=generator)
    on_hand = torch.full((paths, 1), MEAN, dtype=torch.float64)
    pipeline = [torch.full((paths, 1), MEAN, dtype=torch.float64)] * (lead - 1)
    stocks, orders, states, costs = [], [], [], []
    for wanted in demand:
        order = (level - on_hand - sum(pipeline)).clamp(0, cap)
        stocks.append(on_hand)
        orders.append(order)
        states.append(torch.stack([on_hand, *pipeline, order], -1))
        left = on_hand - wanted
        costs.append((left.clamp_min(0) + 9 * (-left).clamp_min(0))[:, 0])
        due = [*pipeline, order]
        on_hand, pipeline = left.clamp_min(0) + due[0], due[1:]
    stock = torch.stack(stocks)
    points = torch.tensor([0.0, 3, 4, 5, 6, 8], dtype=torch.float64)[:, None]
    news = surprises(demand, stock, points=points, excess=excess, tail=tail, scale=torch.tensor([MEAN**0.5], dtype=torch.float64))
    context = torch.zeros(periods, paths, 1, dtype=torch.float64)
    return Reference(demand, news, stock, (torch.stack(states) - MEAN) / MEAN, context, torch.stack(orders)), torch.stack(costs)


def bound_for(lead: int) -> ForesightBound:
    one = torch.ones(1, dtype=torch.float64)
    return ForesightBound(lead_time=torch.tensor([lead]), holding_cost=one, lost_sale=9 * one, features=(lead + 1, 1, 8), hidden=16)


def test_surprises_have_mean_zero_given_what_is_known() -> None:
    demand = COUNT[:, None, None].expand(80, 3, 2)
    on_hand = torch.tensor([[0.0, 2.0], [5.0, 7.0], [11.0, 40.0]], dtype=torch.float64).expand(80, 3, 2)
    points = torch.tensor([[0.0, 1.0], [4.0, 6.0]], dtype=torch.float64)
    news = surprises(demand, on_hand, points=points, excess=excess, tail=tail, scale=torch.ones(2, dtype=torch.float64))
    assert news.shape == (80, 3, 2, 4)
    assert (news * LAW[:, None, None, None]).sum(0).abs().max() < 1e-9


def test_charges_of_foresight_are_zero_on_average_whatever_the_network() -> None:
    bound = bound_for(2)
    with torch.no_grad():
        for parameter in bound.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        reference, _ = single_store(5, 4000, 40, lead=2, level=19, cap=6)
        sent, none = bound.charges(reference)
    assert none is None
    paid = (sent * reference.shipped)[:20].sum((0, 2))  # a policy without foresight pays nothing on average
    assert abs(paid.mean()) < 4 * paid.std() / len(paid) ** 0.5
    assert paid.std() > 1


def test_no_foresight_bound_exceeds_the_exact_optimum_and_training_comes_near() -> None:
    """Lost sales, one store, lead time 1, Poisson 5, h = 1, p = 9: the optimum by value iteration is 5.4382."""
    optimum = next(i for i in lost_sales.ALL if i.parameters["demand"] == "poisson" and i.parameters["lead_time"] == 1 and i.parameters["stockout_cost"] == 9)
    optimum = float(optimum.known["cost"])
    bound = bound_for(1)
    reference, cost = single_store(77, 1500, 100, lead=1, level=14, cap=6)
    with torch.no_grad():
        assert bound(reference, burn_in=40, look_ahead=30).abs().max() < 1e-9  # no charge: just in time, for nothing
    optimizer = torch.optim.Adam(bound.parameters(), lr=0.02)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1.0, 2 * (1 - step / 120))
        optimizer.zero_grad()
        (-bound(single_store(step, 64, 100, lead=1, level=14, cap=6)[0], burn_in=40, look_ahead=30).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        found = bound(reference, burn_in=40, look_ahead=30)
    error = float(found.std()) / len(found) ** 0.5
    assert found.mean() < optimum + 3 * error
    assert found.mean() > 0.8 * optimum
    assert cost[40:70].mean() > found.mean()


def test_a_network_with_a_warehouse_is_bounded_by_every_policy() -> None:
    """Random charges, a policy that orders what was sold: the penalised relaxation stays below the policy's cost."""
    generator = torch.Generator().manual_seed(3)
    periods, paths, stores = 140, 400, 2
    demand = torch.poisson(torch.full((periods, paths, stores), MEAN, dtype=torch.float64), generator=generator)
    stock, hub = torch.full((paths, stores), 2 * MEAN, dtype=torch.float64), torch.full((paths,), 3 * MEAN, dtype=torch.float64)
    to_store = [torch.full_like(stock, MEAN)] * 2
    to_hub = [torch.full_like(hub, 2 * MEAN)] * 2
    stocks, shipped, ordered, empty, cost = [], [], [], [], []
    last = torch.full_like(stock, MEAN)
    for wanted in demand:
        stock, to_store = stock + to_store[0], to_store[1:]
        hub, to_hub = hub + to_hub[0], to_hub[1:]
        sent = last * (hub / last.sum(-1).clamp_min(1e-9)).clamp(0, 1)[:, None]
        order = last.sum(-1)
        hub = hub - sent.sum(-1)
        stocks.append(stock)
        shipped.append(sent)
        ordered.append(order)
        empty.append(hub < 1e-9)
        left = stock - wanted
        cost.append((left.clamp_min(0) + 9 * (-left).clamp_min(0)).sum(-1) + 0.3 * hub)
        last, stock = torch.minimum(stock, wanted), left.clamp_min(0)
        to_store, to_hub = [*to_store, sent], [*to_hub, order]
    on_hand = torch.stack(stocks)
    news = surprises(
        demand, on_hand, points=torch.zeros(1, 2, dtype=torch.float64), excess=excess, tail=tail, scale=torch.full((2,), MEAN**0.5, dtype=torch.float64)
    )
    reference = Reference(
        demand,
        news,
        on_hand,
        on_hand[..., None] / MEAN,
        on_hand.mean(-1, keepdim=True) / MEAN,
        torch.stack(shipped),
        torch.stack(ordered),
        torch.stack(empty),
    )
    one = torch.ones(2, dtype=torch.float64)
    bound = ForesightBound(
        lead_time=torch.tensor([2, 2]), holding_cost=one, lost_sale=9 * one, features=(1, 1, 3), warehouse_lead_time=2, warehouse_holding_cost=0.3, hidden=8
    )
    for scale in (0.0, 0.1, 0.5):
        with torch.no_grad():
            for parameter in bound.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            found = bound(reference, burn_in=60, look_ahead=30)
        gap = torch.stack(cost)[60:110].mean(0) - found
        assert gap.mean() > -3 * gap.std() / paths**0.5, scale


def test_bad_references_are_named() -> None:
    reference, _ = single_store(0, 4, 60, lead=1, level=14, cap=6)
    with pytest.raises(InputError, match="holding_cost must be > 0, got 0.0"):
        ForesightBound(lead_time=torch.tensor([1]), holding_cost=torch.zeros(1), lost_sale=torch.ones(1), features=(1, 1, 1))
    with pytest.raises(InputError, match="lead_time must hold whole periods >= 1"):
        ForesightBound(lead_time=torch.tensor([0]), holding_cost=torch.ones(1), lost_sale=torch.ones(1), features=(1, 1, 1))
    with pytest.raises(InputError, match="more than burn_in \\+ look_ahead periods and burn_in >= 1, got 60, 40 and 30"):
        bound_for(1)(reference, burn_in=40, look_ahead=30)
    with pytest.raises(ShapeError, match="N = 1 stores and J = 8 functions"):
        bound_for(1)(reference._replace(surprise=reference.surprise[..., :3]), burn_in=20, look_ahead=20)
