"""Stocks against shocks: the budget is spent, the gradient is that of the risk, and a chain whose answer is known."""

from __future__ import annotations

import pytest
import torch

from dpsc.errors import InputError
from dpsc.objective.risk import CVaR, Mean
from dpsc.relax import Exact
from dpsc.scenarios import firm_stocks
from dpsc.simulate import firms

SHOCKS = firm_stocks.Shocks(horizon=30, onset=3, hit=0.3, smallest=0.5, largest=1.0, recovery=0.2)


def design(share: float = 0.2) -> firm_stocks.Design:
    network = firms.synthetic(12, degree=3.0, seed=0)
    return firm_stocks.Design(network, torch.full((12,), 2.0, dtype=torch.float64), adjustment_time=6.0, capacity=1.2, budget_share=share, risk=CVaR(0.8))


def test_every_design_costs_the_budget_and_candidates_do_not_meet() -> None:
    one = design()
    theta = torch.randn(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    extra = one.extra(theta)
    assert torch.allclose((extra * one.unit).sum(1), torch.tensor(one.budget, dtype=torch.float64))
    assert torch.allclose(one.extra(torch.zeros(12, dtype=torch.float64))[one.unit > 0].std(), torch.tensor(0.0, dtype=torch.float64), atol=1e-12)
    z = SHOCKS.draw(12, shocks=6, seed=1)
    together = one.value(extra, z)
    assert torch.allclose(together, torch.cat([one.value(e[None], z) for e in extra]), rtol=1e-12)
    assert torch.equal(SHOCKS.draw(12, shocks=9, seed=1)[..., :6], z)


def test_the_gradient_against_differences() -> None:
    one, z = design(), SHOCKS.draw(12, shocks=5, seed=2)
    theta = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: one.value(one.extra(t)[None], z, relax=Exact()), (theta,), eps=1e-7, atol=1e-6)


def test_the_chain_puts_its_money_where_the_shortage_is() -> None:
    # 0 -> 1 and 2 -> 3, alike but for the shock: 0 stops for three steps, 2 never does. Firm 1 wants three steps more, and the budget buys four.
    index = torch.tensor([0, 2]), torch.tensor([1, 3])
    network = firms.Network.of(*index, torch.full((2,), 0.5, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    one = firm_stocks.Design(network, torch.ones(4, dtype=torch.float64), adjustment_time=6.0, capacity=1.2, budget_share=2.0, risk=Mean())
    z = torch.ones(20, 4, 1, dtype=torch.float64)
    z[3:6, 0] = 0.0
    found, trace, used = firm_stocks.by_gradient(one, z, steps=60, learning_rate=0.5, sharpness=(2.0, 32.0))
    assert float(found[1]) > 3 - 1e-9
    assert trace[-1] < trace[0]
    assert used == 120
    greedy, values, tried = firm_stocks.greedy(one, z, increments=2)
    assert float(greedy[1] * one.unit[1]) == pytest.approx(one.budget)
    assert tried == 4
    assert values[-1] == pytest.approx(trace[-1])


def test_a_network_without_stocks_is_refused() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    alone = firms.Network.of(none, none, torch.zeros(0, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    with pytest.raises(InputError, match=r"must have a firm with inputs"):
        firm_stocks.Design(alone, torch.ones(2, dtype=torch.float64), adjustment_time=6.0, capacity=1.2, budget_share=0.1, risk=CVaR(0.9))
