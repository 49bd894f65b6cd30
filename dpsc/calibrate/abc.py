"""Approximate Bayesian computation: rivals that need no gradient, counted in the same evaluations.

Source: Beaumont (2019), doi:10.1146/annurev-statistics-030718-105212; Del Moral, Doucet & Jasra (2012), doi:10.1007/s11222-011-9271-y; the moves are those of
Cotter, Roberts, Stuart & White (2013), doi:10.1214/13-STS421, which leave a standard normal prior as it is, so that no weights are needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Simulator
from dpsc.errors import InputError
from dpsc.relax import Exact


@dataclass(frozen=True)
class Accepted:
    """What approximate Bayesian computation kept.

    Attributes:
        draws: `(D, keep)`, the nearest first.
        distance: `(keep,)` mean squared error of each.
        curve: (evaluations, smallest distance so far, seconds) after every batch.
        evaluations: spent.
        wall_s: seconds.
    """

    draws: Tensor
    distance: Tensor
    curve: list[tuple[int, float, float]]
    evaluations: int
    wall_s: float


Distance = Callable[[Tensor], Tensor]


def _distance(simulate: Simulator, observations: Observations) -> Distance:
    def distance(u: Tensor) -> Tensor:
        with torch.no_grad():
            far = observations.loss(simulate(u, relax=Exact()))
        return torch.where(torch.isfinite(far), far, torch.inf)  # a collapsed run is far away, and no reason to stop

    return distance


def rejection(
    simulate: Simulator, observations: Observations, *, dimension: int, evaluations: int, keep: int = 100, batch: int = 64, seed: int = 0
) -> Accepted:
    """Draw from the prior, keep the nearest.

    Args:
        simulate: series of columns of coordinates, read exactly.
        observations: the distance is their `loss`.
        dimension: D.
        evaluations: draws in all.
        keep: of them.
        batch: draws run side by side. The draws of a seed depend on it.
        seed: of the draws.
    Raises: InputError.
    """
    for name, value in (("evaluations", evaluations), ("keep", keep), ("batch", batch)):
        checks.at_least(name, value, 1)
    if keep > evaluations:
        raise InputError(f"keep must be at most evaluations = {evaluations}, got {keep}")
    distance, like = _distance(simulate, observations), observations.values
    generator = torch.Generator().manual_seed(seed)
    begin, spent = time.perf_counter(), 0
    near, draws, curve = like.new_zeros(0), like.new_zeros(dimension, 0), []
    while spent < evaluations:
        count = min(batch, evaluations - spent)
        u = torch.randn(dimension, count, generator=generator).to(like)
        near, draws = torch.cat([near, distance(u)]), torch.cat([draws, u], 1)
        order = near.argsort()[:keep]
        near, draws, spent = near[order], draws[:, order], spent + count
        curve.append((spent, float(near[0]), time.perf_counter() - begin))
    return Accepted(draws, near, curve, spent, time.perf_counter() - begin)


def sequential(
    simulate: Simulator,
    observations: Observations,
    *,
    dimension: int,
    evaluations: int,
    population: int = 200,
    survive: float = 0.5,
    refresh: float = 0.8,
    seed: int = 0,
) -> Accepted:
    """Sequential Monte Carlo: a population moves through ever smaller distances.

    Every round the `survive` nearest share sets the threshold and is copied over the rest; then every member proposes sqrt(1 - s^2) u + s e, which
    keeps the prior, and moves there if that is within the threshold, again and again until the share `refresh` has moved, or copies would take over.
    The step s follows the acceptance rate (towards a quarter).

    Args:
        simulate: series of columns of coordinates, read exactly.
        observations: the distance is their `loss`.
        dimension: D.
        evaluations: in all, the first population among them; what is left when it does not make a whole round is not spent.
        population: members, run side by side.
        survive: share of members within the next threshold.
        refresh: share of members that must have moved before the threshold falls again.
        seed: of everything random.
    Raises: InputError.
    """
    checks.at_least("population", population, 4)
    if not 0 < survive < 1:
        raise InputError(f"survive must lie in (0, 1), got {survive!r}")
    if evaluations < population:
        raise InputError(f"evaluations must be at least population = {population}, got {evaluations}")
    distance, like = _distance(simulate, observations), observations.values
    generator = torch.Generator().manual_seed(seed)
    begin = time.perf_counter()

    def normal(columns: int) -> Tensor:
        return torch.randn(dimension, columns, generator=generator).to(like)

    u = normal(population)
    far, spent, step = distance(u), population, 0.5
    curve = [(spent, float(far.min()), time.perf_counter() - begin)]
    while spent + population <= evaluations:
        order = far.argsort()
        alive = order[: max(2, int(survive * population))]
        threshold = far[alive[-1]]
        pick = alive[torch.randint(len(alive), (population,), generator=generator).to(alive.device)]
        pick[: len(alive)] = alive  # every survivor stays once
        u, far = u[:, pick], far[pick]
        fresh = torch.zeros_like(far, dtype=torch.bool)
        while float(fresh.float().mean()) < refresh and spent + population <= evaluations:
            proposal = (1 - step**2) ** 0.5 * u + step * normal(population)
            reached = distance(proposal)
            moved = reached <= threshold
            u, far, fresh = torch.where(moved, proposal, u), torch.where(moved, reached, far), fresh | moved
            spent += population
            step = min(0.99, max(1e-3, step * (1.25 if float(moved.float().mean()) > 0.25 else 0.8)))
            curve.append((spent, min(curve[-1][1], float(far.min())), time.perf_counter() - begin))
    order = far.argsort()
    return Accepted(u[:, order], far[order], curve, spent, time.perf_counter() - begin)
