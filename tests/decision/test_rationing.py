"""Rationing: the closed form against a solver, and what every ration must keep."""

from __future__ import annotations

import cvxpy as cp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsc.decision import ConvexProgram, Rationing
from dpsc.decision.rationing import balanced, by_priority, proportional
from dpsc.relax import Exact
from dpsc.types import Status


def test_the_closed_form_agrees_with_a_solver() -> None:
    want, supply, weight = cp.Parameter(3, name="want"), cp.Parameter(name="supply"), [0.5, 1.0, 2.0]
    x = cp.Variable(3, name="x")
    problem = cp.Problem(cp.Minimize(cp.sum(cp.multiply([1 / w for w in weight], cp.square(x - want))) / 2), [cp.sum(x) <= supply, x >= 0])
    generator = torch.Generator().manual_seed(1)
    wants, supplies = torch.rand(12, 3, generator=generator, dtype=torch.float64) * 6 - 1, torch.rand(12, generator=generator, dtype=torch.float64) * 8
    ours = Rationing(3)(want=wants, supply=supplies, weight=torch.tensor(weight, dtype=torch.float64).expand(12, 3))
    theirs = ConvexProgram(problem)(want=wants, supply=supplies)
    torch.testing.assert_close(ours.decision, theirs.decision, rtol=0, atol=1e-7)
    torch.testing.assert_close(ours.objective, theirs.objective, rtol=0, atol=1e-7)


def test_shortages_are_in_proportion_to_the_weights() -> None:
    got = balanced(torch.tensor([10.0, 10.0]), torch.tensor(14.0), torch.tensor([1.0, 2.0]), relax=Exact())
    torch.testing.assert_close(got, torch.tensor([8.0, 6.0]))
    torch.testing.assert_close(proportional(torch.tensor([10.0, 30.0]), torch.tensor(20.0), torch.ones(2), relax=Exact()), torch.tensor([5.0, 15.0]))
    assert by_priority(torch.tensor([10.0, 30.0]), torch.tensor(20.0), torch.tensor([1.0, 2.0]), relax=Exact()).tolist() == [0.0, 20.0]


@settings(max_examples=60, deadline=None)
@given(
    want=st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    supply=st.floats(0, 3e6),
    seed=st.integers(0, 100),
    ration=st.sampled_from([proportional, balanced, by_priority]),
)
def test_every_ration_hands_out_what_is_wanted_and_there(want: list[float], supply: float, seed: int, ration) -> None:
    w, s = torch.tensor(want, dtype=torch.float64), torch.tensor(supply, dtype=torch.float64)
    weight = 0.1 + torch.rand(len(want), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    got = ration(w, s, weight, relax=Exact())
    assert (got >= 0).all()
    assert (got <= w + 1e-9 * (1 + w)).all()
    expected = min(float(w.sum()), supply)
    assert abs(float(got.sum()) - expected) <= 1e-9 * (1 + expected)
    order = torch.randperm(len(want), generator=torch.Generator().manual_seed(seed))
    if len(set(weight.tolist())) == len(want):
        torch.testing.assert_close(ration(w[order], s, weight[order], relax=Exact()), got[order], rtol=1e-9, atol=1e-9 * (1 + expected))


def test_rows_without_a_decision() -> None:
    solution = Rationing(2)(want=torch.ones(3, 2), supply=torch.tensor([1.0, -1.0, 1.0]), weight=torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]))
    assert solution.status.tolist() == [Status.OK, Status.INFEASIBLE, Status.INVALID_INPUT]
    assert solution.decision[1:].isnan().all()


@pytest.mark.parametrize("supply", [0.0, 3.0, 100.0])
def test_gradient_of_a_ration(supply: float) -> None:
    want = torch.tensor([1.0, 4.0, 2.5], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    there = torch.tensor(supply + 0.1, dtype=torch.float64, requires_grad=True)
    for ration in (proportional, balanced):
        assert torch.autograd.gradcheck(lambda w, s, v, ration=ration: ration(w, s, v, relax=Exact()), (want, there, weight))
