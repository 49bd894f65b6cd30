"""How far a number that was estimated from futures can be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError


class Interval(NamedTuple):
    """An estimate and the interval that covers the truth with the stated probability."""

    estimate: Tensor
    low: Tensor
    high: Tensor

    @property
    def half_width(self) -> Tensor:
        """Half of the length."""
        return (self.high - self.low) / 2


def _sample(values: Tensor, level: float, dim: int, fewest: int) -> Tensor:
    checks.floating("values", values)
    if not 0 < level < 1:
        raise InputError(f"level must lie strictly between 0 and 1, got {level!r}")
    if not -values.dim() <= dim < values.dim() or values.shape[dim] < fewest:
        raise ShapeError(f"values must hold at least {fewest} futures along dim {dim}, got shape {tuple(values.shape)}")
    checks.finite("values", values)
    return values.detach().double().movedim(dim, -1)


def mean_interval(values: Tensor, *, level: float = 0.95, dim: int = -1) -> Interval:
    """The mean of independent futures, plus or minus Student's quantile of its standard error.

    Args:
        values: costs of S >= 2 independent futures along `dim`.
        level: probability of coverage.
        dim: of the futures.
    Returns: float64, the shape without `dim`.
    """
    from scipy import stats

    sample = _sample(values, level, dim, 2)
    count = sample.shape[-1]
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * sample.std(-1) / math.sqrt(count)
    mean = sample.mean(-1)
    return Interval(mean, mean - half, mean + half)


def quantile_interval(values: Tensor, quantile: float, *, level: float = 0.95, dim: int = -1) -> Interval:
    """A quantile of independent futures, between two order statistics; whatever the law, the interval covers with at least the stated probability.

    The number of values below the true quantile is binomial (S, q); the interval runs from the order statistic that it falls short of with probability (1 -
    level) / 2 at most to its counterpart. Where there are too few futures for a side, that side is infinite.

    Args:
        values: costs of S >= 1 independent futures along `dim`.
        quantile: q in (0, 1).
        level: probability of coverage.
        dim: of the futures.
    Returns: float64, the shape without `dim`; the estimate interpolates linearly, as `dpsc.objective.Quantile` does.
    Source: David & Nagaraja (2003), Order Statistics, section 7.1.
    """
    from scipy import stats

    if not 0 < quantile < 1:
        raise InputError(f"quantile must lie strictly between 0 and 1, got {quantile!r}")
    ordered = _sample(values, level, dim, 1).sort(-1).values
    count, tail = ordered.shape[-1], (1 - level) / 2
    law = stats.binom(count, quantile)
    # X_(i) <= true quantile unless fewer than i values lie below it: P(B <= i - 1) <= tail, the largest such i; X_(j) >= it unless B >= j.
    low = int(law.ppf(tail))
    while low > 0 and law.cdf(low - 1) > tail:
        low -= 1
    high = int(law.ppf(1 - tail)) + 1
    while high <= count and law.sf(high - 1) > tail:
        high += 1
    infinite = torch.full_like(ordered[..., 0], math.inf)
    return Interval(
        torch.quantile(ordered, quantile, dim=-1),
        ordered[..., low - 1] if low > 0 else -infinite,
        ordered[..., high - 1] if high <= count else infinite,
    )
