"""One of several choices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax.counts.law import Law


class Categorical(Law):
    """One of K choices, 0 ... K - 1.

    Args:
        logits: `(*shape, K)` log-probabilities up to a constant.
    """

    def __init__(self, logits: Tensor) -> None:
        checks.finite("logits of Categorical", checks.floating("logits of Categorical", logits))
        if logits.dim() < 1 or logits.shape[-1] < 1:
            raise InputError(f"logits of Categorical must have shape (..., K) with K >= 1, got {tuple(logits.shape)}")
        super().__init__(logits=logits[..., 0])
        self.logits = logits

    @classmethod
    def of_probabilities(cls, probabilities: Tensor) -> Categorical:
        """By probabilities, which must be > 0 and add up to 1."""
        total = probabilities.detach().sum(-1)
        if not bool((probabilities > 0).all()) or not bool(((total - 1).abs() < 1e-6).all()):
            worst = float(total.flatten()[(total - 1).abs().argmax()]) if total.numel() else math.nan
            raise InputError(f"probabilities of Categorical must be > 0 and add up to 1, got a smallest of {float(probabilities.min())} and a sum of {worst}")
        return cls(probabilities.log())

    @property
    def mean(self) -> Tensor:
        """sum of k p_k."""
        return (self.probabilities(self.length) * torch.arange(self.length, dtype=torch.float64, device=self.device)).sum(-1).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """sum of k^2 p_k less the squared mean."""
        k = torch.arange(self.length, dtype=torch.float64, device=self.device)
        return ((self.probabilities(self.length) * k.square()).sum(-1) - self.mean.square()).to(self.dtype)

    @property
    def high(self) -> float:
        """K - 1."""
        return self.logits.shape[-1] - 1

    def log_prob(self, k: Tensor) -> Tensor:
        """The log-softmax at k."""
        logp = torch.log_softmax(self.logits.double(), -1)
        inside = (k >= 0) & (k <= self.high)
        index = torch.where(inside, k, torch.zeros_like(k)).long()
        found = logp.expand(*index.shape, logp.shape[-1]).gather(-1, index[..., None])[..., 0]
        return torch.where(inside, found, -torch.inf)
