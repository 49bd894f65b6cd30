"""Replenishment of millions of articles, shard by shard: articles and futures are drawn where they are needed, trained, and forgotten.

Articles do not interact here, so a shard of them is a problem of its own; a shared resource enters as a price a unit and week (add it to `holding_cost`),
which is the same for all shards. Every number an article meets is a function of its own number, so its parameters do not depend on who else is in its
shard, to the bit, as long as shards are multiples of 16 articles (the width of a vector register: narrower ones are computed by other instructions).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.demand.tabulated import Table, level, negative_binomial_table, stream, words
from dpsc.errors import InputError
from dpsc.instances.replenishment import LONGEST_LEAD_TIME, LONGEST_RETURN_LAG, WEEKS, Articles, Paths
from dpsc.objective.risk import RiskMeasure
from dpsc.relax import Exact
from dpsc.simulate.replenishment import PARAMETERS, Replenishment
from dpsc.training import fit
from dpsc.types import Relaxation

WIDTH = 16  # float32 numbers in the widest vector register
LARGEST_MEAN, LEVEL_MEAN, LEVEL_DEVIATION = 250.0, -0.08, 0.4


def articles_at(item: Tensor, *, seed: int) -> Articles:
    """Articles of the same laws as `dpsc.instances.replenishment.articles`, each one a function of its number; float32.

    Args:
        item: `(N,)` int64 numbers.
        seed: in [0, 2^64).
    """

    def between(name: str, low: float, high: float) -> Tensor:
        return low + (high - low) * noise.uniform(seed, f"article {name}", item)

    scale = torch.exp(between("scale", math.log(3), math.log(40)))
    launch = between("launch", 0, 5).floor()
    peak = launch + between("peak", 2, 5).floor()
    week = torch.arange(WEEKS, dtype=torch.float64)[:, None]
    rising, falling = (week - launch + 1) / (peak - launch + 1), torch.exp(-(week - peak) / between("decay", 3, 10))
    profile = torch.where(week < launch, 0.0, torch.where(week <= peak, rising, falling))
    price, constant = torch.exp(between("price", math.log(10), math.log(80))), torch.ones_like(scale)
    columns = {
        "scale": scale,
        "mean_demand": scale * profile,
        "holding_cost": 0.01 * price + 0.05,
        "inbound_cost": 0.3 * constant,
        "order_cost": between("order cost", 5, 25),
        "outbound_cost": 1.5 * constant,
        "return_cost": 2.0 * constant,
        "lost_sale_cost": price * between("lost sale", 0.3, 0.5),
        "overstock_cost": price * between("overstock", 0.15, 0.35),
        "return_rate": between("return rate", 0.1, 0.5),
        "dispersion": between("dispersion", 1.2, 4.0),
        "mean_lead_time": between("lead time", 1.2, 2.6),
    }
    return Articles(**{name: x.float() for name, x in columns.items()})


class TabulatedFutures:
    """Demand, lead times, return lags and rounding of returns at the addresses (item, path, week), from a table of inverse distribution functions.

    Args:
        seed: in [0, 2^64).
        use: what the futures are for ("optimise", "report"); different uses are independent.
        compiled: whether drawing is one compiled program; the same numbers to the bit.
    """

    def __init__(self, seed: int, use: str = "optimise", *, compiled: bool = False) -> None:
        self._level, self._week, self._draw = stream(seed, f"{use}/level"), stream(seed, f"{use}/week"), _compiled_draw() if compiled else _draw
        self.table = negative_binomial_table(torch.arange(1.2, 4.05, 0.1, dtype=torch.float64), largest_mean=LARGEST_MEAN)

    def paths(self, articles: Articles, item: Tensor, path: Tensor) -> Paths:
        """Futures of some articles.

        Args:
            articles: N of them.
            item: `(N,)` their numbers.
            path: `(S,)` numbers of the futures.
        Returns: `(T, S, N)` float32.
        """
        # Chance that a gamma lead time of shape 4 does not exceed 1, 2, 3 weeks, in 65536ths.
        edge = torch.arange(1, LONGEST_LEAD_TIME, dtype=torch.float64)[:, None]
        lead_edge = (torch.special.gammainc(torch.tensor(4.0, dtype=torch.float64), 4 * edge / articles.mean_lead_time.double()) * 65536).round().long()
        row = self.table.row(articles.dispersion)
        halves = self._draw(self._level, self._week, item, path, articles.mean_demand, lead_edge, row, self.table)
        return Paths(*(torch.stack(pair, 1).flatten(0, 1) for pair in zip(*halves, strict=True)))


def _draw(
    by_path: Tensor, by_week: Tensor, item: Tensor, path: Tensor, mean: Tensor, lead_edge: Tensor, row: Tensor, table: Table
) -> tuple[tuple[Tensor, ...], ...]:
    """Even weeks, odd weeks: demand, lead time, lag, uniform, `(T / 2, S, N)` each."""
    dtype = mean.dtype
    factor = level(by_path, item, path, mean=LEVEL_MEAN, deviation=LEVEL_DEVIATION, dtype=dtype)
    drawn = words(by_week, item, path, mean.shape[0] // 2)
    found = []
    for half in (0, 1):
        chance, lead, lag, uniform = drawn[4 * half : 4 * half + 4]
        weeks = torch.ones((), dtype=dtype, device=mean.device)
        for edge in lead_edge:
            weeks = weeks + (lead >= edge).to(dtype)
        demand = table.look_up(mean[half::2, None] * factor, row, chance)
        found.append((demand, weeks, 1 + ((lag * LONGEST_RETURN_LAG) >> 16).to(dtype), (uniform.to(dtype) + 0.5) * 2.0**-16))
    return tuple(found)


@functools.cache
def _compiled_draw() -> Callable[..., tuple[tuple[Tensor, ...], ...]]:
    program: Callable[..., tuple[tuple[Tensor, ...], ...]] = torch.compile(_draw, fullgraph=True, dynamic=False)
    return program


@dataclass(frozen=True)
class Optimised:
    """What came of all articles: `parameters` by name, and the measured cost at the `start` and at the `end`, read exactly on the training futures, `(N,)`."""

    parameters: dict[str, Tensor]
    start: Tensor
    end: Tensor


def optimise(
    count: int,
    *,
    first: Mapping[str, float],
    futures: TabulatedFutures,
    paths: int,
    steps: int,
    shard: int,
    reading: Callable[[float], Relaxation],
    measure: RiskMeasure,
    measured: Relaxation,
    optimizer: Callable[..., torch.optim.Optimizer],
    article_seed: int = 0,
    articles: Callable[[Tensor], Articles] | None = None,
    compiled: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Optimised:
    """Train the four parameters of every article, a shard at a time; memory does not grow with the number of articles but for their parameters.

    Args:
        count: N articles.
        first: parameter -> value, in weeks and multiples of the scale.
        futures: where futures come from; a shard draws its own once, all steps see them.
        paths: S.
        steps: gradient steps.
        shard: articles in memory, a multiple of 16; the last shard is filled up.
        reading: schedule of readings of the simulator.
        measure: of the cost over futures.
        measured: its reading.
        optimizer: partial of torch.optim; the rate falls linearly to zero. Elementwise ones (Adam, SGD) keep articles apart.
        article_seed: of the synthetic articles.
        articles: item numbers -> articles, instead of synthetic ones.
        compiled: see `Replenishment`.
        progress: called with the number of articles done.
    Raises: InputError.
    """
    checks.exact_names("first", first, PARAMETERS)
    if checks.at_least("shard", shard, WIDTH) % WIDTH:
        raise InputError(f"shard must be a multiple of {WIDTH}, got {shard}")
    path = torch.arange(checks.at_least("paths", paths, 1))
    result = torch.empty(len(PARAMETERS), checks.at_least("count", count, 1))
    start, end = torch.empty(count), torch.empty(count)
    for begin in range(0, count, shard):
        item = torch.arange(begin, begin + shard)  # beyond the last one: articles that nobody asked for
        of = articles_at(item, seed=article_seed) if articles is None else articles(item.clamp_max(count - 1))
        world = Replenishment(futures.paths(of, item, path), articles=of, compiled=compiled, longest=(LONGEST_LEAD_TIME, LONGEST_RETURN_LAG))
        theta = torch.tensor([first[name] for name in PARAMETERS])[:, None].repeat(1, shard).requires_grad_()
        before = _priced(world, theta, measure)
        _train(world, theta, reading, measure, measured, optimizer, steps)
        kept = slice(begin, min(begin + shard, count))
        size = kept.stop - kept.start
        result[:, kept], start[kept], end[kept] = theta.detach()[:, :size], before[:size], _priced(world, theta, measure)[:size]
        progress(kept.stop)
    return Optimised(dict(zip(PARAMETERS, result, strict=True)), start, end)


def _train(
    world: Replenishment,
    theta: Tensor,
    reading: Callable[[float], Relaxation],
    measure: RiskMeasure,
    measured: Relaxation,
    optimizer: Callable[..., torch.optim.Optimizer],
    steps: int,
) -> None:
    def project() -> None:
        with torch.no_grad():
            theta[0].clamp_(0, WEEKS - 1)
            theta[1].clamp_(min=0)
            theta[3].clamp_(min=0)

    def loss(_: None, done: float) -> Tensor:
        project()
        return measure(world.cost(dict(zip(PARAMETERS, theta, strict=True)), relax=reading(done)), relax=measured)

    fit(loss, optimizer=optimizer([theta]), batches=lambda _: [None], epochs=steps, rate=lambda done: 1 - done)
    project()


def _priced(world: Replenishment, theta: Tensor, measure: RiskMeasure) -> Tensor:
    with torch.no_grad():
        return measure(world.cost(dict(zip(PARAMETERS, theta, strict=True)), relax=Exact()))
