"""The 0/1 knapsack oracle against enumeration and the textbook's dynamic program."""

import itertools
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc.decision import Knapsack
from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.types import Status

F64 = torch.float64
NAN, INF = float("nan"), float("inf")


def enumerated(value: Sequence[float], weights: Sequence[int], capacity: int) -> float:
    """Best value over all choices."""
    return max(
        sum(v for v, take in zip(value, x, strict=True) if take)
        for x in itertools.product((0, 1), repeat=len(weights))
        if sum(w for w, take in zip(weights, x, strict=True) if take) <= capacity
    )


def dynamic_program(value: Sequence[float], weights: Sequence[int], capacity: int) -> float:
    """The recursion of the textbook, item by item: best(c) = max(best(c), v_j + best(c - w_j))."""
    best = [0.0] * (capacity + 1)
    for v, w in zip(value, weights, strict=True):
        for c in range(capacity, w - 1, -1):
            best[c] = max(best[c], v + best[c - w])
    return best[capacity]


def assert_solved(problem: Knapsack, value: Tensor, optimum: Sequence[float]) -> None:
    """Decisions are 0/1, fit, and are worth the optimum; nothing worthless is taken."""
    solution = problem(value=value)
    x = solution.decision.double()
    assert bool(((x == 0) | (x == 1)).all())
    assert bool((x @ problem.weights.double() <= problem.capacity).all())
    assert not bool(x[value <= 0].any())
    worth = torch.tensor(optimum, dtype=F64)
    scale = 1 + value.double().abs().sum(1)
    assert bool((((x * value.double()).sum(1) - worth).abs() <= 1e-12 * scale).all())
    assert bool(((-solution.objective.double() - worth).abs() <= (1e-12 if value.dtype == F64 else 1e-5) * scale).all())
    assert solution.status.dtype == torch.int8
    assert not bool(solution.status.any())
    assert not bool(solution.residual.any())
    assert solution.dual == {}
    assert solution.decision.dtype == solution.objective.dtype == solution.residual.dtype == value.dtype


# --------------------------------------------------------------------------------------------------------- known answers


def test_a_knapsack_that_greed_gets_wrong() -> None:
    solution = Knapsack([1, 2, 3], 5)(value=torch.tensor([6.0, 10.0, 12.0], dtype=F64))
    assert solution.decision.tolist() == [0, 1, 1]
    assert solution.objective.item() == -22.0


PLAIN = st.floats(-1e6, 1e6)
COARSE = st.integers(-2, 4).map(float)  # ties, zeros, negative values
SPREAD = st.sampled_from([1e-6, 1.0, 1e6, -1e6, 0.0, -0.0])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int, list[list[float]]]:
    weights = draw(st.lists(st.integers(1, draw(st.sampled_from([1, 3, 20]))), min_size=1, max_size=9))
    capacity = draw(st.one_of(st.integers(0, sum(weights) + 3), st.sampled_from([0, sum(weights), 10 * sum(weights)])))
    number = draw(st.sampled_from([PLAIN, COARSE, SPREAD]))
    return weights, capacity, draw(st.lists(st.lists(number, min_size=len(weights), max_size=len(weights)), min_size=0, max_size=3))


@given(problems(), st.sampled_from([F64, torch.float32]))
def test_against_enumeration(problem: tuple[list[int], int, list[list[float]]], dtype: torch.dtype) -> None:
    weights, capacity, listed = problem
    value = torch.tensor(listed, dtype=dtype).reshape(-1, len(weights))
    assert_solved(Knapsack(weights, capacity), value, [enumerated(row, weights, capacity) for row in value.tolist()])


def test_against_enumeration_with_ten_items() -> None:
    weights = [4, 7, 1, 4, 9, 2, 7, 3, 4, 5]
    value = torch.randn(6, 10, dtype=F64, generator=torch.Generator().manual_seed(0)) + 1
    for capacity in (0, 1, 10, 23, 45, 46, 100):
        assert_solved(Knapsack(weights, capacity), value, [enumerated(row, weights, capacity) for row in value.tolist()])


WEIGHTS = {
    "as in the energy data": [3, 5, 7] * 16,
    "all equal": [4] * 48,
    "all different": list(range(1, 49)),
    "any": random.Random(3).choices(range(1, 30), k=48),
    "one heavy": [1] * 47 + [100],
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("capacity", [0, 2, 60, 120, 5000])
def test_48_items_against_the_textbooks_dynamic_program(name: str, capacity: int) -> None:
    weights = WEIGHTS[name]
    capacity = min(capacity, sum(weights) + 1)
    generator = torch.Generator().manual_seed(1)
    value = torch.cat(
        [
            torch.rand(2, 48, dtype=F64, generator=generator) * 300,
            torch.randn(1, 48, dtype=F64, generator=generator).exp() - 0.5,
            torch.randint(-1, 4, (1, 48), generator=generator).double(),
        ]
    )
    assert_solved(Knapsack(weights, capacity), value, [dynamic_program(row, weights, capacity) for row in value.tolist()])


# -------------------------------------------------------------------------------------------------------------- gradient


def test_the_objective_has_the_gradient_of_the_value_taken_and_the_decision_none() -> None:
    value = torch.tensor([[6.0, 10.0, 12.0], [1.0, -1.0, 2.0]], dtype=F64, requires_grad=True)
    problem = Knapsack([1, 2, 3], 5)
    solution = problem(value=value)
    assert not solution.decision.requires_grad
    (gradient,) = torch.autograd.grad(solution.objective.sum(), value)
    assert torch.equal(gradient, -solution.decision)
    assert torch.equal(problem.value_gradient(value=value)["value"], -solution.decision)
    assert torch.autograd.gradcheck(lambda v: problem(value=v).objective, (value,))
    assert not bool(problem.sensitivity(value=value)["value"].any())


# ------------------------------------------------------------------------------------------------------------ invariants


@given(problems(), st.data())
def test_a_batch_is_its_rows_in_any_order(problem: tuple[list[int], int, list[list[float]]], data: st.DataObject) -> None:
    weights, capacity, listed = problem
    value = torch.tensor(listed, dtype=F64).reshape(-1, len(weights))
    oracle = Knapsack(weights, capacity)
    solution = oracle(value=value)
    for i, row in enumerate(value):
        alone = oracle(value=row)
        assert alone.decision.shape == (len(weights),)
        assert alone.status.shape == ()
        assert torch.equal(alone.decision, solution.decision[i])
        assert torch.equal(alone.objective, solution.objective[i])
    order = torch.tensor(data.draw(st.permutations(range(len(weights)))))
    renamed = Knapsack([weights[j] for j in order], capacity)(value=value[:, order])
    torch.testing.assert_close(renamed.objective, solution.objective, rtol=1e-14, atol=0)


@given(problems())
def test_more_capacity_and_more_value_are_never_worse(problem: tuple[list[int], int, list[list[float]]]) -> None:
    weights, capacity, listed = problem
    value = torch.tensor(listed, dtype=F64).reshape(-1, len(weights))
    rounding = 1e-12 * (1 + value.abs().sum(1))
    best = Knapsack(weights, capacity)(value=value).objective
    assert bool((Knapsack(weights, capacity + 1)(value=value).objective <= best + rounding).all())
    assert bool((Knapsack(weights, capacity)(value=value + 1).objective <= best + rounding).all())


@pytest.mark.parametrize("leading", [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_any_leading_shape(leading: tuple[int, ...], dtype: torch.dtype) -> None:
    problem = Knapsack([2, 3, 3, 4], 7)
    value = torch.randn(*leading, 4, dtype=dtype, generator=torch.Generator().manual_seed(2))
    solution = problem(value=value)
    assert solution.decision.shape == value.shape
    assert solution.objective.shape == solution.status.shape == solution.residual.shape == leading
    assert solution.decision.dtype == solution.objective.dtype == dtype
    flat = problem(value=value.reshape(-1, 4))
    assert torch.equal(flat.decision.reshape(value.shape), solution.decision)
    assert torch.equal(solution.objective, problem.objective(solution.decision, value=value))


def test_single_precision_decides_as_double_precision() -> None:
    problem = Knapsack(WEIGHTS["as in the energy data"], 60)
    value = torch.rand(20, 48, generator=torch.Generator().manual_seed(3)) * 3000
    assert torch.equal(problem(value=value).decision.double(), problem(value=value.double()).decision)


def test_a_view_of_a_larger_tensor_is_read_as_it_is() -> None:
    problem = Knapsack([2, 3, 4], 5)
    wide = torch.randn(6, 8, dtype=F64, generator=torch.Generator().manual_seed(4))
    view = wide.T[:, ::2]
    assert not view.is_contiguous()
    assert torch.equal(problem(value=view).decision, problem(value=view.contiguous()).decision)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_bad_row_is_flagged_and_the_others_are_as_without_it(bad: float) -> None:
    problem = Knapsack([1, 2, 3, 2], 4)
    value = torch.randn(2, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(5))
    clean = problem(value=value)
    value[1, 2, 3] = bad
    solution = problem(value=value)
    flagged = torch.zeros(2, 4, dtype=torch.bool)
    flagged[1, 2] = True
    assert torch.equal(solution.status == Status.INVALID_INPUT, flagged)
    assert torch.equal(solution.ok, ~flagged)
    assert bool(solution.decision[flagged].isnan().all())
    assert bool(solution.objective[flagged].isnan().all())
    assert solution.residual[flagged].tolist() == [INF]
    for name in ("decision", "objective", "status", "residual"):
        assert torch.equal(getattr(solution, name)[~flagged], getattr(clean, name)[~flagged])


def test_only_bad_rows() -> None:
    solution = Knapsack([1, 2], 2)(value=torch.full((3, 2), NAN))
    assert solution.status.tolist() == [4, 4, 4]
    assert bool(solution.decision.isnan().all())


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("table", [1, 1000, 2500])
def test_a_large_batch_is_split_without_changing_results(name: str, table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Knapsack(WEIGHTS[name], 60)
    value = torch.randint(-1, 6, (23, 48), generator=torch.Generator().manual_seed(6)).double()  # many ties
    value[7, 0] = NAN
    whole = problem(value=value)
    parts = []
    choose = Knapsack._choose
    monkeypatch.setattr(Knapsack, "_choose", lambda self, part: parts.append(len(part)) or choose(self, part))
    monkeypatch.setattr("dpsc.decision.knapsack.TABLE", table)
    split = problem(value=value)
    assert len(parts) > 1
    assert sum(parts) == 23
    for field in ("decision", "objective", "status", "residual"):
        torch.testing.assert_close(getattr(split, field), getattr(whole, field), rtol=0, atol=0, equal_nan=True)


def test_weights_may_be_a_tensor_and_whole_numbers_of_any_type() -> None:
    value = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(7))
    expected = Knapsack([3, 1, 2], 4)(value=value).decision
    for weights in (torch.tensor([3, 1, 2]), torch.tensor([3.0, 1.0, 2.0]), (3.0, 1.0, 2.0)):
        problem = Knapsack(weights, 4)
        assert torch.equal(problem(value=value).decision, expected)
        assert problem.weights.tolist() == [3, 1, 2]
    assert not Knapsack([3, 1, 2], 4).state_dict()
    assert torch.equal(Knapsack([3, 1, 2], 4).float()(value=value).decision, expected)


# ---------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("weights", [[], [0, 1], [1, -2], [1.5, 2], torch.tensor([1.0, 0.5])], ids=str)
def test_weights_are_checked(weights: list[int]) -> None:
    with pytest.raises(InputError, match="weights must be integers >= 1, at least one, got"):
        Knapsack(weights, 3)


def test_a_long_list_of_bad_weights_is_shortened() -> None:
    with pytest.raises(InputError, match=r"got \[0, 0, 0, 0, 0, 0, 0, 0\] \.\.\."):
        Knapsack([0] * 50, 3)


@pytest.mark.parametrize("capacity", [-1, 2.0, True, "3"])
def test_the_capacity_is_checked(capacity: int) -> None:
    with pytest.raises(InputError, match=f"capacity must be an integer >= 0, got {capacity!r}"):
        Knapsack([1], capacity)


def test_values_are_checked() -> None:
    problem = Knapsack([1, 2, 3], 4)
    with pytest.raises(ShapeError, match=r"value must have shape \(\.\.\., 3\), got \(4, 2\)"):
        problem(value=torch.ones(4, 2))
    with pytest.raises(ShapeError, match=r"value must have shape \(\.\.\., 3\), got \(\)"):
        problem(value=torch.tensor(1.0))
    with pytest.raises(DtypeError, match=r"value must be a floating-point tensor, got dtype torch\.int64"):
        problem(value=torch.ones(3, dtype=torch.int64))
    with pytest.raises(DtypeError, match=r"value must be a torch\.Tensor, got list"):
        problem.objective(torch.ones(3), value=[1.0, 2.0, 3.0])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"decision must have shape \(\.\.\., n\) = \(\.\.\., 3\), got \(2,\)"):
        problem.objective(torch.ones(2), value=torch.ones(3))


def test_knapsack_value_gradient_of_a_bad_row_is_zero():
    value = torch.tensor([[1.0, 2.0, 4.0], [NAN, 1.0, 1.0]], dtype=F64)
    assert not bool(Knapsack([1, 2, 3], 3).value_gradient(value=value)["value"][1].any())


@pytest.mark.parametrize("weights", [[NAN], [float("inf")], [[1, 2]], ["a"]], ids=str)
def test_knapsack_weights(weights):
    with pytest.raises(InputError):
        Knapsack(weights, 3)
