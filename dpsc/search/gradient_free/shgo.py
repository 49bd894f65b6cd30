"""Simplicial homology global optimisation. Source: Endres, Sandrock & Focke (2018), doi:10.1007/s10898-018-0645-y; library scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class SHGO:
    """Sobol points in a box, a triangulation of them, and Nelder-Mead from every point that is lower than its neighbours.

    The triangulation grows exponentially with the number of parameters: it does not survive 40 of them.

    Args:
        points: Sobol points a round.
        rounds: at most.
        local: most evaluations of a local search.
    """

    points: int = 128
    rounds: int = 3
    local: int = 300
    library: ClassVar[str] = "scipy.optimize"

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Sample, triangulate, descend; the Sobol points are those of scipy, not of the seed."""
        from scipy.optimize import shgo

        lower, upper = (b.double().numpy() for b in evaluate.box("SHGO"))
        shgo(
            lambda x: float(evaluate(torch.from_numpy(x).to(start.dtype))),
            list(zip(lower, upper, strict=True)),
            n=self.points,
            iters=self.rounds,
            sampling_method="sobol",
            minimizer_kwargs={"method": "Nelder-Mead", "options": {"maxfev": self.local}},
        )
