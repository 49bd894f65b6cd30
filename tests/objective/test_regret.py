"""Regret: zero at the optimum, never below, and its two published normalisations."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc.decision import Allocation, Knapsack, Portfolio
from dpsc.errors import InputError, NegativeRegretError, ShapeError
from dpsc.objective import regret, relative_regret

F64 = torch.float64
PROBLEMS: dict[str, tuple[Any, str]] = {
    "allocation": (Allocation(4, regularization=0.7), "cost"),
    "portfolio": (Portfolio(4, risk_aversion=2.0), "returns"),
    "knapsack": (Knapsack([1, 2, 2, 3], 4), "value"),
}
each_problem = pytest.mark.parametrize("name", PROBLEMS)

awkward = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1.0, 1e-9, -1e6, 1e6]))


def rows(width: int, most: int = 4, least: int = 0) -> st.SearchStrategy[Tensor]:
    return (
        st.integers(least, most)
        .flatmap(lambda n: st.lists(st.lists(awkward, min_size=width, max_size=width), min_size=n, max_size=n))
        .map(lambda listed: torch.tensor(listed, dtype=F64).reshape(-1, width))
    )


def feasible(name: str, shares: Tensor) -> Tensor:
    """A feasible decision from numbers in (0, 1]."""
    if name != "knapsack":
        return shares / shares.sum(-1, keepdim=True)
    decision, load, weights = torch.zeros_like(shares), torch.zeros_like(shares[..., 0]), PROBLEMS[name][0].weights
    for j in range(shares.shape[-1]):
        take = (shares[..., j] > 0.5) & (load + weights[j] <= PROBLEMS[name][0].capacity)
        decision[..., j], load = take.to(F64), load + weights[j] * take
    return decision


# --------------------------------------------------------------------------------------------------------- known answers


def test_regret_of_equal_shares_in_the_notebooks_demonstration() -> None:
    """c = (.8, 1, 1.2), eps = 1: x* = (13, 10, 7) / 30, f* = 197 / 150; equal shares cost 4 / 3, 1 / 50 more."""
    problem, cost = Allocation(3), torch.tensor([0.8, 1.0, 1.2], dtype=F64)
    equal = torch.full((3,), 1 / 3, dtype=F64)
    assert float(regret(problem, equal, {"cost": cost})) == pytest.approx(1 / 50, abs=1e-14)
    assert float(regret(problem, torch.tensor([13.0, 10.0, 7.0], dtype=F64) / 30, {"cost": cost})) == pytest.approx(0, abs=1e-14)


def test_regret_of_a_portfolio_is_utility_forgone() -> None:
    """r = (1, 0), gamma = 1: x* = (3, 1) / 4 with utility 1 / 8; all in the second asset has utility -1."""
    problem, returns = Portfolio(2, risk_aversion=1.0), torch.tensor([1.0, 0.0], dtype=F64)
    assert float(regret(problem, torch.tensor([0.0, 1.0], dtype=F64), {"returns": returns})) == pytest.approx(9 / 8, abs=1e-14)


def test_regret_of_a_knapsack_is_value_forgone() -> None:
    """Values 6, 10, 12, weights 1, 2, 3, capacity 5: the best is 22, greedy by value per weight takes 16."""
    problem, value = Knapsack([1, 2, 3], 5), torch.tensor([6.0, 10.0, 12.0], dtype=F64)
    decisions = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=F64)
    assert regret(problem, decisions, {"value": value.expand(3, 3)}).tolist() == [6.0, 0.0, 22.0]


def test_the_two_published_normalisations_differ() -> None:
    lost, optimum = torch.tensor([1.0, 2.0, 3.0], dtype=F64), torch.tensor([-10.0, 4.0, -5.0], dtype=F64)
    assert float(relative_regret(lost, optimum, normalize="sum")) == pytest.approx(6 / 19, abs=1e-15)
    assert float(relative_regret(lost, optimum, normalize="mean")) == pytest.approx(0.4, abs=1e-15)


def test_relative_regret_of_several_sets_of_rows() -> None:
    lost = torch.tensor([[1.0, 3.0], [0.0, 2.0]], dtype=F64)
    optimum = torch.tensor([[2.0, 4.0], [1.0, -4.0]], dtype=F64)
    torch.testing.assert_close(relative_regret(lost, optimum, normalize="sum"), torch.tensor([4 / 6, 2 / 5], dtype=F64))
    torch.testing.assert_close(relative_regret(lost, optimum, normalize="mean"), torch.tensor([5 / 8, 1 / 4], dtype=F64))


@given(st.floats(1e-3, 1e3), st.integers(1, 5))
def test_the_normalisations_agree_where_all_optima_are_equal(size: float, count: int) -> None:
    lost, optimum = torch.arange(count, dtype=F64), torch.full((count,), -size, dtype=F64)
    torch.testing.assert_close(relative_regret(lost, optimum, normalize="sum"), relative_regret(lost, optimum, normalize="mean"), rtol=1e-14, atol=0)


# -------------------------------------------------------------------------------------------------------------- gradient


@pytest.mark.parametrize(("problem", "parameter"), [(Allocation(3, regularization=0.4), "cost"), (Portfolio(3), "returns")], ids=["allocation", "portfolio"])
def test_gradient_in_the_decision(problem: Any, parameter: str) -> None:
    true = torch.tensor([[0.3, -1.0, 2.0], [1.0, 1.0, 1.0]], dtype=F64)
    decision = torch.tensor([[0.2, 0.2, 0.6], [0.9, 0.1, 0.0]], dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(regret(problem, decision, {parameter: true}).sum(), decision)
    torch.testing.assert_close(gradient, problem.sign * true + 2 * problem.curvature * decision.detach(), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: regret(problem, x, {parameter: true}), (decision,))


# ------------------------------------------------------------------------------------------------------------ invariants


@each_problem
@given(data=st.data())
def test_regret_is_zero_at_the_optimum_and_never_negative(name: str, data: st.DataObject) -> None:
    problem, parameter = PROBLEMS[name]
    true, predicted = data.draw(rows(4)), data.draw(rows(4, 1, 1))
    solved = problem(**{parameter: true})
    at_optimum = regret(problem, solved.decision, {parameter: true})
    assert at_optimum.shape == true.shape[:1]
    scale = 1 + true.abs().sum(1)
    assert bool((at_optimum <= 1e-12 * scale).all())
    for decision in (
        problem(**{parameter: predicted}).decision.expand_as(true),
        feasible(name, data.draw(rows(4, 1, 1)).abs().remainder(1) + 0.01).expand_as(true),
    ):
        lost = regret(problem, decision, {parameter: true})
        assert bool((lost >= 0).all())
        direct = problem.objective(decision, **{parameter: true}) - solved.objective
        torch.testing.assert_close(lost, direct.clamp(min=0), rtol=0, atol=0)
        assert torch.equal(regret(problem, decision, {parameter: true}, optimum=solved.objective), lost)


@each_problem
def test_a_batch_is_its_rows_and_any_leading_shape_works(name: str) -> None:
    problem, parameter = PROBLEMS[name]
    generator = torch.Generator().manual_seed(0)
    true, said = torch.randn(2, 3, 4, dtype=F64, generator=generator), torch.randn(2, 3, 4, dtype=F64, generator=generator)
    decision = problem(**{parameter: said}).decision
    lost = regret(problem, decision, {parameter: true})
    assert lost.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert torch.equal(regret(problem, decision[i, j], {parameter: true[i, j]}), lost[i, j])


@each_problem
def test_rows_without_an_optimum_are_nan_and_alone(name: str) -> None:
    problem, parameter = PROBLEMS[name]
    true = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    decision = problem(**{parameter: true.flip(0)}).decision
    clean = regret(problem, decision, {parameter: true})
    true[1, 2], true[3, 0], decision[4] = float("nan"), float("inf"), float("nan")
    lost = regret(problem, decision, {parameter: true})
    assert lost.isnan().tolist() == [False, True, False, True, True]
    assert torch.equal(lost[[0, 2]], clean[[0, 2]])


@each_problem
def test_single_precision(name: str) -> None:
    problem, parameter = PROBLEMS[name]
    true = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    decision = problem(**{parameter: true.flip(0)}).decision
    lost = regret(problem, decision, {parameter: true})
    assert lost.dtype == torch.float32
    torch.testing.assert_close(lost.double(), regret(problem, decision.double(), {parameter: true.double()}), rtol=0, atol=1e-5)
    assert bool((regret(problem, problem(**{parameter: true}).decision, {parameter: true}) <= 1e-5).all())


def test_no_rows_no_regret() -> None:
    assert regret(Allocation(3), torch.zeros(0, 3), {"cost": torch.zeros(0, 3)}).shape == (0,)


# ---------------------------------------------------------------------------------------------------------------- errors


def test_an_infeasible_decision_that_beats_the_optimum_raises_and_says_where() -> None:
    cost = torch.tensor([[0.8, 1.0, 1.2]] * 3, dtype=F64)
    decision = Allocation(3)(cost=cost).decision
    decision[1:] = 0.0  # allocates nothing
    with pytest.raises(
        NegativeRegretError,
        match=r"regret must be >= 0, got -1\.31333 at row \(1,\) \(2 of 3 rows\): objective 0 against an optimum of 1\.3133333\. "
        "Either the decision breaks a constraint, or the optimum was computed with another objective or other parameters",
    ):
        regret(Allocation(3), decision, {"cost": cost})


def test_an_optimum_of_another_objective_raises() -> None:
    cost = torch.tensor([[0.8, 1.0, 1.2]], dtype=F64)
    solved = Allocation(3)(cost=cost)
    with pytest.raises(NegativeRegretError, match=r"objective 1\.3133333 against an optimum of 1\.32"):
        regret(Allocation(3), solved.decision, {"cost": cost}, optimum=torch.tensor([1.32], dtype=F64))


@pytest.mark.parametrize(("dtype", "rounding"), [(F64, 1e-8), (torch.float32, 1e-5)])
def test_rounding_is_forgiven_up_to_its_size(dtype: torch.dtype, rounding: float) -> None:
    problem, value = Knapsack([1], 1), torch.tensor([[99.0]], dtype=dtype)  # optimum -99: rounding times 100 is allowed
    decision = torch.ones(1, 1, dtype=dtype)
    within, beyond = (torch.tensor([-99.0 + factor * 100 * rounding], dtype=dtype) for factor in (0.9, 1.2))
    assert float(regret(problem, decision, {"value": value}, optimum=within)) == 0.0
    with pytest.raises(NegativeRegretError, match="regret must be >= 0"):
        regret(problem, decision, {"value": value}, optimum=beyond)


def test_an_optimum_of_another_shape_is_refused() -> None:
    cost = torch.ones(2, 3)
    with pytest.raises(ShapeError, match=r"optimum must have the shape of the objective, \(2,\), got \(2, 1\)"):
        regret(Allocation(3), cost / 3, {"cost": cost}, optimum=torch.ones(2, 1))


def test_relative_regret_errors() -> None:
    with pytest.raises(InputError, match="normalize must be one of mean, sum; got 'average'"):
        relative_regret(torch.ones(2), torch.ones(2), normalize="average")
    with pytest.raises(ShapeError, match=r"regret must have the shape of optimum, \(3,\), got \(2,\)"):
        relative_regret(torch.ones(2), torch.ones(3), normalize="sum")
    for normalize in ("sum", "mean"):
        with pytest.raises(InputError, match=r"regret must be finite, got 1 of 2 entries NaN or infinite, the first, nan, at index \(1,\)"):
            relative_regret(torch.tensor([1.0, float("nan")]), torch.ones(2), normalize=normalize)
    with pytest.raises(InputError, match="normalize='mean' divides by the optimum of every row, got 2 rows with optimum 0; use normalize='sum'"):
        relative_regret(torch.ones(3), torch.tensor([0.0, 1.0, 0.0]), normalize="mean")
    assert float(relative_regret(torch.ones(3), torch.tensor([0.0, 1.0, 0.0]), normalize="sum")) == 3.0


@pytest.mark.parametrize(
    ("lost", "optimum", "how"),
    [
        ([0.0, 0.0], [0.0, 0.0], "sum"),
        ([1.0], [0.0], "sum"),
        ([], [], "mean"),
        ([], [], "sum"),
        ([1.0, 1.0], [1.0, float("nan")], "mean"),
        ([1.0, 1.0], [1.0, float("nan")], "sum"),
    ],
)
def test_relative_regret_without_a_denominator(lost, optimum, how):
    with pytest.raises(InputError):
        relative_regret(torch.tensor(lost), torch.tensor(optimum), normalize=how)
