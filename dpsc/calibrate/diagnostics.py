"""Whether a posterior can be trusted: coverage of its intervals, simulation-based calibration, predictive checks.

Source: Cook, Gelman & Rubin (2006), doi:10.1198/106186006X136976; Talts et al. (2018), arXiv:1804.06788; Gelman, Meng & Stern (1996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError


def intervals(draws: Tensor, *, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Central intervals that cover a further draw of the same law with probability `level`, whatever the law.

    Of R exchangeable draws, the k-th smallest and the k-th largest enclose the next one with probability (R + 1 - 2k) / (R + 1). Between whole k the ends are
    interpolated. Plain quantiles of few draws are too narrow.

    Args:
        draws: `(..., R)`; R >= 2 / (1 - level) - 1, 19 for 90 %.
        level: in (0, 1).
    Returns: low and high, `(...)`.
    Raises: InputError.
    """
    count = draws.shape[-1]
    position = (1 - level) / 2 * (count + 1) - 1  # of the low end, counted from 0
    if not 0 < level < 1 or position < -1e-9:
        raise InputError(
            f"draws must number at least {math.ceil(2 / (1 - level) - 1 - 1e-9) if 0 < level < 1 else 1} for a level of {level!r} in (0, 1), got {count}"
        )
    ordered = draws.sort(-1).values
    below = min(int(position + 1e-9), count - 1)
    share = max(0.0, position - below)

    def at(values: Tensor) -> Tensor:
        return values[..., below] + share * (values[..., min(below + 1, count - 1)] - values[..., below])

    return at(ordered), at(ordered.flip(-1))


def covered(draws: Tensor, truth: Tensor, *, level: float = 0.9) -> Tensor:
    """`(...)` bool: whether the interval of `draws` `(..., R)` holds the truth `(...)`. Raises: ShapeError."""
    if draws.shape[:-1] != truth.shape:
        raise ShapeError(f"truth must have shape {tuple(draws.shape[:-1])}, one entry for each set of draws, got {tuple(truth.shape)}")
    low, high = intervals(draws, level=level)
    return (low <= truth) & (truth <= high)


def ranks(draws: Tensor, truth: Tensor, *, seed: int = 0) -> Tensor:
    """How many of the draws lie below the truth; ties are broken at random.

    If the truth was drawn from the prior and the draws from the exact posterior, the rank is uniform on 0 ... R.

    Args:
        draws: `(..., R)`.
        truth: `(...)`.
        seed: of the ties.
    Returns: `(...)` int64.
    Raises: ShapeError.
    """
    if draws.shape[:-1] != truth.shape:
        raise ShapeError(f"truth must have shape {tuple(draws.shape[:-1])}, one entry for each set of draws, got {tuple(truth.shape)}")
    less, equal = (draws < truth[..., None]).sum(-1), (draws == truth[..., None]).sum(-1)
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(truth.shape, generator=generator, dtype=torch.float64).to(truth.device)
    return less + (share * (equal + 1)).long()


@dataclass(frozen=True)
class Uniformity:
    """Ranks against the uniform law: `counts` `(bins,)`, Pearson's `statistic`, and the probability `p` of one as large."""

    counts: Tensor
    statistic: float
    p: float


def uniformity(rank: Tensor, *, draws: int, bins: int = 10) -> Uniformity:
    """Pearson's chi-square test that ranks are uniform on 0 ... `draws`.

    Args:
        rank: `(N,)` whole, one a data set: ranks of several parameters of one data set depend on each other.
        draws: R; R + 1 must be a multiple of `bins`, or the bins would not be equally likely.
        bins: at least two.
    Raises: InputError, ShapeError.
    """
    checks.at_least("bins", bins, 2)
    if (draws + 1) % bins:
        raise InputError(f"draws + 1 must be a multiple of bins = {bins}, got {draws} draws")
    if rank.dim() != 1 or not len(rank):
        raise ShapeError(f"rank must have shape (N,) with N > 0, got {tuple(rank.shape)}")
    if int(rank.min()) < 0 or int(rank.max()) > draws:
        raise InputError(f"ranks must lie in 0 ... {draws}, got [{int(rank.min())}, {int(rank.max())}]")
    counts = torch.bincount(rank.long() * bins // (draws + 1), minlength=bins)
    expected = len(rank) / bins
    statistic = float(((counts - expected) ** 2).sum() / expected)
    half = torch.tensor([(bins - 1) / 2, statistic / 2], dtype=torch.float64)
    return Uniformity(counts, statistic, float(torch.special.gammaincc(half[0], half[1])))


def predictive_check(simulated: Tensor, observed: Tensor, *, noise: Tensor | float, level: float = 0.9, seed: int = 0) -> dict[str, Tensor]:
    """Does the data look like what the posterior would produce?

    Args:
        simulated: `(T, K, R)` series of posterior draws, without observation error.
        observed: `(T, K)`, NaN where missing.
        noise: standard deviation of the observation error, broadcast to `(T, K)`.
        level: of the bands.
        seed: of the observation errors that are added to the draws.
    Returns: `low`, `high` `(T, K)` bands of a new observation; `inside` `(K,)` share of each series within them; `p` `(K,)` share of draws whose own new data
        lie farther from the draw than the observed series does (near 0: the model does not fit; near 1: it fits its noise).
    Raises: ShapeError.
    """
    if simulated.dim() != 3 or simulated.shape[:2] != observed.shape:
        raise ShapeError(f"simulated must have shape (T, K, R) with (T, K) = {tuple(observed.shape)}, got {tuple(simulated.shape)}")
    spread = torch.broadcast_to(torch.as_tensor(noise).to(simulated), observed.shape)[..., None]
    generator = torch.Generator().manual_seed(seed)
    error = torch.randn(simulated.shape, generator=generator, dtype=torch.float64).to(simulated) * spread
    low, high = intervals(simulated + error, level=level)
    there = torch.isfinite(observed)
    counted = there.sum(0).clamp_min(1)
    data = torch.where(there, observed, torch.zeros_like(observed))
    inside = ((low <= data) & (data <= high) & there).sum(0) / counted
    scaled = there[..., None] / spread
    ours, theirs = ((simulated - data[..., None]) * scaled).square().sum(0), (error * scaled).square().sum(0)
    return {"low": low, "high": high, "inside": inside, "p": (theirs >= ours).double().mean(-1)}


def coverage_curve(draws: Tensor, truth: Tensor, levels: Sequence[float]) -> list[float]:
    """Share of truths inside the interval at each nominal level; the diagonal is perfect. `draws` `(..., R)`, `truth` `(...)`."""
    return [float(covered(draws, truth, level=level).double().mean()) for level in levels]
