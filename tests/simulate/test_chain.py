"""The exact average cost: against a simulation by hand of the chain's powers, a newsvendor, and differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.objective import newsvendor_table, poisson_pmf
from dpsc.simulate.chain import average_cost

PMF = poisson_pmf(torch.tensor(2.0, dtype=torch.float64), 15)
LOWEST, STATES = -20, 41
COSTS = {"holding_cost": 1.0, "stockout_cost": 9.0}


def up_to(level: int) -> Tensor:
    """Order up to a level."""
    state = torch.arange(STATES)
    return torch.nn.functional.one_hot(torch.maximum(state, torch.tensor(level - LOWEST)), STATES).double()


def test_base_stock_costs_what_the_newsvendor_says() -> None:
    table = newsvendor_table(*(torch.tensor(x, dtype=torch.float64) for x in (2.0, 1.0, 9.0)), largest=15)
    for level in (2, 4, 7):
        assert abs(float(average_cost(up_to(level), PMF, lowest=LOWEST, **COSTS)) - float(table[level])) < 1e-12


def test_a_random_rule_by_powers_of_its_chain() -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(STATES, STATES, generator=g, dtype=torch.float64)
    possible = torch.ones(STATES, STATES).triu().bool() & (torch.arange(STATES)[None] <= torch.maximum(torch.arange(STATES)[:, None], torch.tensor(30)))
    level = torch.softmax(logits.masked_fill(~possible, -torch.inf), -1)
    x = torch.zeros(STATES, dtype=torch.float64)
    x[25] = 1
    mean = 0.0
    for _ in range(400):
        y = x @ level
        mean = float(50.0 * (x * (1 - level.diagonal())).sum())
        after = torch.zeros(STATES, dtype=torch.float64)
        for d, p in enumerate(PMF.tolist()):
            left = torch.arange(STATES) + LOWEST - d
            mean += p * float((y * (left.clamp_min(0) + 9 * (-left).clamp_min(0))).sum())
            after.index_add_(0, (torch.arange(STATES) - d).clamp_min(0), y * p)
        x = after
    assert abs(mean - float(average_cost(level, PMF, lowest=LOWEST, order_cost=50.0, check=False, **COSTS))) < 1e-9


def test_gradient_and_batch() -> None:
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 9, 9, generator=g, dtype=torch.float64, requires_grad=True)
    pmf = torch.tensor([0.3, 0.4, 0.3], dtype=torch.float64)
    closed = torch.ones(9, 9).tril(-1).bool()

    def cost(z: Tensor) -> Tensor:
        return average_cost(torch.softmax(z.masked_fill(closed, -torch.inf), -1), pmf, lowest=-4, check=False, **COSTS)

    assert torch.autograd.gradcheck(cost, (logits,))
    assert torch.allclose(cost(logits), torch.stack([cost(z) for z in logits]))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: average_cost(up_to(4), PMF * 0.9, lowest=LOWEST, **COSTS), InputError, r"demand_pmf must be a vector of probabilities.*sum of 0.8"),
        (lambda: average_cost(up_to(4), PMF * math.nan, lowest=LOWEST, **COSTS), InputError, r"demand_pmf must be finite"),
        (lambda: average_cost(up_to(4)[:3], PMF, lowest=LOWEST, **COSTS), ShapeError, r"level must have shape \(..., X, X\), got \(3, 41\)"),
        (lambda: average_cost(up_to(4) * 0.5, PMF, lowest=LOWEST, **COSTS), InputError, r"the rows of level must be probabilities"),
        (lambda: average_cost(up_to(4).T, PMF, lowest=LOWEST, **COSTS), InputError, r"an order does not lower the inventory|must be probabilities"),
        (lambda: average_cost(up_to(4), PMF, lowest=LOWEST, holding_cost=1.0, stockout_cost=-1.0), InputError, r"stockout_cost must be >= 0, got -1.0"),
        (lambda: average_cost(torch.eye(STATES).double(), PMF, lowest=LOWEST, **COSTS), InputError, r"the lattice -20 ... 20 is too small"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
