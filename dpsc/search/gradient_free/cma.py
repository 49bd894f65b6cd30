"""Covariance matrix adaptation. Source: Hansen & Ostermeier (2001), doi:10.1162/106365601750190398; separable: Ros & Hansen (2008); library pycma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class CMA:
    """CMA-ES as pycma has it, with its own stopping rules.

    Args:
        step: first standard deviation, in the units of the parameters.
        separable: adapt the diagonal only: linear cost in the number of parameters, for more than about a hundred of them.
    """

    step: float = 0.5
    separable: bool = False
    library: ClassVar[str] = "cma"

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Sample, rank, adapt."""
        import cma

        generator = numpy.random.default_rng(seed)
        strategy = cma.CMAEvolutionStrategy(
            start.reshape(-1).double().numpy(),
            self.step,
            # `seed` NaN: numpy's global generator stays as it is.
            {"verbose": -9, "verb_log": 0, "CMA_diagonal": self.separable, "seed": math.nan, "randn": lambda *shape: generator.standard_normal(shape)},
        )
        while not strategy.stop():
            asked = strategy.ask()
            strategy.tell(asked, evaluate(torch.from_numpy(numpy.stack(asked)).to(start.dtype)).tolist())
