"""The extended (R, s, Q) replenishment problem: articles and paths, drawn as its definition says, and what is known about its gradients.

Definition: twelve weeks, a kick-start order and then a fixed order whenever a trigger level is reached, random demand, lead times and returns, lost
sales, after Presbitero et al. (2025), Scientific Reports 15:44225, doi:10.1038/s41598-025-32537-2, with synthetic articles, because no data were
published. The order of the draws below is part of the definition (numpy's PCG64 generator).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.types import Instance

WEEKS, LONGEST_LEAD_TIME, LONGEST_RETURN_LAG = 12, 4, 3


class Articles(NamedTuple):
    """N articles: mean weekly demand and unit costs `(N,)`, and the profile of mean demand `(T, N)`; float64."""

    scale: Tensor
    mean_demand: Tensor
    holding_cost: Tensor
    inbound_cost: Tensor
    order_cost: Tensor
    outbound_cost: Tensor
    return_cost: Tensor
    lost_sale_cost: Tensor
    overstock_cost: Tensor
    return_rate: Tensor
    dispersion: Tensor
    mean_lead_time: Tensor


class Paths(NamedTuple):
    """S futures of N articles, `(T, S, N)` float64: demand, lead time of an order, delay of the returns of a sale, and a uniform that rounds returns."""

    demand: Tensor
    lead_time: Tensor
    return_lag: Tensor
    uniform: Tensor


def articles(count: int, *, seed: int = 0) -> Articles:
    """Draw N articles.

    Args:
        count: N >= 1.
        seed: of numpy's default generator.
    """
    n = checks.at_least("count", count, 1)
    g = numpy.random.default_rng(checks.at_least("seed", seed, 0))
    scale = numpy.exp(g.uniform(numpy.log(3), numpy.log(40), n))
    launch = g.integers(0, 5, n)
    dispersion = g.uniform(1.2, 4.0, n)
    peak = launch + g.integers(2, 5, n)
    decay = g.uniform(3, 10, n)
    week = numpy.arange(WEEKS)[:, None]
    rising = (week - launch + 1) / (peak - launch + 1)
    profile = numpy.where(week < launch, 0.0, numpy.where(week <= peak, rising, numpy.exp(-(week - peak) / decay)))
    price = numpy.exp(g.uniform(numpy.log(10), numpy.log(80), n))
    order_cost = g.uniform(5, 25, n)
    lost_sale = price * g.uniform(0.3, 0.5, n)
    overstock = price * g.uniform(0.15, 0.35, n)
    return_rate = g.uniform(0.1, 0.5, n)
    lead_time = g.uniform(1.2, 2.6, n)
    constant = numpy.ones(n)
    columns = (
        scale,
        scale * profile,
        0.01 * price + 0.05,
        0.3 * constant,
        order_cost,
        1.5 * constant,
        2.0 * constant,
        lost_sale,
        overstock,
        return_rate,
        dispersion,
        lead_time,
    )
    return Articles(*(torch.from_numpy(numpy.ascontiguousarray(c)) for c in columns))


def paths(of: Articles, count: int, *, seed: int = 1) -> Paths:
    """Draw S futures of all articles at once: the number of articles is part of the instance.

    Args:
        of: the articles.
        count: S >= 1.
        seed: path seed; the generator is seeded with 10000 + seed.
    """
    s, n = checks.at_least("count", count, 1), len(of.scale)
    g = numpy.random.default_rng(10_000 + checks.at_least("seed", seed, 0))
    level = numpy.exp(g.normal(-0.08, 0.4, (1, s, n)))
    mean = numpy.maximum(of.mean_demand.numpy(), 1e-9)[:, None, :] * level
    over = of.dispersion.numpy() - 1
    demand = g.poisson(g.gamma(numpy.maximum(mean / (over + 1e-9), 1e-9), over)).astype(float)
    lead = numpy.clip(numpy.ceil(g.gamma(4.0, of.mean_lead_time.numpy() / 4.0, (WEEKS, s, n))), 1, LONGEST_LEAD_TIME)
    lag = g.integers(1, LONGEST_RETURN_LAG + 1, (WEEKS, s, n)).astype(float)
    uniform = g.random((WEEKS, s, n))
    return Paths(*(torch.from_numpy(a) for a in (demand, lead, lag, uniform)))


def shared_warehouse(of: Articles) -> tuple[float, float]:
    """The coupled variant: units that a warehouse shared by all articles holds, and the cost of a unit and week above."""
    return 1.2 * float(of.scale.sum()), 2.0


def report_paths(count: int) -> int:
    """How many fresh futures (path seed 2) a result of so many articles is reported on: about 400000 articles times futures, 256 to 4096."""
    return min(4096, max(256, 400_000 // checks.at_least("count", count, 1)))


def gradient_points() -> list[Tensor]:
    """The points at which gradients are judged: the start shifted by (0, .2, .2, .2), then 20 random ones, each `(3, 4)` in weeks and multiples of scale."""
    g = numpy.random.default_rng(123)
    shifted = numpy.tile([1.0, 3.2, 2.2, 3.2], (3, 1))
    return [torch.from_numpy(p) for p in (shifted, *(g.uniform([0.0, 1.0, 0.5, 1.0], [4.0, 5.0, 4.0, 5.0], (3, 4)) for _ in range(20)))]


EXTENDED_RSQ = Instance(
    name="extended_rsq",
    source="after Presbitero et al. (2025), doi:10.1038/s41598-025-32537-2; numbers by the numpy definition of the problem, articles 0, paths as stated",
    parameters={"weeks": WEEKS, "cutoff_week": 9, "start": [1.0, 3.0, 2.0, 3.0]},
    known={
        # sum over articles of the 75th percentile over 256 paths (path seed 1), at the start
        "start_p75": {1: 1981.10, 10: 11494.92, 25: 22696.8, 100: 110453.60, 1000: 973591.5},
        # 75th percentile of the total cost with the shared warehouse, 256 paths, at the start
        "start_p75_coupled": {100: 130765.6},
        # trigger -> article seed -> best (t0, Q0, s, Q) in units of a single article, its 75th percentile over the 256 paths of path seed 1, and over 20000
        # paths of path seed 2; coarse-to-fine search of the integer grid, article 3 also by full enumeration. None: orders never repeat, any Q will do.
        "best_integers": {
            "position": [
                ((0, 44, 1, 6), 758.47, 820.09), ((1, 48, 10, 10), 303.33, 329.17), ((0, 15, -1, None), 315.52, 327.11), ((0, 17, -1, None), 127.01, 132.04),
                ((1, 104, 51, 6), 943.87, 1022.94), ((0, 105, 7, 15), 544.09, 580.74), ((0, 39, 9, 11), 763.45, 825.96), ((0, 49, -1, None), 377.28, 396.26),
                ((0, 34, 10, 7), 509.54, 555.98), ((1, 113, 49, 26), 1292.10, 1364.25),
            ],
            "idle": [
                ((0, 44, 1, 6), 758.47, 820.09), ((1, 48, 13, 12), 301.74, 322.12), ((0, 15, -1, None), 315.52, 327.11), ((0, 17, -1, None), 127.01, 132.04),
                ((1, 101, 48, 10), 927.98, 1026.81), ((0, 105, 7, 15), 544.09, 580.74), ((0, 41, 11, 10), 762.11, 802.20), ((0, 49, -1, None), 377.28, 396.26),
                ((0, 33, 10, 9), 510.76, 554.65), ((1, 107, 41, 42), 1314.57, 1398.91),
            ],
        },
        # sums of demand, lead times and return lags of path seed 1, 256 paths
        "check_sums": {1: (17158, 8625, 6227), 100: (2457307, 722505, 613872)},
        # central differences of the exact mean cost at the first two gradient points, 3 articles, 40000 paths of path seed 3, (3, 4) each
        "gradients": [
            [[210.21745628, -16.8792677, 160.29489729, 123.16450416], [3.20390729, -6.03723655, 30.03567462, 10.85639319],
             [8.70214245, -16.23475561, 69.63868526, 31.2810577]],
            [[175.808359, 284.055025, -342.223628, 10.4362886], [0.00451081250, -8.67816798, 35.6408061, -0.0380008274],
             [15.8002555, 36.5844478, 16.5790217, 4.06147761]],
        ],
    },
)  # fmt: skip
