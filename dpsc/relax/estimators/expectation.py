"""Exact expectation: do not sample what can be summed.

Source: summation; with more gates than can be enumerated, the local expectation of Titsias & Lazaro-Gredilla (2015), Local expectation gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.relax.counts import Law
from dpsc.relax.estimators.estimator import Program, coupled, evaluate, one_by_one, summed


@dataclass(frozen=True)
class ExactExpectation:
    """Unbiased, without noise as long as all combinations of the coupled counts fit into `combinations`; beyond, each count is summed over its values
    while the others are sampled.

    Args:
        combinations: how many evaluations one problem may take.
    """

    combinations: int = 4096
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.at_least("combinations", self.combinations, 1)

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a count; not looked at where everything is enumerated."""
        return tuple(law.shape)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost and its own gradient, or the sampled mean and the local expectations."""
        x = law.quantile(noise)
        with torch.no_grad():
            together = coupled(evaluate(program, law, x[:1]), x[:1], law)
        inner = law.shape[len(law.shape) - together :]
        counts, values = math.prod(inner), law.length
        if values**counts <= self.combinations:
            grid = torch.cartesian_prod(*[torch.arange(values, dtype=law.dtype, device=noise.device)] * counts).reshape(-1, counts)
            every = grid.reshape(-1, *[1] * (len(law.shape) - together), *inner).expand(-1, *law.shape)
            cost = evaluate(program, law, every)
            log_probability = summed(law.log_prob(every.double()), together)
            mean = (log_probability.exp() * cost).sum(0)
            return mean.detach(), mean
        cost = evaluate(program, law, x)
        unit = one_by_one(x, together)  # (C, S, *shape)
        ladder = torch.arange(values, dtype=x.dtype, device=x.device).reshape(-1, *[1] * unit.dim())
        with torch.no_grad():
            each = evaluate(program, law, torch.where(unit.bool(), ladder, x))  # (V, C, S, *batch)
        each = each.movedim(1, -1).reshape(values, *x.shape)
        probability = law.probabilities(values).movedim(-1, 0)[:, None]
        return cost.mean(0), summed((each * probability).sum(0), together).mean(0)
