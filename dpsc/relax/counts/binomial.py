"""Successes in a number of trials, and the gate, which is one trial."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax.counts.law import Law, not_negative, share


class Binomial(Law):
    """n trials that succeed with probability p each; dE f(X) / dp = E[(f(X + 1) - f(X)) (n - X) / (1 - p)].

    Args:
        total_count: n, whole, >= 0; not trained.
        probability: p in [0, 1].
    """

    def __init__(self, total_count: Tensor, probability: Tensor) -> None:
        super().__init__(probability=probability, total_count=total_count)
        not_negative("Binomial", "total_count", total_count)
        if not torch.equal(total_count, total_count.round()):
            raise InputError("total_count of Binomial must be whole numbers")
        share("Binomial", "probability", probability)
        self.total_count, self.probability = total_count.detach().expand(self.shape), probability.expand(self.shape)

    @property
    def mean(self) -> Tensor:
        """n p."""
        return self.total_count * self.probability

    @property
    def variance(self) -> Tensor:
        """n p (1 - p)."""
        return self.total_count * self.probability * (1 - self.probability)

    @property
    def high(self) -> Tensor:
        """n."""
        return self.total_count

    def log_prob(self, k: Tensor) -> Tensor:
        """log C(n, k) + k log p + (n - k) log(1 - p)."""
        n, p = self.total_count.double(), self.probability.double()
        inside = (k >= 0) & (k <= n)
        at = torch.where(inside, k.double(), torch.zeros_like(n))
        ways = torch.lgamma(n + 1) - torch.lgamma(at + 1) - torch.lgamma(n - at + 1)
        return torch.where(inside, ways + torch.xlogy(at, p) + torch.special.xlog1py(n - at, -p), -torch.inf)

    def weight(self, x: Tensor) -> Tensor:
        """w = (n - x) / (1 - p)."""
        p = self.probability.double()
        return (self.total_count - x) / (1 - p.detach()).clamp_min(1e-300) * p


class Bernoulli(Binomial):
    """A gate: 1 with probability p, else 0.

    Args:
        probability: p in [0, 1].
    """

    def __init__(self, probability: Tensor) -> None:
        super().__init__(torch.ones_like(probability.detach()), probability)

    @classmethod
    def of_logits(cls, logits: Tensor) -> Bernoulli:
        """p = sigmoid(logits)."""
        return cls(torch.sigmoid(logits))

    @property
    def logits(self) -> Tensor:
        """log p - log(1 - p)."""
        return torch.logit(self.probability)
