"""Priors, hierarchies, observations and diagnostics."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from dpsc.calibrate import (
    Growth,
    Hierarchy,
    LogNormal,
    Normal,
    Observations,
    Prior,
    Uniform,
    coverage_curve,
    covered,
    draw_prior,
    intervals,
    predictive_check,
    pull_back,
    ranks,
    uniformity,
)
from dpsc.errors import InputError, ShapeError
from dpsc.relax import Exact
from tests.calibrate.linear import D, K, T, matrix, simulate

PRIOR = Prior({"inventory": (4, LogNormal(6.0, 0.5)), "rate": (4, Uniform(0.0, 2.0)), "tilt": (1, Normal(1.0, 3.0))})
NAN = float("nan")

# --------------------------------------------------------------------------------------------------------------- priors


def test_parameters_have_the_law_that_the_prior_says() -> None:
    values = PRIOR.values(draw_prior(9, 5000, seed=0))
    for name, law in (("inventory", scipy.stats.lognorm(0.5, scale=6.0)), ("rate", scipy.stats.uniform(0, 2)), ("tilt", scipy.stats.norm(1, 3))):
        assert scipy.stats.kstest(values[name].reshape(-1).numpy(), law.cdf).pvalue > 1e-3


def test_coordinates_and_values_are_inverse() -> None:
    u = draw_prior(9, 3, seed=1)
    torch.testing.assert_close(PRIOR.coordinates(PRIOR.values(u)), u, atol=1e-12, rtol=0)
    assert PRIOR.rows("rate") == slice(4, 8)


def test_a_hierarchy_keeps_each_law_and_ties_groups() -> None:
    labels = torch.tensor([7, 7, 2, 2])
    tied = Hierarchy(PRIOR, {"inventory": labels}, share=0.6)
    assert tied.dimension == 2 + 4 + 4 + 1
    u = tied(draw_prior(tied.dimension, 40000, seed=2))
    correlation = torch.corrcoef(u)
    expected = torch.eye(9, dtype=torch.float64)
    expected[0, 1] = expected[1, 0] = expected[2, 3] = expected[3, 2] = 0.6
    assert float((correlation - expected).abs().max()) < 0.025
    assert float((u.std(1) - 1).abs().max()) < 0.02
    whole = Hierarchy(PRIOR, {"inventory": labels, "rate": labels}, share=1.0)
    v = torch.arange(5.0)[:, None]
    assert whole(v)[:, 0].tolist() == [1, 1, 0, 0, 3, 3, 2, 2, 4]
    assert Hierarchy(PRIOR, {"inventory": labels}, share=0.0).dimension == 9


def test_prior_error_texts() -> None:
    with pytest.raises(InputError, match=r"block must be one of inventory, rate, tilt; got 'rates' \(did you mean rate"):
        PRIOR.rows("rates")
    with pytest.raises(ShapeError, match=r"coordinates must have shape \(D, B\) = \(9, B\), got \(8, 1\)"):
        PRIOR.values(torch.zeros(8, 1))
    with pytest.raises(InputError, match=r"a log-normal parameter must be > 0, got -1\.0"):
        LogNormal().coordinate(torch.tensor([-1.0]))
    with pytest.raises(InputError, match=r"share must lie in \[0, 1\], got 2"):
        Hierarchy(PRIOR, {}, share=2)
    with pytest.raises(ShapeError, match=r"groups\['rate'\] must hold one integer label for each of the 4 parameters"):
        Hierarchy(PRIOR, {"rate": torch.zeros(3, dtype=torch.int64)}, share=0.5)


# ---------------------------------------------------------------------------------------------------------- observations


def test_misfit_is_minus_the_log_likelihood() -> None:
    values = torch.tensor([[1.0, NAN], [2.0, 0.5]], dtype=torch.float64)
    series = torch.tensor([[[1.5], [9.0]], [[1.0], [0.25]]], dtype=torch.float64)
    spread = torch.tensor([0.5, 0.25], dtype=torch.float64)
    normal = Observations(values, spread)
    assert normal.count == 3
    parts = [(1.0, 1.5, 0.5), (2.0, 1.0, 0.5), (0.5, 0.25, 0.25)]
    expected = -sum(scipy.stats.norm.logpdf(y, x, s) - scipy.stats.norm.logpdf(0, 0, s) for y, x, s in parts)
    assert float(normal.misfit(series)) == pytest.approx(expected)
    heavy = -sum(scipy.stats.t.logpdf((y - x) / s, 4) - scipy.stats.t.logpdf(0, 4) for y, x, s in parts)
    assert float(Observations(values, spread, freedom=4.0).misfit(series)) == pytest.approx(heavy)
    assert float(normal.loss(series)) == pytest.approx((0.25 + 1.0 + 0.0625) / 3)


def test_noise_given_as_a_number_is_not_rounded_to_single_precision() -> None:
    seen = Observations(torch.ones(1, 1, dtype=torch.float64), 0.1)
    assert float(seen.residuals(torch.full((1, 1, 1), 2.0, dtype=torch.float64))) == 1 / 0.1


def test_missing_values_have_no_gradient_even_where_the_simulation_is_not_finite() -> None:
    seen = Observations(torch.tensor([[1.0], [NAN]]), 1.0)
    series = torch.tensor([[[2.0]], [[3.0]]], requires_grad=True)
    seen.misfit(series).sum().backward()
    assert series.grad is not None
    assert series.grad.reshape(-1).tolist() == [1.0, 0.0]


def test_growth_does_not_see_the_level() -> None:
    values = torch.rand(6, 2, dtype=torch.float64) + 1
    seen = Observations(values, 0.1, view=Growth(2))
    assert seen.count == 8
    assert float(seen.misfit(7.0 * values[..., None])) == pytest.approx(0, abs=1e-20)
    later = seen.periods(3, 6)
    assert later.count == 2, "growth over a gap does not exist: only period 5 has its predecessor"


def test_series_are_matched_by_name() -> None:
    seen = Observations(torch.tensor([[1.0, 2.0]]), torch.tensor([0.1, 0.2]), names=("steel", "bread"))
    other = seen.named(["bread", "steel"])
    assert other.values.tolist() == [[2.0, 1.0]]
    assert torch.equal(torch.as_tensor(other.noise), torch.tensor([0.2, 0.1]))
    with pytest.raises(
        InputError, match=r"the observed series must be the 2 of the model, got none of 'bred' \(did you mean bread\?\), 'bread', which the model"
    ):
        seen.named(["bred", "steel"])


def test_observation_error_texts() -> None:
    with pytest.raises(InputError, match=r"values must be > 0 where their growth is compared, got 0 in period 2 of series 1"):
        Observations(torch.tensor([[1.0, 2.0], [1.0, float("nan")], [1.0, 0.0]]), 0.1, view=Growth())
    seen = Observations(torch.ones(5, 2), 0.1)
    with pytest.raises(ShapeError, match=r"simulated series must reach the last observation, period 5 of 5, got 4 periods"):
        seen.misfit(torch.ones(4, 2, 1))
    with pytest.raises(ShapeError, match=r"simulated series must have shape \(T, K, B\) with K = 2 as observed, got \(5, 3, 1\)"):
        seen.misfit(torch.ones(5, 3, 1))
    with pytest.raises(InputError, match=r"noise must be finite and > 0 everywhere, got 0"):
        Observations(torch.ones(5, 2), 0.0)
    with pytest.raises(ShapeError, match=r"noise must be a number or have shape \(K,\) or \(T, K\) = \(5, 2\), got \(3,\)"):
        Observations(torch.ones(5, 2), torch.ones(3))
    with pytest.raises(InputError, match=r"values must hold at least one observation, got 4 missing ones"):
        Observations(torch.full((2, 2), NAN), 0.1)
    with pytest.raises(ShapeError, match=r"names must name each of the 2 series, got 1 names"):
        Observations(torch.ones(5, 2), 0.1, names=("a",))


def test_pulled_back_rows_are_the_jacobian() -> None:
    every = torch.eye(T * K, dtype=torch.float64).view(T, K, -1)
    assert torch.allclose(pull_back(simulate, torch.zeros(D, dtype=torch.float64), every, relax=Exact()), matrix().mT)


# ----------------------------------------------------------------------------------------------------------- diagnostics


@pytest.mark.parametrize("count", [19, 39, 30])
def test_intervals_cover_a_further_draw_as_often_as_they_say(count: int) -> None:
    drawn = torch.randn(40000, count + 1, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    share = float(covered(drawn[:, 1:], drawn[:, 0]).double().mean())
    assert abs(share - 0.9) < 4 * math.sqrt(0.09 / 40000) + (0.004 if count == 30 else 0), "interpolated ends are not exact"
    if count == 39:
        low, high = intervals(drawn[:, 1:])
        assert torch.equal(low, drawn[:, 1:].sort(-1).values[:, 1])
        assert torch.equal(high, drawn[:, 1:].sort(-1).values[:, 37])
        assert coverage_curve(drawn[:, 1:], drawn[:, 0], [0.5, 0.9])[1] == share


def test_ranks_and_their_ties() -> None:
    draws = torch.tensor([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    assert ranks(draws, torch.tensor([2.5, 5.0])).tolist() == [2, 3]
    tied = ranks(torch.zeros(4000, 3), torch.zeros(4000))
    assert torch.bincount(tied, minlength=4).tolist() == pytest.approx([1000] * 4, abs=130)


def test_uniformity_is_pearsons_test() -> None:
    rank = torch.tensor([0, 1, 2, 3, 3, 3, 3, 0, 0, 1])
    result = uniformity(rank, draws=3, bins=4)
    expected = scipy.stats.chisquare([3, 2, 1, 4])
    assert result.counts.tolist() == [3, 2, 1, 4]
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p == pytest.approx(expected.pvalue)


def test_predictive_check_finds_a_series_that_does_not_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.zeros(50, 2, 99, dtype=torch.float64)
    data = 0.1 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    data[:, 1] += 0.3
    data[7, 0] = NAN
    found = predictive_check(draws, data, noise=0.1)
    assert 0.8 < float(found["inside"][0]) <= 1
    assert float(found["inside"][1]) < 0.3
    assert 0.02 < float(found["p"][0]) < 0.98
    assert float(found["p"][1]) == 0


def test_diagnostic_error_texts() -> None:
    with pytest.raises(InputError, match=r"draws must number at least 19 for a level of 0\.9 in \(0, 1\), got 18"):
        intervals(torch.zeros(18))
    with pytest.raises(InputError, match=r"draws \+ 1 must be a multiple of bins = 10, got 20 draws"):
        uniformity(torch.zeros(3, dtype=torch.int64), draws=20)
    with pytest.raises(ShapeError, match=r"truth must have shape \(3,\), one entry for each set of draws, got \(2,\)"):
        ranks(torch.zeros(3, 19), torch.zeros(2))
