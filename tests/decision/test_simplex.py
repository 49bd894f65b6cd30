"""Allocation and Portfolio: published answers, agreement with the convex program, gradients at active bounds, functional transforms."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from dpsc.decision import Allocation, Portfolio
from dpsc.errors import InputError
from dpsc.instances import layers, notebook
from dpsc.types import Status


def test_demonstration_of_the_notebook() -> None:
    known, cost = notebook.ALLOCATION.known, torch.tensor(notebook.ALLOCATION.parameters["demonstration_cost"], dtype=torch.float64)
    layer = Allocation(3, regularization=notebook.ALLOCATION.parameters["regularization"])
    solution = layer(cost=cost)
    torch.testing.assert_close(solution.decision, torch.tensor(known["demonstration_decision"], dtype=torch.float64), rtol=0, atol=5e-5)
    assert abs(float(solution.objective) - known["demonstration_objective"]) < 5e-5
    sensitivity = layer.sensitivity(cost=cost)["cost"]
    torch.testing.assert_close(sensitivity, torch.tensor(known["demonstration_sensitivity"], dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(layer.value_gradient(cost=cost)["cost"], solution.decision)


@pytest.mark.parametrize("batch", [32, 128, 1024])
def test_published_batch(batch: int) -> None:
    draw, known = layers.draw_allocation(batch), layers.P1.known
    leaf = draw.batched.clone().requires_grad_()
    solution = Allocation(3)(cost=leaf)
    (solution.decision * draw.weights).sum().backward()
    torch.testing.assert_close(solution.decision[0].detach(), torch.tensor(known["first_decision"], dtype=torch.float64), rtol=0, atol=5e-9)
    assert leaf.grad is not None
    assert abs(float(leaf.grad.norm()) - known["gradient_norm"][batch]) < 5e-10 * known["gradient_norm"][batch]


@pytest.mark.parametrize(
    "make", [lambda closed: Allocation(6, regularization=0.3, closed_form=closed), lambda closed: Portfolio(6, risk_aversion=0.7, closed_form=closed)]
)
def test_closed_form_agrees_with_the_convex_program(make) -> None:
    value = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    name, results = next(iter(make(True).parameter_shapes)), []
    for closed in (True, False):
        leaf = value.clone().requires_grad_()
        solution = make(closed)(**{name: leaf})
        (gradient,) = torch.autograd.grad((solution.decision * weights).sum() + (solution.objective * weights[:, 0]).sum(), leaf)
        results.append((solution.decision.detach(), solution.objective.detach(), gradient))
    active = (results[0][0] == 0).sum(1)
    assert len(set(active.tolist())) >= 4  # the comparison covers many supports
    for closed, program in zip(*results, strict=True):
        torch.testing.assert_close(closed, program, rtol=0, atol=1e-9)


def test_multipliers_satisfy_the_optimality_conditions() -> None:
    cost = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    s = Allocation(5, regularization=0.4)(cost=cost)
    stationarity = cost + 0.8 * s.decision + s.dual["total"][:, None] - s.dual["lower"]
    torch.testing.assert_close(stationarity, torch.zeros_like(cost), rtol=0, atol=1e-13)
    assert (s.dual["lower"] >= 0).all()
    torch.testing.assert_close(s.dual["lower"] * s.decision, torch.zeros_like(cost), rtol=0, atol=0)


def test_gradient_where_only_one_item_is_left() -> None:
    cost = torch.tensor([-5.0, 1.0, 1.5], dtype=torch.float64)
    sensitivity = Allocation(3).sensitivity(cost=cost)["cost"]
    assert torch.equal(sensitivity, torch.zeros(3, 3, dtype=torch.float64))


def test_second_derivative_and_functional_transforms() -> None:
    layer = Allocation(4)
    cost = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def decision(c):
        return layer(cost=c).decision

    assert torch.autograd.gradgradcheck(decision, cost.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda c: layer(cost=c).objective, cost.clone().requires_grad_())
    torch.testing.assert_close(torch.func.vmap(decision)(cost), decision(cost))
    by_reverse = torch.func.vmap(torch.func.jacrev(decision))(cost)
    torch.testing.assert_close(by_reverse, layer.sensitivity(cost=cost)["cost"])
    hessian = torch.func.vmap(torch.func.jacrev(torch.func.jacrev(lambda c: layer(cost=c).objective)))(cost)
    torch.testing.assert_close(hessian, by_reverse)  # d2 value / dc2 = dx/dc


@given(
    hnp.arrays(
        float,
        st.tuples(st.integers(0, 4), st.integers(1, 7)),
        elements=st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e6, -1e6]), st.floats(-1e6, 1e6)),
    ),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_ties_spreads_and_sizes(values, regularization) -> None:
    cost = torch.from_numpy(values)
    s = Allocation(cost.shape[1], regularization=regularization)(cost=cost)
    scale = 1 + cost.abs().amax(1, keepdim=True) / regularization if len(cost) else cost
    assert (s.status == Status.OK).all()
    assert (s.decision >= 0).all()
    assert ((s.decision.sum(1, keepdim=True) - 1).abs() <= 1e-15 * cost.shape[1] * scale).all()
    reduced = cost + 2 * regularization * s.decision
    level = torch.where(s.decision > 0, reduced, float("inf")).amin(1, keepdim=True) if len(cost) else reduced
    assert (reduced >= level - 1e-9 * regularization * scale).all()  # no item outside the support is cheaper than those inside


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "1"])
def test_regularization_must_be_positive(bad) -> None:
    with pytest.raises(InputError, match="regularization must be a finite number > 0, got"):
        Allocation(3, regularization=bad)
