"""Risk measures: the sample statistics when exact, the axioms, and gradients that many futures carry when smoothed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.objective import CVaR, Entropic, Mean, Quantile, WorstCase, risk
from dpsc.relax import Exact, Logistic, Normal, Ramp, Smoothed, StraightThrough

MEASURES: dict[str, Any] = {"Mean": Mean(), "Quantile": Quantile(0.75), "CVaR": CVaR(0.9), "WorstCase": WorstCase(), "Entropic": Entropic(0.01)}
COHERENT = ("Mean", "CVaR", "WorstCase")
SAMPLE = torch.from_numpy(numpy.random.default_rng(0).lognormal(3, 0.7, (401, 3)))

every_measure = pytest.mark.parametrize("name", MEASURES)


def test_the_list_is_complete() -> None:
    defined = {n for n, c in vars(risk).items() if isinstance(c, type) and c.__module__ == risk.__name__ and not n.startswith("_") and n != "RiskMeasure"}
    assert defined == set(MEASURES)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_exact_readings_are_the_sample_statistics(costs: list[float], level: float) -> None:
    x = torch.tensor(costs, dtype=torch.float64)
    assert abs(float(Quantile(level)(x, dim=0)) - numpy.quantile(costs, level)) <= 1e-9 * (1 + max(map(abs, costs)))
    assert float(WorstCase()(x, dim=0)) == max(costs)
    assert abs(float(Mean()(x, dim=0)) - numpy.mean(costs)) <= 1e-9 * (1 + max(map(abs, costs)))
    by_definition = min(t + numpy.maximum(numpy.array(costs) - t, 0).mean() / (1 - level) for t in costs)
    assert abs(float(CVaR(level)(x, dim=0)) - by_definition) <= 1e-8 * (1 + max(map(abs, costs))) / (1 - level)


@every_measure
def test_axioms(name: str) -> None:
    measure = MEASURES[name]
    for relax in (Exact(), Smoothed(Logistic(0.05)), StraightThrough(Normal(0.05))):
        value = measure(SAMPLE, relax=relax)
        assert value.shape == (3,)
        assert torch.allclose(measure(SAMPLE + 7, relax=relax), value + 7)  # cash-additive
        assert bool((measure(SAMPLE + SAMPLE.flip(0).abs(), relax=relax) >= value - 1e-9).all())  # monotone
        assert torch.allclose(measure(SAMPLE[torch.randperm(401)], relax=relax), value)
        if name in COHERENT:
            assert torch.allclose(measure(3 * SAMPLE, relax=relax), 3 * value)
            other = SAMPLE.flip(0)
            assert bool((measure(SAMPLE + other, relax=relax) <= value + measure(other, relax=relax) + 1e-9).all())  # subadditive
    assert torch.equal(measure(SAMPLE, relax=StraightThrough(Ramp(0.1))), measure(SAMPLE, relax=Exact()))


@every_measure
def test_smoothed_converges_to_exact(name: str) -> None:
    exact = MEASURES[name](SAMPLE)
    errors = [float((MEASURES[name](SAMPLE, relax=Smoothed(Normal(t))) - exact).abs().max()) for t in (0.1, 0.01, 1e-4)]
    assert errors[-1] <= max(0.02 * float(exact.max()), 1e-9)
    assert errors[-1] <= errors[0] + 1e-12


@every_measure
def test_gradients(name: str) -> None:
    x = SAMPLE[:20, 0].clone().requires_grad_()
    for relax in (Exact(), Smoothed(Logistic(0.1))):
        assert torch.autograd.gradcheck(lambda c, r=relax: MEASURES[name](c, relax=r, dim=0), (x,))


@pytest.mark.parametrize("measure", [Quantile(0.75), Quantile(0.9), CVaR(0.75)], ids=repr)
def test_the_gradient_of_a_smooth_case_is_within_two_per_cent_of_differences(measure: Any) -> None:
    """A newsvendor with many futures: the slope of the measured cost in the order."""
    demand = torch.from_numpy(numpy.random.default_rng(1).gamma(4.0, 25.0, 200_000))

    def cost(order: Tensor) -> Tensor:
        return 0.02 * (order - demand).square() + 3 * order

    order = torch.tensor(130.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(measure(cost(order), relax=Smoothed(Normal(0.01)), dim=0), order)
    up, down = (float(measure(cost(torch.tensor(130.0 + h, dtype=torch.float64)), dim=0)) for h in (2.0, -2.0))
    assert abs(float(slope) / ((up - down) / 4) - 1) < 0.02


def test_certain_costs_and_order_of_the_measures() -> None:
    certain = torch.full((50, 2), 12.5, dtype=torch.float64)
    assert all(torch.allclose(m(certain), torch.tensor(12.5, dtype=torch.float64)) for m in MEASURES.values())
    assert bool((Mean()(SAMPLE) < Entropic(0.01)(SAMPLE)).all())
    assert bool((Quantile(0.9)(SAMPLE) < CVaR(0.9)(SAMPLE)).all())
    assert bool((CVaR(0.9)(SAMPLE) < WorstCase()(SAMPLE)).all())
    assert torch.allclose(CVaR(0.0)(SAMPLE), Mean()(SAMPLE))
    assert torch.isfinite(Entropic(5.0)(SAMPLE * 100)).all()  # no overflow


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Quantile(1.0), InputError, r"level must lie strictly between 0 and 1, got 1.0"),
        (lambda: Quantile(75), InputError, r"level must lie strictly between 0 and 1, got 75"),
        (lambda: CVaR(-0.1), InputError, r"level must lie strictly between 0 and 1, got -0.1"),
        (lambda: Entropic(0.0), InputError, r"aversion must be a finite number > 0, got 0.0"),
        (lambda: Mean()(SAMPLE * math.nan), InputError, r"cost must not be NaN, got NaN at index \(0, 0\)"),
        (lambda: Mean()(SAMPLE[:0]), ShapeError, r"cost must have at least one future along dim -2, got shape \(0, 3\)"),
        (lambda: Mean()(SAMPLE[:, 0]), ShapeError, r"cost must have at least one future along dim -2, got shape \(401,\)"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_to_sort_agree_to_the_bit(dtype: torch.dtype) -> None:
    """Without gradients costs are sorted by numpy, with them by torch; ties, infinities and any memory layout."""
    generator = torch.Generator().manual_seed(0)
    cost = (100 * torch.rand(3, 41, 5, dtype=dtype, generator=generator)).round()
    cost[0, 7], cost[1, 3, 2] = torch.inf, -torch.inf
    for measure in (Mean(), Quantile(0.75), CVaR(0.9), WorstCase()):
        tracked = measure(cost.clone().requires_grad_())
        assert torch.equal(measure(cost).nan_to_num(7.0), tracked.detach().nan_to_num(7.0))
        assert torch.equal(measure(cost.mT.contiguous(), dim=-1).nan_to_num(7.0), tracked.detach().nan_to_num(7.0))
