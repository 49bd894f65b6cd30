"""REBAR: the score function with the relaxed program as control variate.

Source: Tucker et al. (2017), REBAR: low-variance, unbiased gradient estimates for discrete latent variable models, arXiv:1703.07370.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.relax.counts import Bernoulli, Law
from dpsc.relax.estimators.estimator import Program, coupled, evaluate, summed, supported


@dataclass(frozen=True)
class Rebar:
    """Unbiased for gates; three evaluations, two of them of relaxed gates in (0, 1), which the program must accept and be differentiable in.

    Args:
        temperature: of the relaxed gates, > 0.
        strength: of the control variate; 0 is the plain score function.
    """

    temperature: float = 0.5
    strength: float = 1.0
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.positive("temperature", self.temperature)

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """Two a gate."""
        supported(self, law, Bernoulli)
        return (*law.shape, 2)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost, and the estimate."""
        assert isinstance(law, Bernoulli)
        p, logits = law.probability.clamp(1e-12, 1 - 1e-12), torch.logit(law.probability, eps=1e-12)
        u, v = noise[..., 0].to(law.dtype), noise[..., 1].to(law.dtype)
        gate = (u > 1 - p).to(law.dtype).detach()
        # A second draw of the relaxed gate, given the hard one.
        inside = torch.where(gate > 0, 1 - p + v * p, v * (1 - p)).clamp(1e-12, 1 - 1e-12)
        free = torch.sigmoid((logits + torch.logit(u, eps=1e-12)) / self.temperature)
        given = torch.sigmoid((logits + torch.logit(inside)) / self.temperature)
        cost = evaluate(program, law, gate)
        of_free, of_given = evaluate(program, law, free), evaluate(program, law, given)
        together = coupled(cost, gate, law)
        level = (cost - self.strength * of_given).detach()
        score = level * summed(law.log_prob(gate.double()), together)
        return cost.mean(0), (score + self.strength * (of_free - of_given)).mean(0)
