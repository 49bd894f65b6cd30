"""Who would be missed most: by hand on a chain, by removal and by gradient on a network."""

from __future__ import annotations

import math

import pytest
import torch

from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from dpsc.scenarios import systemic_risk
from dpsc.simulate import firms


def chain() -> firms.Network:
    """0 supplies 1; both sell 1 unit a step to final demand, 1 takes half a unit of 0 for each of its own."""
    return firms.Network.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5], dtype=torch.float64), torch.ones(2, dtype=torch.float64))


def test_removal_on_a_chain_by_hand() -> None:
    # Firm 1 gone at step 2 of 10: its final demand of steps 2 to 9 is lost, 8. Firm 0 gone: its own 8, and firm 1 lives 3 steps on its stock (steps 2, 3, 4
    # after what was on order at the start has come), then loses the last 5.
    parameters = firms.Parameters(inventory=3.0, adjustment_time=10.0, capacity=1.2)
    lost = systemic_risk.removal(chain(), parameters, horizon=10, onset=2)
    assert torch.allclose(lost, torch.tensor([8.0 + 5.0, 8.0], dtype=torch.float64), atol=1e-12)
    some = systemic_risk.removal(chain(), parameters, horizon=10, onset=2, chosen=torch.tensor([1]), together=1)
    assert torch.allclose(some, lost[1:])


def test_the_gradient_reaches_all_that_matter_and_the_exact_one_none() -> None:
    network = firms.synthetic(60, degree=6.0, seed=0)
    parameters = firms.Parameters(inventory=4.0, adjustment_time=6.0, capacity=1.2)
    exact = systemic_risk.by_gradient(network, parameters, horizon=40, onset=3, relax=Exact())
    assert not bool(exact.any())
    slope = systemic_risk.by_gradient(network, parameters, horizon=40, onset=3)
    removed = systemic_risk.removal(network, parameters, horizon=40, onset=3)
    assert bool((slope > 0).all())
    assert systemic_risk.rank_correlation(slope, removed) > 0.6
    assert float(removed.min()) >= 0


def test_at_a_loss_above_the_spare_capacity_the_exact_gradient_is_a_difference() -> None:
    parameters = firms.Parameters(inventory=3.0, adjustment_time=10.0, capacity=1.2)
    slope = systemic_risk.by_gradient(chain(), parameters, horizon=10, onset=2, level=0.4, relax=Exact())

    def loss(first: float, second: float) -> float:
        productivity = torch.ones(10, 2, 1, dtype=torch.float64)
        productivity[2:, :, 0] = torch.tensor([1 - first, 1 - second], dtype=torch.float64)
        return float(systemic_risk.unmet(chain(), firms.rollout(chain(), parameters, productivity=productivity))[0])

    h = 1e-6
    wanted = [(loss(0.4 + h, 0.4) - loss(0.4 - h, 0.4)) / (2 * h), (loss(0.4, 0.4 + h) - loss(0.4, 0.4 - h)) / (2 * h)]
    assert torch.allclose(slope, torch.tensor(wanted, dtype=torch.float64), atol=1e-6)


def test_rank_correlation_with_ties() -> None:
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert systemic_risk.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert systemic_risk.rank_correlation(a, -a) == pytest.approx(-1)
    assert systemic_risk.rank_correlation(a, torch.tensor([1.0, 2.0, 2.0, 3.0])) == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert math.isnan(systemic_risk.rank_correlation(a, torch.ones(4)))
    with pytest.raises(ShapeError, match=r"must share one shape \(M,\)"):
        systemic_risk.rank_correlation(a, a[:2])
    with pytest.raises(InputError, match=r"level must be in \[0, 1\), got 1"):
        systemic_risk.by_gradient(chain(), firms.Parameters(inventory=3.0, adjustment_time=10.0), horizon=5, level=1)
