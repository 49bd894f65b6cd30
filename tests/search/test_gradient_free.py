"""Search without gradients: known minima by every method, budgets that hold, failures that are results."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import dpsc.search.gradient_free as room
from dpsc.errors import InputError, ShapeError
from dpsc.search import CMA, SHGO, TPE, CrossEntropyByItem, DifferentialEvolution, Method, NelderMead, RandomSearch, minimise
from dpsc.search.gradient_free import Evaluator

METHODS: dict[str, Method] = {
    "CMA": CMA(),
    "CMA, separable": CMA(separable=True),
    "NelderMead": NelderMead(),
    "DifferentialEvolution": DifferentialEvolution(members=20),
    "SHGO": SHGO(points=32),
    "TPE": TPE(),
    "RandomSearch": RandomSearch(),
    "CrossEntropyByItem": CrossEntropyByItem(),
}
every_method = pytest.mark.parametrize("name", METHODS)
START = torch.tensor([[1.0, 3.0], [2.0, 3.0]], dtype=torch.float64)
BOX = (torch.tensor(0.0), torch.tensor(5.0))


def sphere(x: Tensor) -> Tensor:
    """Minimum 0 at 2.5, values by item."""
    return (x - 2.5).square().sum(-1)


def stairs(x: Tensor) -> Tensor:
    """Minimum 2 where every parameter rounds to 4; flat between the jumps."""
    return 1 + (x.round() - 4).abs().sum(-1)


def rotated(x: Tensor) -> Tensor:
    """An ellipse that no item sees alone, minimum 0 at 2; one value a candidate."""
    g = numpy.random.default_rng(1)
    axes = torch.from_numpy(numpy.linalg.qr(g.normal(size=(4, 4)))[0])
    return (((x.flatten(1) - 2) @ axes).square() * torch.tensor([1.0, 3.0, 10.0, 30.0], dtype=x.dtype)).sum(-1)


@dataclass(frozen=True)
class Minimum:
    """A problem with its answer."""

    objective: Callable[[Tensor], Tensor]
    value: float


MINIMA = {"sphere": Minimum(sphere, 0.0), "stairs": Minimum(stairs, 2.0), "rotated": Minimum(rotated, 0.0)}
# How close a method must come to a minimum with 1500 evaluations; a share of the way from the start for the two that do not converge in the proper sense.
CLOSE = {
    "CMA": {"sphere": 1e-6, "stairs": 1e-9, "rotated": 1e-6},
    "CMA, separable": {"sphere": 1e-6, "stairs": 1e-9, "rotated": 1e-2},
    "NelderMead": {"sphere": 1e-6, "stairs": 7.0, "rotated": 1e-6},  # a simplex on a plateau stays where it is
    "DifferentialEvolution": {"sphere": 1e-2, "stairs": 1e-9, "rotated": 1.0},
    "SHGO": {"sphere": 1e-6, "stairs": 1.0, "rotated": 1e-3},  # so do its local searches
    "TPE": {"sphere": 0.3, "stairs": 1e-9, "rotated": 10.0},
    "RandomSearch": {"sphere": 0.8, "stairs": 2.0, "rotated": 15.0},
    "CrossEntropyByItem": {"sphere": 2e-3, "stairs": 1e-9},  # nothing by item in the rotated one
}
BUDGET = {"TPE": 150, "RandomSearch": 1500}


def test_the_list_is_complete() -> None:
    """Every public class of the room that can search is tested."""
    methods = {name for name in room.__all__ if hasattr(getattr(room, name), "search") and name != "Method"}
    assert methods == {type(m).__name__ for m in METHODS.values()}


@pytest.mark.parametrize(("name", "problem"), [(name, problem) for name, close in CLOSE.items() for problem in close])
def test_known_minima(name: str, problem: str) -> None:
    known = MINIMA[problem]
    found = minimise(known.objective, START, method=METHODS[name], evaluations=BUDGET.get(name, 1500), bounds=BOX)
    assert known.value <= found.value <= known.value + CLOSE[name][problem]
    again = known.objective(found.point[None])
    assert float(again.sum()) == pytest.approx(found.value, abs=1e-12)
    assert found.point.shape == START.shape
    assert found.ended in ("budget spent", "its own stopping rule")


class Counted:
    """An objective that counts what it is asked, and keeps a clock of one second a call."""

    def __init__(self, objective: Callable[[Tensor], Tensor]) -> None:
        self.objective, self.asked, self.calls = objective, 0, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.asked, self.calls = self.asked + len(x), self.calls + 1
        return self.objective(x)

    def clock(self) -> float:
        return float(self.calls)


@every_method
def test_a_budget_of_evaluations_is_kept_to_the_last_one(name: str) -> None:
    for budget in (1, 2, 53):
        objective = Counted(sphere)
        found = minimise(objective, START, method=METHODS[name], evaluations=budget, bounds=BOX)
        assert objective.asked == found.evaluations == budget
        assert found.ended == "budget spent"
        assert found.trace.evaluations[0] == 1
        assert found.trace.evaluations[-1] == budget
        assert found.trace.value[0] == pytest.approx(float(sphere(START[None]).sum()))


@every_method
def test_a_budget_of_seconds_is_kept_to_the_last_one(name: str) -> None:
    objective = Counted(sphere)
    found = minimise(objective, START, method=METHODS[name], seconds=7.5, bounds=BOX, rows=3, clock=objective.clock)
    assert objective.calls <= 9  # the start, seven within the budget, and one that came too late
    assert found.evaluations <= 1 + 7 * 3
    assert found.ended == "budget spent"
    assert all(s <= 8.5 for s in found.trace.seconds[:-1])


@every_method
def test_traces_only_fall_and_end_with_the_result(name: str) -> None:
    found = minimise(sphere, START, method=METHODS[name], evaluations=90, bounds=BOX)
    trace = found.trace
    assert all(a >= b for a, b in zip(trace.value, trace.value[1:], strict=False))
    assert trace.evaluations == sorted(trace.evaluations)
    assert trace.seconds == sorted(trace.seconds)
    assert (trace.value[-1], trace.evaluations[-1]) == (found.value, found.evaluations)


@every_method
def test_the_seed_decides_and_no_global_generator_is_touched(name: str) -> None:
    numpy.random.seed(7)  # noqa: NPY002 - the point of the test
    torch.manual_seed(7)
    before = numpy.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index, union-attr] # noqa: NPY002
    runs = [minimise(sphere, START, method=METHODS[name], evaluations=60, bounds=BOX, seed=seed) for seed in (3, 3, 4)]
    assert runs[0].trace.value == runs[1].trace.value
    assert torch.equal(runs[0].point, runs[1].point)
    if name not in ("NelderMead", "SHGO"):  # these two have nothing random
        assert runs[0].trace.value != runs[2].trace.value
    assert (numpy.random.get_state()[1] == before[0]).all()  # type: ignore[index] # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@every_method
def test_nan_is_never_the_best(name: str) -> None:
    def holes(x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 2.4, torch.nan, sphere(x))

    found = minimise(holes, START, method=METHODS[name], evaluations=60, bounds=BOX)
    assert math.isfinite(found.value)
    assert bool((found.point[:, 0] <= 2.4).all())


@every_method
def test_an_objective_that_fails_is_not_a_result(name: str) -> None:
    calls = iter(range(10**6))

    def breaks(x: Tensor) -> Tensor:
        if next(calls) > 2:
            raise ZeroDivisionError("the simulator broke")
        return sphere(x)

    with pytest.raises(ZeroDivisionError, match="the simulator broke"):
        minimise(breaks, START, method=METHODS[name], evaluations=500, bounds=BOX, rows=1)


@dataclass(frozen=True)
class Falls:
    """A method that gives up."""

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        evaluate(torch.full_like(start, 2.0).reshape(1, -1))
        raise RuntimeError("QH6235 not\nenough memory")


def test_a_method_that_fails_is_a_result() -> None:
    found = minimise(sphere, START, method=Falls(), evaluations=10)
    assert found.ended == "failed: RuntimeError: QH6235 not enough memory"
    assert (found.value, found.evaluations) == (1.0, 2)


def test_each_item_keeps_its_own_best() -> None:
    """One candidate is good for the first item, another for the second: the point is put together."""

    @dataclass(frozen=True)
    class Two:
        def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
            evaluate.items(torch.tensor([[[2.5, 2.5], [9.0, 9.0]], [[9.0, 9.0], [2.5, 2.5]]], dtype=torch.float64))

    found = minimise(sphere, START, method=Two(), evaluations=10)
    assert found.value == 0
    assert bool((found.point == 2.5).all())


def test_what_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="needs a budget"):
        minimise(sphere, START, method=CMA())
    with pytest.raises(InputError, match=r"differential evolution searches a box: bounds must be finite"):
        minimise(sphere, START, method=DifferentialEvolution(), evaluations=5)
    with pytest.raises(InputError, match=r"lower < upper, got \(1, 1, 1, 1\)"):
        minimise(sphere, START, method=CMA(), evaluations=5, bounds=(1.0, 0.0))
    with pytest.raises(InputError, match=r"needs an objective that returns \(C, N\)"):
        minimise(rotated, START, method=CrossEntropyByItem(), evaluations=50)
    with pytest.raises(InputError, match=r"start of shape \(N, K\), got \(4,\)"):
        minimise(lambda x: x.square().sum(-1), START.flatten(), method=CrossEntropyByItem(), evaluations=50)
    with pytest.raises(ShapeError, match=r"the objective must return \(C,\) = \(1,\) values"):
        minimise(lambda x: x.sum(), START, method=CMA(), evaluations=50)
    with pytest.raises(InputError, match="evaluations must be an integer >= 1, got 0"):
        minimise(sphere, START, method=CMA(), evaluations=0)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("cma", "optuna"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("method", [CMA(), TPE()], ids=["cma", "optuna"])
def test_a_package_that_is_not_there(method: Any, nothing_installed: None) -> None:
    with pytest.raises(ImportError, match=r"install the extra `dpsc\[search\]`"):
        minimise(sphere, START, method=method, evaluations=5, bounds=BOX)
