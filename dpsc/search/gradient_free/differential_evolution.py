"""Differential evolution. Source: Storn & Price (1997), doi:10.1023/A:1008202821328; library scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class DifferentialEvolution:
    """A population in a box whose differences are its steps; a generation is one call of the objective.

    Args:
        members: of the population, >= 5; the start is one of them, the others are uniform in the box.
    """

    members: int = 40
    library: ClassVar[str] = "scipy.optimize"

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Mutate, cross, select."""
        from scipy.optimize import differential_evolution

        lower, upper = (b.double().numpy() for b in evaluate.box("differential evolution"))
        generator = numpy.random.default_rng(seed)
        population = generator.uniform(lower, upper, (max(5, self.members), start.numel()))
        population[0] = numpy.clip(start.reshape(-1).double().numpy(), lower, upper)
        differential_evolution(
            lambda x: evaluate(torch.from_numpy(numpy.ascontiguousarray(x.T)).to(start.dtype)).numpy(),
            list(zip(lower, upper, strict=True)),
            init=population,
            maxiter=10**9,
            tol=0,
            atol=0,
            polish=False,
            rng=generator,
            updating="deferred",
            vectorized=True,
        )
