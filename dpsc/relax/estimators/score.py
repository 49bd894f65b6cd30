"""The score function: d E f(X) = E[f(X) d log p(X)], with the mean of the other samples as baseline.

Source: Williams (1992), doi:10.1007/BF00992696; leave-one-out baseline: Kool, van Hoof & Welling (2019), Buy 4 REINFORCE samples, get a baseline for free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax.counts import Law
from dpsc.relax.estimators.estimator import Program, coupled, evaluate, summed


@dataclass(frozen=True)
class Score:
    """Unbiased for every law, no further evaluation, whatever the program; its noise grows with the level of the cost and the number of counts.

    Args:
        leave_one_out: subtract the mean cost of the other samples (needs S >= 2).
    """

    leave_one_out: bool = True
    unbiased: ClassVar[bool] = True

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a count."""
        return tuple(law.shape)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost, and the centred costs times log p."""
        samples = noise.shape[0]
        if self.leave_one_out and samples < 2:
            raise InputError("Score with leave_one_out needs at least 2 samples, got 1; pass leave_one_out=False")
        x = law.quantile(noise)
        cost = evaluate(program, law, x)
        level = cost.detach()
        if self.leave_one_out:
            level = (level - level.mean(0)) * (samples / (samples - 1))
        return cost.mean(0), (level * summed(law.log_prob(x.double()), coupled(cost, x, law))).mean(0)
