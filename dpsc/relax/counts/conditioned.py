"""Laws made of laws: with more zeros, or cut at a largest value."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax.counts.law import Law, share


class ZeroInflated(Law):
    """Nothing with probability pi, else another law: slow movers.

    Args:
        law: what is counted when anything is.
        probability: pi in [0, 1].
    """

    def __init__(self, law: Law, probability: Tensor) -> None:
        super().__init__(probability=probability)
        share("ZeroInflated", "probability", probability)
        self.law, self.probability = law, probability
        self.shape = checks.broadcast({"law": law.shape, "probability": probability.shape})
        if self.shape != law.shape:
            raise InputError(f"probability of ZeroInflated must broadcast to the shape of its law, {tuple(law.shape)}, got {tuple(probability.shape)}")

    @property
    def mean(self) -> Tensor:
        """(1 - pi) mu."""
        return (1 - self.probability) * self.law.mean

    @property
    def variance(self) -> Tensor:
        """(1 - pi) (v + pi mu^2)."""
        return (1 - self.probability) * (self.law.variance + self.probability * self.law.mean.square())

    @property
    def high(self) -> Tensor | float:
        """That of the law."""
        return self.law.high

    def log_prob(self, k: Tensor) -> Tensor:
        """log(pi [k = 0] + (1 - pi) p(k))."""
        pi = self.probability.double()
        p = (1 - pi) * self.law.log_prob(k).exp() + torch.where(k == 0, pi, torch.zeros_like(pi))
        return torch.where(p > 0, p.clamp_min(1e-300).log(), -torch.inf)


class Truncated(Law):
    """Another law, known to be at most `high`: capacity of a shelf, cap of a table.

    Args:
        law: to condition.
        high: largest value, whole, >= 0.
    """

    def __init__(self, law: Law, high: int) -> None:
        self.law, self._high = law, checks.at_least("high of Truncated", high, 0)
        self.shape, self.dtype, self.device = law.shape, law.dtype, law.device
        inside = law.probabilities(high + 1).sum(-1)
        if inside.numel() and float(inside.detach().min()) < 1e-250:
            raise InputError(f"Truncated at {high} keeps nothing of its law, whose mean reaches {float(law.mean.detach().max()):.3g}")
        self._log_mass = inside.log()

    @property
    def mean(self) -> Tensor:
        """sum of k p_k."""
        return (self.probabilities(self._high + 1) * torch.arange(self._high + 1, dtype=torch.float64, device=self.device)).sum(-1).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """sum of k^2 p_k less the squared mean."""
        k = torch.arange(self._high + 1, dtype=torch.float64, device=self.device)
        return ((self.probabilities(self._high + 1) * k.square()).sum(-1) - self.mean.double().square()).to(self.dtype)

    @property
    def high(self) -> float:
        """The cut."""
        return self._high

    def log_prob(self, k: Tensor) -> Tensor:
        """log p(k) - log F(high)."""
        return torch.where(k > self._high, -torch.inf, self.law.log_prob(k) - self._log_mass)
