"""Generalised variational inference: argmin over q of E_q[misfit] + KL(q, prior), in pyro, the batch innermost.

Source: Knoblauch, Jewson & Damoulas (2022), An optimization-centric view on Bayes' rule, JMLR 23(132); Bingham et al. (2019), Pyro, JMLR 20(28).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate.descend import Optimizer, descend
from dpsc.calibrate.guides import Guide
from dpsc.calibrate.observations import Observations
from dpsc.calibrate.simulator import Reading, Simulator


@dataclass(frozen=True)
class Inference:
    """A fitted guide.

    Attributes:
        guide: sample it.
        loss: `(steps, S)` the negative evidence bound of every step and start, without constants.
        evaluations: of the simulator, S times particles a step.
        wall_s: seconds.
    """

    guide: Guide
    loss: Tensor
    evaluations: int
    wall_s: float

    def settled(self, last: float = 0.1) -> Tensor:
        """`(S,)` negative evidence bound of each start, averaged over the last share of the steps."""
        return self.loss[-max(1, round(last * len(self.loss))) :].mean(0)

    @property
    def best(self) -> int:
        """The start with the largest evidence bound: `guide.centre()[:, best]`."""
        return int(self.settled().argmin())

    def weights(self, last: float = 0.1) -> Tensor:
        """`(S,)` shares of the starts in a mixture, in proportion to exp(evidence bound): modes that do not overlap get their posterior mass, as far as
        the family fits each of them. Starts in one mode share its weight."""
        return torch.softmax(-self.settled(last), 0)


def infer(
    simulate: Simulator,
    observations: Observations,
    guide: Guide,
    *,
    steps: int,
    optimizer: Optimizer,
    reading: Reading,
    rate: Callable[[float], float] | None = None,
    particles: int = 1,
    weight: Callable[[float], float] | None = None,
    seed: int = 0,
    watch: Callable[[int, Guide], None] | None = None,
    save_to: Path | None = None,
) -> Inference:
    """Fit a guide.

    Each step runs `particles` draws of each of the guide's S starts in one batch of the simulator and differentiates the average over particles: S x particles
    evaluations.

    Args:
        simulate: series of columns of coordinates.
        observations: what was seen; their `misfit` is the loss of the generalised posterior.
        guide: the family, changed in place. Its starts do not see each other.
        steps: of the optimiser.
        optimizer: makes the optimiser; `torch.optim.Adam` knows groups, so locations and scales may have rates of their own by wrapping it.
        reading: of the simulator at a fraction of the fit. Reported losses are read exactly, elsewhere.
        rate: fraction done -> factor on the learning rate.
        particles: draws a start and step.
        weight: fraction done -> factor on the misfit (tempering); 1 throughout where None.
        seed: of the draws; global random state is left as it was.
        watch: called before each step with its number (from 0) and the guide, and once at the end; it must draw with a generator of its own.
        save_to: see `descend`.
    Raises: DivergenceError.
    """
    import pyro
    import pyro.distributions as law
    from pyro import poutine

    checks.at_least("particles", particles, 1)
    dimension, starts = guide.dimension, guide.starts
    zero = torch.zeros(dimension, dtype=guide.location.dtype, device=guide.location.device)

    def bound(done: float) -> Tensor:
        """`(S,)` log q - log prior + misfit, averaged over particles: the sum of pyro's `Trace_ELBO` left apart by starts, which do not meet."""

        def plates() -> tuple[Any, Any]:
            return pyro.plate("particles", particles, dim=-2), pyro.plate("starts", starts, dim=-1)

        def family() -> None:
            over, across = plates()
            with over, across:
                pyro.sample("u", guide.distribution())

        def model() -> None:
            over, across = plates()
            with over, across:
                u = pyro.sample("u", law.Normal(zero, torch.ones_like(zero)).to_event(1))
                series = simulate(u.reshape(-1, dimension).mT.contiguous(), relax=reading(done))
                misfit = observations.misfit(series).reshape(u.shape[:-1])
                pyro.factor("misfit", -misfit if weight is None else -weight(done) * misfit)

        drawn = poutine.trace(family).get_trace()
        seen = poutine.trace(poutine.replay(model, trace=drawn)).get_trace()
        drawn.compute_log_prob()
        seen.compute_log_prob()
        gap: Tensor = drawn.nodes["u"]["log_prob"] - seen.nodes["u"]["log_prob"] - seen.nodes["misfit"]["log_prob"]
        return gap.mean(0)

    curve = 0

    def loss(done: float) -> Tensor:
        nonlocal curve
        if watch is not None:
            watch(curve, guide)
        curve += 1
        return bound(done)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        history = descend(loss, dict(guide.named_parameters()), optimizer=optimizer, steps=steps, rate=rate, save_to=save_to)
    if watch is not None:
        watch(steps, guide)
    return Inference(guide, history.loss, steps * starts * particles, history.wall_s)
