"""Demand: addresses, laws against their definitions, shards against the whole, mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from dpsc.demand import USES, Futures, clipped_normal, delays, empirical, gamma_poisson, negative_binomial, poisson
from dpsc.errors import DpscError, DtypeError, InputError, ShapeError

AT = Futures(0, "report", items=3, paths=4000, periods=5)
MEAN = torch.tensor([0.5, 6.0, 31.0], dtype=torch.float64)
MATRIX = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 1.0]], dtype=torch.float64)
SEEN = torch.arange(21, dtype=torch.float64).reshape(7, 3)

LAWS: dict[str, Callable[[Futures], Tensor]] = {
    "poisson": lambda at: poisson(MEAN[at.items], at=at),
    "poisson over time": lambda at: poisson(MEAN[at.items] * torch.arange(1.0, 6.0, dtype=torch.float64)[at.periods, None], at=at),
    "negative binomial": lambda at: negative_binomial(MEAN[at.items], 2.0, at=at),
    "gamma poisson": lambda at: gamma_poisson(MEAN[at.items], 2.5, at=at, level_deviation=0.4),
    "normal": lambda at: clipped_normal(MEAN[at.items], MEAN[at.items] / 2, at=at, correlation=0.5),
    "delays": lambda at: delays(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), at=at),
    "empirical": lambda at: empirical(SEEN[:, at.items], at=at),
    "empirical, together": lambda at: empirical(SEEN[:, at.items], at=at, together=True),
}


@pytest.mark.parametrize("law", LAWS)
def test_shards_are_the_whole_to_the_bit(law: str) -> None:
    draw = LAWS[law]
    at = Futures(7, "optimise", items=3, paths=37, periods=5)
    whole = draw(at)
    assert whole.shape == (5, 37, 3)
    for cut in (1, 8, 30):
        parts = [draw(at.shard(paths=part)) for part in (slice(0, cut), slice(cut, None))]
        assert torch.equal(torch.cat(parts, 1), whole)
    assert torch.equal(torch.cat([draw(at.shard(items=slice(i, i + 1))) for i in range(3)], -1), whole)
    assert torch.equal(draw(at), whole)


def test_a_correlation_matrix_may_be_sharded_over_paths() -> None:
    at = Futures(7, "optimise", items=3, paths=37, periods=5)
    whole = clipped_normal(MEAN, 1.0, at=at, correlation=MATRIX)
    assert torch.equal(torch.cat([clipped_normal(MEAN, 1.0, at=at.shard(paths=s), correlation=MATRIX) for s in (slice(0, 10), slice(10, None))], 1), whole)


def test_uses_steps_and_purposes_do_not_share_futures() -> None:
    at = Futures(0, "optimise", items=2, paths=100, periods=3)
    others = [
        *(Futures(0, use, items=2, paths=100, periods=3) for use in USES if use != "optimise"),
        at.batch(1),
        at.batch(2),
        Futures(1, "optimise", 2, 100, 3),
    ]
    drawn = [at.uniform("demand"), *(o.uniform("demand") for o in others), at.uniform("lead_time")]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert not bool((a == b).any())
            assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.2
    assert torch.equal(at.batch(0).uniform("demand"), at.uniform("demand"))


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (lambda: poisson(MEAN, at=AT), lambda i: stats.poisson(MEAN[i])),
        (lambda: negative_binomial(MEAN, 2.0, at=AT), lambda i: stats.nbinom(2.0, 2.0 / (2.0 + MEAN[i]))),
        (lambda: gamma_poisson(MEAN, 1.0, at=AT), lambda i: stats.poisson(MEAN[i])),
        (lambda: gamma_poisson(MEAN, 3.0, at=AT), lambda i: stats.nbinom(MEAN[i] / 2.0, 1 / 3.0)),
    ],
)
def test_counts_are_the_quantiles_of_their_law(draw: Callable[[], Tensor], law: Callable[[int], Any]) -> None:
    """Every single draw is the inverse distribution function of its uniform number."""
    found, u = draw(), AT.uniform("demand")
    for i in range(3):
        assert torch.equal(found[..., i], torch.from_numpy(law(i).ppf(u[..., i].numpy())))


def test_a_level_makes_periods_of_a_path_alike() -> None:
    at = Futures(3, "report", items=1, paths=40000, periods=2)
    demand = gamma_poisson(20.0, 2.0, at=at, level_deviation=0.4)[..., 0]
    level = math.exp(0.4**2) - 1  # squared coefficient of variation of the level
    assert abs(float(demand.mean()) - 20) < 4 * 20 * math.sqrt((level + 0.1) / 40000)
    assert abs(float(demand.var()) / (2 * 20 + 400 * level) - 1) < 0.05
    assert abs(float(torch.cov(demand)[0, 1]) / (400 * level) - 1) < 0.05


@pytest.mark.parametrize("correlation", [0.0, 0.5, MATRIX], ids=["none", "shared", "matrix"])
def test_normal_demand_has_its_moments_and_correlations(correlation: float | Tensor) -> None:
    deviation = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    demand = clipped_normal(MEAN, deviation, at=AT, correlation=correlation, clip=False).flatten(0, 1)
    assert bool(((demand.mean(0) - MEAN).abs() < 4 * deviation / math.sqrt(20000)).all())
    wanted = correlation if isinstance(correlation, Tensor) else torch.full((3, 3), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    assert bool(((torch.corrcoef(demand.T) - wanted).abs() < 4 / math.sqrt(20000)).all())
    assert bool((demand < 0).any())
    assert torch.equal(clipped_normal(MEAN, deviation, at=AT, correlation=correlation).flatten(0, 1), demand.clamp_min(0))


def test_empirical_demand_repeats_what_was_seen() -> None:
    each, joint = empirical(SEEN, at=AT), empirical(SEEN, at=AT, together=True)
    assert torch.equal(joint[..., 1] - joint[..., 0], torch.ones(5, 4000, dtype=torch.float64))
    assert not torch.equal(each[..., 1] - each[..., 0], torch.ones(5, 4000, dtype=torch.float64))
    for demand in (each, joint):
        share = torch.stack([(demand[..., 2] == v).double().mean() for v in SEEN[:, 2]])
        assert bool(((share - 1 / 7).abs() < 4 * math.sqrt(6 / 49 / 20000)).all())


def test_delays_have_their_probabilities() -> None:
    lag = LAWS["delays"](AT)
    share = torch.stack([(lag == k).double().mean() for k in (1, 2, 3)])
    assert bool(((share - torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)).abs() < 4 * 0.5 / math.sqrt(60000)).all())


def test_single_precision_out_where_it_is_asked_for() -> None:
    at = Futures(0, "report", items=3, paths=8, periods=5, dtype=torch.float32)
    assert all(draw(at).dtype == torch.float32 for draw in LAWS.values())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Futures(0, "test", 1, 1, 1), InputError, r"use must be one of optimise, report, select; got 'test'"),
        (lambda: Futures(0, "report", 0, 1, 1), InputError, r"items must be an integer >= 1, got 0"),
        (lambda: Futures(0, "report", torch.tensor([1.0]), 1, 1), DtypeError, r"items must be a number or a vector of int64"),
        (lambda: poisson(torch.tensor([1.0, -2.0, 3.0]), at=AT), InputError, r"mean must be >= 0, got -2"),
        (lambda: poisson(torch.tensor([1.0, math.nan, 3.0]), at=AT), InputError, r"mean must be finite, got 1 of 3.*at index \(1,\)"),
        (lambda: poisson(torch.ones(4), at=AT), ShapeError, r"mean must have shape \(N,\) = \(3,\) or \(T, N\) = \(5, 3\), got \(4,\)"),
        (lambda: negative_binomial(MEAN, 0.0, at=AT), InputError, r"size must be > 0, got 0"),
        (lambda: gamma_poisson(MEAN, 0.5, at=AT), InputError, r"dispersion must be >= 1, got 0.5"),
        (lambda: gamma_poisson(900.0, 1.0, at=AT), InputError, r"a count with P\(0\) = exp\(-900\) is too large for the recursion"),
        (lambda: clipped_normal(MEAN, 1.0, at=AT, correlation=1.2), InputError, r"correlation must lie in \[0, 1\)"),
        (lambda: clipped_normal(MEAN, 1.0, at=AT, correlation=MATRIX[:2, :2]), ShapeError, r"correlation must have shape \(N, N\) = \(3, 3\)"),
        (lambda: clipped_normal(MEAN, 1.0, at=AT, correlation=2 * MATRIX), InputError, r"symmetric with ones on the diagonal"),
        (
            lambda: clipped_normal(MEAN, 1.0, at=AT, correlation=torch.full((3, 3), -0.9, dtype=torch.float64).fill_diagonal_(1.0)),
            InputError,
            r"positive definite, got a smallest eigenvalue of -0.8",
        ),
        (lambda: empirical(-SEEN, at=AT), InputError, r"samples of demand must be >= 0, got -20"),
        (lambda: delays(torch.tensor([0.2, 0.2]), at=AT), InputError, r"must be > 0 and add up to 1"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[DpscError], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
