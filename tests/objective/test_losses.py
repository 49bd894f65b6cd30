"""Losses that train on the decision: values by enumeration, gradients by finite differences, and what they warn of."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dpsc.decision import Allocation, Knapsack, Portfolio
from dpsc.errors import InputError, ObjectiveMismatchWarning, ProblemError, ShapeError, SolveError
from dpsc.objective import DecisionLoss, SPOPlus, regret
from dpsc.types import DecisionProblem, Solution, Status

F64 = torch.float64
NAN = float("nan")


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def spend(decision: Tensor, cost: Tensor) -> Tensor:
    """The notebook's score: the cost without the regulariser."""
    return (decision * cost).sum(-1)


# ---------------------------------------------------------------------------------------------------- oracles of the tests


def allocate(cost: Tensor, regularization: float) -> Tensor:
    """min c.x + eps |x|^2 on the simplex for one row, by trying every support."""
    best, best_value = None, float("inf")
    for size in range(1, len(cost) + 1):
        for support in itertools.combinations(range(len(cost)), size):
            c = cost[list(support)]
            x = torch.zeros_like(cost)
            x[list(support)] = (1 + (c.sum() - size * c) / (2 * regularization)) / size
            if bool((x >= 0).all()):
                value = float(cost @ x + regularization * (x @ x))
                if value < best_value:
                    best, best_value = x, value
    assert best is not None
    return best


def pack(cost: Tensor, weights: list[int], capacity: int) -> Tensor:
    """min c.x over the 0/1 knapsack for one row, by trying every choice."""
    choices = torch.tensor(
        [x for x in itertools.product((0.0, 1.0), repeat=len(weights)) if sum(w * take for w, take in zip(weights, x, strict=True)) <= capacity], dtype=F64
    )
    return choices[int((choices @ cost).argmin())]


class Nearest:
    """Choose one of n sites at least transport cost, rate x distance; the rates are predicted, the distances known. No module, no gradient of the solution."""

    def __call__(self, **parameters: Tensor) -> Solution[Tensor]:
        total = parameters["rate"] * parameters["distance"]
        valid = total.isfinite().all(-1)
        decision = torch.nn.functional.one_hot(total.nan_to_num().argmin(-1), total.shape[-1]).to(total.dtype)
        decision = torch.where(valid[..., None], decision, NAN)
        status = torch.where(valid, int(Status.OK), int(Status.INVALID_INPUT)).to(torch.int8)
        return Solution(decision, {}, self.objective(decision, **parameters), status, torch.zeros_like(total[..., 0]))

    def objective(self, decision: Tensor, **parameters: Tensor) -> Tensor:
        return (decision * parameters["rate"] * parameters["distance"]).sum(-1)


class Squared(Nearest):
    """The same with a cost quadratic in what is predicted."""

    def objective(self, decision: Tensor, **parameters: Tensor) -> Tensor:
        return (decision * parameters["rate"] ** 2 * parameters["distance"]).sum(-1)


# ---------------------------------------------------------------------------------------------------------- decision loss


def test_decision_loss_by_hand() -> None:
    """Predicted (0, 0, 0): equal shares. Under c = (.8, 1, 1.2) they cost 1 + 1/3, and d loss / d c_hat = (c_mean - c) / (2 eps) = (.1, 0, -.1)."""
    predicted = torch.zeros(1, 3, dtype=F64, requires_grad=True)
    loss = DecisionLoss(Allocation(3))({"cost": predicted}, {"cost": torch.tensor([[0.8, 1.0, 1.2]], dtype=F64)})
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert loss.item() == pytest.approx(4 / 3, abs=1e-15)
    torch.testing.assert_close(gradient, torch.tensor([[0.1, 0.0, -0.1]], dtype=F64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("regularization", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("items", [1, 2, 4])
def test_decision_loss_is_the_objective_of_the_enumerated_decision(items: int, regularization: float) -> None:
    predicted, true = draws(6, items), draws(6, items, seed=1)
    expected = []
    for c_hat, c in zip(predicted, true, strict=True):
        x = allocate(c_hat, regularization)
        expected.append(float(c @ x + regularization * (x @ x)))
    problem = Allocation(items, regularization=regularization)
    each = DecisionLoss(problem, reduction="none")({"cost": predicted}, {"cost": true})
    torch.testing.assert_close(each, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12)
    assert float(DecisionLoss(problem)({"cost": predicted}, {"cost": true})) == pytest.approx(sum(expected) / 6, abs=1e-12)


@pytest.mark.parametrize(
    ("problem", "name"), [(Allocation(4, regularization=0.4), "cost"), (Portfolio(4, risk_aversion=0.5), "returns")], ids=["allocation", "portfolio"]
)
@pytest.mark.parametrize("mismatch", [False, True], ids=["own objective", "another objective"])
def test_decision_loss_gradient_is_that_of_finite_differences(problem: Any, name: str, mismatch: bool) -> None:
    predicted, true = draws(5, 4, seed=2), draws(5, 4, seed=3)
    shares = problem(**{name: predicted}).decision
    assert bool((shares == 0).any()), "some bounds must be active"
    assert bool(((shares > 0).sum(1) >= 2).any()), "some items must share"
    objective = (lambda decision, **parameters: spend(decision, parameters[name])) if mismatch else None
    loss = DecisionLoss(problem, objective=objective, acknowledge_mismatch=mismatch)
    assert torch.autograd.gradcheck(lambda p: loss({name: p}, {name: true}), (predicted.requires_grad_(),))


def test_decision_loss_is_mean_regret_up_to_a_constant_and_flat_at_a_perfect_prediction() -> None:
    problem, true = Allocation(3), draws(40, 3, seed=4)
    predicted = draws(40, 3, seed=5)
    loss = DecisionLoss(problem)
    mean_regret = regret(problem, problem(cost=predicted).decision, {"cost": true}).mean()
    torch.testing.assert_close(loss({"cost": predicted}, {"cost": true}) - problem(cost=true).objective.mean(), mean_regret, rtol=0, atol=1e-14)
    perfect = true.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss({"cost": perfect}, {"cost": true}), perfect)
    torch.testing.assert_close(gradient, torch.zeros_like(true), rtol=0, atol=1e-15)


@given(st.integers(1, 4), st.sets(st.integers(0, 5), max_size=5), st.sampled_from([NAN, float("inf"), -float("inf")]))
def test_decision_loss_leaves_rows_out_that_cannot_be_solved(items: int, bad: set[int], value: float) -> None:
    predicted, true = draws(6, items), draws(6, items, seed=1)
    good = [i for i in range(6) if i not in bad]
    clean = predicted[good].requires_grad_()
    dirty = predicted.clone()
    dirty[sorted(bad), 0] = value
    dirty.requires_grad_()
    loss = DecisionLoss(Allocation(items))
    expected, got = loss({"cost": clean}, {"cost": true[good]}), loss({"cost": dirty}, {"cost": true})
    assert torch.equal(got, expected)
    (clean_gradient,), (gradient,) = torch.autograd.grad(expected, clean), torch.autograd.grad(got, dirty)
    assert torch.equal(gradient[good], clean_gradient)
    assert not bool(gradient[sorted(bad)].any())


def test_without_a_row_that_can_be_solved_a_mean_raises_and_rows_are_nan() -> None:
    predicted, true = torch.full((2, 3), NAN, dtype=F64), draws(2, 3)
    with pytest.raises(SolveError, match="none of the 2 rows could be solved: 2 invalid input"):
        DecisionLoss(Allocation(3))({"cost": predicted}, {"cost": true})
    with pytest.raises(SolveError, match="none of the 2 rows could be solved: 2 invalid input"):
        SPOPlus(Knapsack([1, 2, 3], 4))({"value": predicted}, {"value": true})
    assert bool(DecisionLoss(Allocation(3), reduction="none")({"cost": predicted}, {"cost": true}).isnan().all())
    assert bool(SPOPlus(Knapsack([1, 2, 3], 4), reduction="none")({"value": predicted}, {"value": true}).isnan().all())


def test_each_kind_of_failure_is_counted() -> None:
    class Failing(Nearest):
        def __call__(self, **parameters: Tensor) -> Solution[Tensor]:
            solved = super().__call__(**parameters)
            return Solution(solved.decision, {}, solved.objective, torch.tensor([2, 3, 2], dtype=torch.int8), solved.residual)

    both = {"rate": draws(3, 2), "distance": draws(3, 2).abs()}
    with pytest.raises(SolveError, match="none of the 3 rows could be solved: 2 infeasible, 1 unbounded"):
        DecisionLoss(Failing())(both, both)


def test_a_loss_by_another_objective_warns_and_names_both() -> None:
    with pytest.warns(
        ObjectiveMismatchWarning,
        match=r"the loss scores decisions with spend, but their layer minimises Allocation\.objective: .*"
        r"regret may be negative\. Leave objective= out, or set acknowledge_mismatch=True if this is meant",
    ) as caught:
        DecisionLoss(Allocation(3), objective=spend)
    assert caught[0].filename == __file__
    other = Allocation(3, regularization=2.0)
    with pytest.warns(ObjectiveMismatchWarning, match=r"decisions with Allocation\.objective, but their layer minimises Allocation\.objective"):
        DecisionLoss(Allocation(3), objective=other.objective)


def test_no_warning_when_acknowledged_or_consistent() -> None:
    """Warnings are errors in these tests."""
    problem = Allocation(3)
    acknowledged = DecisionLoss(problem, objective=spend, acknowledge_mismatch=True)
    predicted, true = draws(4, 3), draws(4, 3, seed=1)
    torch.testing.assert_close(acknowledged({"cost": predicted}, {"cost": true}), (problem(cost=predicted).decision * true).sum(1).mean())
    same = DecisionLoss(problem, objective=problem.objective)
    assert torch.equal(same({"cost": predicted}, {"cost": true}), DecisionLoss(problem)({"cost": predicted}, {"cost": true}))


@pytest.mark.parametrize("loss", [DecisionLoss, SPOPlus])
def test_an_unknown_reduction_is_refused(loss: Any) -> None:
    with pytest.raises(InputError, match="reduction must be one of mean, none; got 'sum'"):
        loss(Allocation(3), reduction="sum")


def test_single_precision_in_is_single_precision_out() -> None:
    predicted, true = draws(20, 3).float().requires_grad_(), draws(20, 3, seed=1).float()
    for loss, name in ((DecisionLoss(Allocation(3)), "cost"), (SPOPlus(Allocation(3)), "cost"), (SPOPlus(Knapsack([1, 2, 2], 3)), "value")):
        value = loss({name: predicted}, {name: true})
        assert value.dtype == torch.float32
        (gradient,) = torch.autograd.grad(value, predicted)
        assert gradient.dtype == torch.float32
        wide = predicted.detach().double().requires_grad_()
        exact = loss({name: wide}, {name: true.double()})
        assert value.item() == pytest.approx(exact.item(), abs=1e-5)
        torch.testing.assert_close(gradient.double(), torch.autograd.grad(exact, wide)[0], rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------------- SPO+


def test_spo_plus_by_hand() -> None:
    """Values (3, 2), one item fits. Predicted (1, 2): reflected (-1, 2), so x*(q) takes the second; loss 1 + 2 = 3, d loss / d v_hat = 2 ((0, 1) - (1, 0)).

    In costs c = -v: 2 c_hat.x*(c) - z*(c) - min (2 c_hat - c).x = 2 (-1) + 3 + 2 = 3.
    """
    predicted = torch.tensor([[1.0, 2.0]], dtype=F64, requires_grad=True)
    loss = SPOPlus(Knapsack([1, 1], 1))({"value": predicted}, {"value": torch.tensor([[3.0, 2.0]], dtype=F64)})
    assert loss.item() == 3.0
    assert torch.autograd.grad(loss, predicted)[0].tolist() == [[-2.0, 2.0]]


@pytest.mark.parametrize(
    ("weights", "capacity"), [([1], 1), ([2, 3], 4), ([1, 1, 1], 2), ([3, 5, 7, 3, 5, 7], 12), ([2, 4, 6, 8, 3], 0), ([1, 2, 3, 4, 5], 15)], ids=str
)
def test_spo_plus_is_the_textbook_formula_on_knapsacks(weights: list[int], capacity: int) -> None:
    problem = Knapsack(weights, capacity)
    predicted, true = draws(12, len(weights), seed=6) + 0.5, draws(12, len(weights), seed=7) + 0.5
    expected, subgradients = [], []
    for c_hat, c in zip(-predicted, -true, strict=True):
        w, reflected = pack(c, weights, capacity), pack(2 * c_hat - c, weights, capacity)
        expected.append(float(2 * c_hat @ w - c @ w - (2 * c_hat - c) @ reflected))
        subgradients.append(2 * (w - reflected))
    leaf = predicted.clone().requires_grad_()
    each = SPOPlus(problem, reduction="none")({"value": leaf}, {"value": true})
    torch.testing.assert_close(each, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(each.sum(), leaf)
    torch.testing.assert_close(-gradient, torch.stack(subgradients), rtol=0, atol=0)  # in c_hat = -v_hat
    mean = SPOPlus(problem)({"value": leaf}, {"value": true})
    assert mean.item() == pytest.approx(sum(expected) / 12, abs=1e-13)
    torch.testing.assert_close(torch.autograd.grad(mean, leaf)[0], gradient / 12, rtol=1e-15, atol=0)


@pytest.mark.parametrize("regularization", [0.2, 1.0])
@pytest.mark.parametrize("items", [1, 3, 4])
def test_spo_plus_is_its_affine_version_on_allocations(items: int, regularization: float) -> None:
    predicted, true = draws(10, items, seed=8), draws(10, items, seed=9)
    expected, subgradients = [], []
    for c_hat, c in zip(predicted, true, strict=True):
        q = 2 * c_hat - c
        w, reflected = allocate(c, regularization), allocate(q, regularization)
        expected.append(float(q @ w + regularization * (w @ w) - q @ reflected - regularization * (reflected @ reflected)))
        subgradients.append(2 * (w - reflected))
    leaf = predicted.clone().requires_grad_()
    each = SPOPlus(Allocation(items, regularization=regularization), reduction="none")({"cost": leaf}, {"cost": true})
    torch.testing.assert_close(each, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(each.sum(), leaf)
    torch.testing.assert_close(gradient, torch.stack(subgradients), rtol=0, atol=1e-12)


def test_on_allocations_the_sub_gradient_is_the_gradient() -> None:
    true = draws(5, 4, seed=11)
    loss = SPOPlus(Allocation(4, regularization=0.4))
    assert torch.autograd.gradcheck(lambda p: loss({"cost": p}, {"cost": true}), (draws(5, 4, seed=10).requires_grad_(),))


coarse = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))  # ties and zeros, and large spreads
PROBLEMS: list[tuple[Any, str]] = [(Knapsack([1, 2, 2, 3], 4), "value"), (Allocation(4, regularization=0.5), "cost"), (Portfolio(4), "returns")]


@pytest.mark.parametrize(("problem", "name"), PROBLEMS, ids=["knapsack", "allocation", "portfolio"])
@given(rows=st.lists(st.tuples(*[st.lists(coarse, min_size=4, max_size=4)] * 3), min_size=1, max_size=3))
def test_spo_plus_is_a_convex_bound_of_the_regret(problem: Any, name: str, rows: list[tuple[list[float], ...]]) -> None:
    true, predicted, other = (torch.tensor(column, dtype=F64) for column in zip(*rows, strict=True))
    rounding = 1e-12 * (1 + true.abs().sum(1) + predicted.abs().sum(1) + other.abs().sum(1))
    loss, leaf = SPOPlus(problem, reduction="none"), predicted.clone().requires_grad_()
    value = loss({name: leaf}, {name: true})
    assert bool((value >= -rounding).all())
    decision = problem(**{name: predicted}).decision
    lost = problem.objective(decision, **{name: true}) - problem(**{name: true}).objective
    assert bool((value >= lost - rounding).all())
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    elsewhere = loss({name: other}, {name: true})
    assert bool((elsewhere >= value + (slope * (other - predicted)).sum(1) - rounding).all())
    assert bool((loss({name: true}, {name: true}).abs() <= rounding).all())


@pytest.mark.parametrize(("problem", "name"), PROBLEMS, ids=["knapsack", "allocation", "portfolio"])
def test_an_optimal_decision_that_was_solved_before_changes_nothing(problem: Any, name: str) -> None:
    true = draws(8, 4, seed=12)
    results = []
    for optimal in (None, problem(**{name: true}).decision):
        leaf = draws(8, 4, seed=13).requires_grad_()
        value = SPOPlus(problem)({name: leaf}, {name: true}, optimal=optimal)
        results.append((value, torch.autograd.grad(value, leaf)[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_an_optimal_decision_that_was_solved_before_is_not_solved_again() -> None:
    class Counting(Nearest):
        solved = 0

        def __call__(self, **parameters: Tensor) -> Solution[Tensor]:
            type(self).solved += 1
            return super().__call__(**parameters)

    problem, true = Counting(), {"rate": draws(4, 3), "distance": draws(4, 3, seed=1).abs()}
    optimal = problem(**true).decision
    SPOPlus(problem)({"rate": draws(4, 3, seed=2)}, true, optimal=optimal)
    assert Counting.solved == 2


def test_parameters_that_are_known_are_not_reflected_and_any_decision_problem_will_do() -> None:
    problem, rate, distance = Nearest(), draws(9, 3, seed=14).abs(), draws(9, 3, seed=15).abs()
    assert isinstance(problem, DecisionProblem)
    predicted = draws(9, 3, seed=16).abs().requires_grad_()
    value = SPOPlus(problem, reduction="none")({"rate": predicted}, {"rate": rate, "distance": distance})
    reflected = (2 * predicted - rate).detach() * distance
    best = (rate * distance).argmin(1, keepdim=True)
    torch.testing.assert_close(value.detach(), (reflected.gather(1, best)[:, 0] - reflected.amin(1)), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(value.sum(), predicted)
    chosen = torch.nn.functional.one_hot(best[:, 0], 3) - torch.nn.functional.one_hot(reflected.argmin(1), 3)
    torch.testing.assert_close(gradient, 2 * chosen * distance, rtol=0, atol=1e-14)


def test_a_row_whose_truth_is_nan_is_left_out() -> None:
    problem, predicted, true = Knapsack([1, 2, 3], 4), draws(4, 3), draws(4, 3, seed=1)
    true[2, 1] = NAN
    good = [0, 1, 3]
    assert torch.equal(SPOPlus(problem)({"value": predicted}, {"value": true}), SPOPlus(problem)({"value": predicted[good]}, {"value": true[good]}))
    each = SPOPlus(problem, reduction="none")({"value": predicted}, {"value": true})
    assert each.isnan().tolist() == [False, False, True, False]


def test_an_objective_that_is_not_affine_is_refused() -> None:
    true = {"rate": draws(4, 3).abs(), "distance": draws(4, 3, seed=1).abs()}
    predicted = {"rate": draws(4, 3, seed=2).abs()}
    with pytest.raises(
        ProblemError, match=r"SPO\+ needs an objective affine in the predicted parameters rate; Squared\.objective is not \(relative error 0\.\d+\)"
    ):
        SPOPlus(Squared())(predicted, true)
    both = SPOPlus(Nearest())  # rate x distance is affine in either, but not in both
    with pytest.raises(ProblemError, match=r"affine in the predicted parameters rate, distance; Nearest\.objective is not"):
        both({**predicted, "distance": draws(4, 3, seed=3).abs()}, true)


def test_spo_plus_names_what_does_not_fit() -> None:
    loss, true = SPOPlus(Knapsack([1, 2, 3], 4)), {"value": draws(4, 3)}
    with pytest.raises(InputError, match=r"predicted takes the parameters \(none\); unknown values"):
        loss({"values": draws(4, 3)}, true)
    with pytest.raises(ShapeError, match=r"predicted value must have the shape of true value, \(4, 3\), got \(3, 3\)"):
        loss({"value": draws(3, 3)}, true)


@pytest.mark.parametrize("side", ["predicted", "true"])
@pytest.mark.parametrize(("problem", "name"), [(Knapsack([1, 2, 3], 4), "value"), (Allocation(3), "cost")])
def test_spo_plus_bad_row_has_zero_gradient(problem, name, side):
    g = torch.Generator().manual_seed(0)
    predicted, true = torch.randn(3, 3, dtype=F64, generator=g), torch.randn(3, 3, dtype=F64, generator=g)
    (predicted if side == "predicted" else true)[1, 0] = NAN
    predicted.requires_grad_()
    (grad,) = torch.autograd.grad(SPOPlus(problem)({name: predicted}, {name: true}), predicted)
    assert not bool(grad[1].any())  # is nan


class SquaredRate:
    def __call__(self, rate):
        x = nn.functional.one_hot(rate.nan_to_num().argmin(-1), rate.shape[-1]).to(rate)
        return Solution(x, {}, self.objective(x, rate), rate.isnan().any(-1).to(torch.int8) * 4, torch.zeros_like(rate[..., 0]))

    def objective(self, decision, rate):
        return (decision * rate**2).sum(-1)


@pytest.mark.parametrize("first", ["perfect prediction", "no rows"])
def test_affinity_is_checked_until_something_was_seen(first):
    loss, true = SPOPlus(SquaredRate(), reduction="none"), torch.rand(4, 3, dtype=F64) + 0.5
    warm = true if first == "perfect prediction" else true[:0]
    loss({"rate": warm}, {"rate": warm})
    with pytest.raises(ProblemError):
        loss({"rate": true + 1}, {"rate": true})
