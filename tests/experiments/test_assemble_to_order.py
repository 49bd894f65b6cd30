"""Assemble to order: the published instance, its profit at the optimum, and the slope that the multipliers give."""

from __future__ import annotations

import numpy
import pytest
import scipy.optimize
import torch

from dpsc.instances.assembly import ASSEMBLE_TO_ORDER, assembly
from experiments.assemble_to_order import Profit, _polish


@pytest.fixture(scope="module")
def profit() -> Profit:
    return Profit(assembly(**ASSEMBLE_TO_ORDER.parameters))


def test_the_instance_and_its_optimum(profit: Profit) -> None:
    known = ASSEMBLE_TO_ORDER.known
    assert profit.of.demand.sum(0).tolist() == known["demand_sums"]
    assert abs(profit.value(torch.tensor(known["stock"], dtype=torch.float64)) - known["profit"]) < 1e-5


def test_profit_by_a_linear_program_a_scenario(profit: Profit) -> None:
    stock = torch.tensor([30.0, 7.5, 11.0, 20.0, 13.0, 25.0], dtype=torch.float64)
    bill, demand, cost, salvage, price = (x.numpy() for x in profit.of)
    total = 0.0
    for d in demand:
        found = scipy.optimize.linprog(-(price - bill.T @ salvage), A_ub=bill, b_ub=stock.numpy(), bounds=[(0, x) for x in d])
        total -= found.fun / len(demand)
    assert abs(profit.value(stock) - (total + (salvage - cost) @ stock.numpy())) < 1e-8


def test_slope_of_the_profit(profit: Profit) -> None:
    stock = torch.tensor([60.3, 17.7, 13.1, 30.9, 21.2, 27.4], dtype=torch.float64)
    value, slope = profit.slope(stock)
    assert abs(value - profit.value(stock)) < 1e-9
    for i in range(6):
        move = 0.02 * torch.eye(6, dtype=torch.float64)[i]
        assert abs(float(slope[i]) - (profit.value(stock + move) - profit.value(stock - move)) / 0.04) < 0.02
    other = torch.from_numpy(numpy.random.default_rng(0).uniform(0, 80, 6))
    assert profit.value(other) <= value + float(slope @ (other - stock)) + 1e-6  # concave


def test_the_polish_ends_at_the_optimum_from_nearby(profit: Profit) -> None:
    known = ASSEMBLE_TO_ORDER.known
    near = torch.tensor(known["stock"], dtype=torch.float64) + torch.tensor([1.0, 0, 0, -1.0, 0, 0], dtype=torch.float64)
    value, whole, tried = _polish(profit, near, profit.value(near))
    assert abs(value - known["profit"]) < 1e-5
    assert torch.equal(whole, whole.round())
    assert tried > 0
