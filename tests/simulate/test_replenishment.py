"""The extended (R, s, Q) world against published values: the coupled objective, and the best integers of single articles."""

from __future__ import annotations

import pytest
import torch

from dpsc.instances.replenishment import EXTENDED_RSQ, articles, paths, report_paths, shared_warehouse
from dpsc.relax import Exact, Logistic, Smoothed
from dpsc.simulate.replenishment import PARAMETERS, Simulated, cost, simulate, with_shared_warehouse

BEST = EXTENDED_RSQ.known["best_integers"]


@pytest.mark.parametrize("trigger", ["position", "idle"])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_integers_cost_what_is_published(seed: int, trigger: str) -> None:
    of = articles(1, seed=seed)
    (kick_week, kick_order, reorder_point, order_quantity), best, _ = BEST[trigger][seed]
    units = torch.tensor([kick_order, reorder_point + 0.5, 7.0 if order_quantity is None else order_quantity], dtype=torch.float64)
    theta = dict(zip(PARAMETERS, [torch.tensor([float(kick_week)], dtype=torch.float64), *(units[:, None] / of.scale)], strict=True))
    p75 = torch.quantile(cost(theta, paths(of, 256), articles=of, relax=Exact(), trigger=trigger)[:, 0], 0.75)
    assert abs(float(p75) - best) < 0.006


def test_the_coupled_objective_at_the_start() -> None:
    of = articles(100)
    capacity, price = shared_warehouse(of)
    theta = {name: torch.full_like(of.scale, value) for name, value in zip(PARAMETERS, EXTENDED_RSQ.parameters["start"], strict=True)}
    played = simulate(theta, paths(of, 256), articles=of, relax=Exact())
    p75 = torch.quantile(with_shared_warehouse(played, capacity=capacity, price=price), 0.75)
    assert abs(float(p75) - EXTENDED_RSQ.known["start_p75_coupled"][100]) < 0.06


def test_units_above_the_capacity_are_paid_and_nothing_else() -> None:
    on_hand = (torch.tensor([[3.0, 4.0], [1.0, 1.0]], dtype=torch.float64), torch.tensor([[0.0, 6.0], [9.0, 3.0]], dtype=torch.float64))
    played = Simulated(torch.tensor([[10.0, 1.0], [20.0, 2.0]], dtype=torch.float64), on_hand)
    assert with_shared_warehouse(played, capacity=5.0, price=2.0).tolist() == [11 + 2 * 2 + 2 * 1, 22 + 2 * 7]


def test_slope_of_the_coupled_objective() -> None:
    of = articles(3)
    drawn = paths(of, 16)

    def program(*values: torch.Tensor) -> torch.Tensor:
        played = simulate(dict(zip(PARAMETERS, values, strict=True)), drawn, articles=of, relax=Smoothed(Logistic(0.5)))
        return with_shared_warehouse(played, capacity=20.0, price=2.0).mean()

    start = [torch.full_like(of.scale, v).requires_grad_() for v in (1.3, 3.1, 2.2, 3.3)]
    assert torch.autograd.gradcheck(program, start, eps=1e-6, atol=1e-3, rtol=1e-5)


def test_how_many_futures_report() -> None:
    assert [report_paths(n) for n in (1, 10, 100, 1000, 10_000)] == [4096, 4096, 4000, 400, 256]
