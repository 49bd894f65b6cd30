"""Posterior samples by optimisation: every member fits data that might as well have been observed, from a draw of the prior that it is pulled back to.

Member r minimises  |r(u) - e_r|^2 / 2 + |u - a_r|^2 / 2,  with r the standardised residuals, e_r ~ N(0, I) and a_r a draw of the prior. If the simulator is
linear, the minimisers are exact draws of the posterior. If it is not, they are an approximation whose virtue is what it does where the data are silent:
a coordinate without any influence stays at its draw of the prior, so its interval is the prior's. Coverage is measured, not assumed: `coverage`, `ranks`.

Where influence is one-sided (a limit that binds below some value and not above) members that start on the silent side stay there: intervals of single
coordinates hardly notice, sums over many coordinates are biased towards that side.

Source: Kitanidis (1995), doi:10.1029/95WR01945; Oliver, He & Reynolds (1996); Chen & Oliver (2012), doi:10.1007/s11004-011-9376-z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.calibrate.descend import Optimizer, descend
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Reading, Simulator, columns
from dpsc.errors import ShapeError


@dataclass(frozen=True)
class Ensemble:
    """Members of a posterior.

    Attributes:
        members: `(D, R)`, equally likely.
        objective: `(steps, R)` what each member minimised, before every step.
        evaluations: of the simulator: R a step.
        wall_s: seconds.
    """

    members: Tensor
    objective: Tensor
    evaluations: int
    wall_s: float


def draw_prior(dimension: int, count: int, *, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """`(D, count)` standard normal coordinates; draw r does not depend on how many are asked for."""
    index = torch.arange(dimension)[:, None], torch.arange(count)
    return noise.normal(seed, "prior draws", *index).to(dtype)


def ensemble(
    simulate: Simulator,
    observations: Observations,
    *,
    dimension: int,
    members: int,
    steps: int,
    optimizer: Optimizer,
    reading: Reading,
    rate: Callable[[float], float] | None = None,
    seed: int = 0,
    save_to: Path | None = None,
) -> Ensemble:
    """Draw from the posterior by randomised maximum likelihood, all members side by side in one batch.

    Args:
        simulate: series of columns of coordinates.
        observations: what was seen. Normal errors; under Student's t the perturbed errors are normal all the same.
        dimension: D.
        members: R. Of 39 members the second and the 38th largest are a 90 % interval, whatever the law.
        steps: of the optimiser; members x steps evaluations.
        optimizer: makes the optimiser, which must treat entries one by one (Adam does), so that members do not meet.
        reading: of the simulator at a fraction of the fit.
        rate: fraction done -> factor on the learning rate.
        seed: of the members' errors and prior draws. Member r is the same whatever the number of members.
        save_to: see `descend`.
    Raises: DivergenceError.
    """
    checks.at_least("members", members, 1)
    like = observations.values
    anchors = draw_prior(dimension, members, seed=seed, dtype=like.dtype).to(like.device)
    return _settle(simulate, observations, anchors, anchors, observations.unit_errors(members, seed=seed), steps, optimizer, reading, rate, save_to)


def maximum_posterior(
    simulate: Simulator,
    observations: Observations,
    start: Tensor,
    *,
    steps: int,
    optimizer: Optimizer,
    reading: Reading,
    rate: Callable[[float], float] | None = None,
    pull: float = 1.0,
    save_to: Path | None = None,
) -> Ensemble:
    """The most likely coordinates, from S starts side by side.

    Args:
        simulate: series of columns of coordinates.
        observations: what was seen.
        start: `(D, S)`.
        steps: of the optimiser; S x steps evaluations.
        optimizer: as in `ensemble`.
        reading: of the simulator at a fraction of the fit.
        rate: fraction done -> factor on the learning rate.
        pull: weight of the prior; 0 is maximum likelihood.
        save_to: see `descend`.
    Returns: `members` `(D, S)` in the order of the starts.
    Raises: DivergenceError.
    """
    columns("start", start)
    anchors = torch.zeros_like(start)
    return _settle(simulate, observations, start, anchors, None, steps, optimizer, reading, rate, save_to, pull)


def _settle(
    simulate: Simulator,
    observations: Observations,
    start: Tensor,
    anchors: Tensor,
    errors: Tensor | None,
    steps: int,
    optimizer: Optimizer,
    reading: Reading,
    rate: Callable[[float], float] | None,
    save_to: Path | None,
    pull: float = 1.0,
) -> Ensemble:
    members = start.detach().clone().requires_grad_()

    def loss(done: float) -> Tensor:
        series = simulate(members, relax=reading(done))
        if series.shape[-1] != members.shape[1]:
            raise ShapeError(f"the simulator must return one run a column, {members.shape[1]}, got {series.shape[-1]}")
        if errors is not None:
            # The error is added to what is observed, which is the same as taking it from what is simulated: growth rates included, as `noise` is theirs.
            unit = observations.residuals(series)
            fit = observations.penalty(torch.where(observations.seen(len(unit)), unit - errors[: len(unit)], torch.zeros_like(unit)))
        else:
            fit = observations.misfit(series)
        return fit + pull * (members - anchors).square().sum(0) / 2

    history = descend(loss, {"coordinates": members}, optimizer=optimizer, steps=steps, rate=rate, save_to=save_to)
    return Ensemble(members.detach(), history.loss, steps * members.shape[1], history.wall_s)
