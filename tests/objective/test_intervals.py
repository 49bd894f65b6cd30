"""Intervals: their coverage, by repetition, and their definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats

from dpsc.errors import DpscError, InputError, ShapeError
from dpsc.objective import Quantile, mean_interval, quantile_interval


def test_the_mean_interval_is_students() -> None:
    values = torch.tensor([[3.0, 5.0, 10.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    low, high = stats.t.interval(0.9, 2, loc=6.0, scale=stats.sem([3.0, 5.0, 10.0]))
    found = mean_interval(values, level=0.9)
    assert torch.allclose(found.estimate, torch.tensor([6.0, 1.0], dtype=torch.float64))
    assert torch.allclose(found.low, torch.tensor([low, 1.0], dtype=torch.float64))
    assert torch.allclose(found.high, torch.tensor([high, 1.0], dtype=torch.float64))
    assert torch.allclose(found.half_width[0], torch.tensor((high - low) / 2, dtype=torch.float64))


@pytest.mark.parametrize("quantile", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("count", [40, 256])
def test_the_quantile_interval_covers(quantile: float, count: int) -> None:
    """10000 samples of a skewed law: the share of intervals that cover is at least 95 %, and the binomial law's own number to four standard errors."""
    sample = torch.empty(10000, count, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(0))
    truth = -math.log(1 - quantile)
    found = quantile_interval(sample, quantile)
    share = float(((found.low <= truth) & (truth <= found.high)).double().mean())
    law = stats.binom(count, quantile)
    low, high = int(law.ppf(0.025)), int(law.ppf(0.975)) + 1
    exact = float(law.cdf(high - 1) - law.cdf(low - 1))
    assert exact >= 0.95
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / 10000)
    assert torch.equal(found.estimate, Quantile(quantile)(sample, dim=-1)) or torch.allclose(found.estimate, Quantile(quantile)(sample, dim=-1), rtol=1e-12)


def test_too_few_futures_leave_a_side_open() -> None:
    found = quantile_interval(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), 0.99)
    assert float(found.high) == math.inf
    assert float(found.low) < 3.0


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: mean_interval(torch.ones(1)), ShapeError, r"values must hold at least 2 futures along dim -1, got shape \(1,\)"),
        (lambda: mean_interval(torch.ones(3), level=1.0), InputError, r"level must lie strictly between 0 and 1, got 1.0"),
        (lambda: quantile_interval(torch.tensor([1.0, math.nan]), 0.5), InputError, r"values must be finite, got 1 of 2"),
        (lambda: quantile_interval(torch.ones(3), 0.0), InputError, r"quantile must lie strictly between 0 and 1, got 0.0"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], error: type[DpscError], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
