"""DisARM: an antithetic pair of gates, integrated over what the pair leaves open.

Source: Dong, Mnih & Tucker (2020), DisARM: an antithetic gradient estimator for binary latent variables, arXiv:2006.10680.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax.counts import Bernoulli, Law
from dpsc.relax.estimators.estimator import Program, coupled, evaluate, summed, supported


@dataclass(frozen=True)
class DisARM:
    """Unbiased for gates, two evaluations for any number of them, no relaxed values; for a logit phi
    (f(b) - f(b~)) / 2 (-1)^b~ [b != b~] sigmoid(|phi|)."""

    unbiased: ClassVar[bool] = True

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a gate."""
        supported(self, law, Bernoulli)
        return tuple(law.shape)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost of the pair, and the estimate times the logits."""
        assert isinstance(law, Bernoulli)
        p = law.probability
        one, two = (noise > 1 - p).to(law.dtype), (noise < p).to(law.dtype)
        cost = evaluate(program, law, torch.stack([one, two]))
        together = coupled(cost, one[None], law)
        half = (0.5 * (cost[0] - cost[1])).detach()[(..., *[None] * together)]
        sign = (1 - 2 * two) * (one != two) * torch.maximum(p, 1 - p).detach()
        return cost.mean((0, 1)), summed(half * sign * law.logits, together).mean(0)
