"""Stochastic rounding as a law."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.relax.counts.law import Law, not_negative


class Rounded(Law):
    """Stochastic rounding of a real quantity: floor(q), or one more with the probability of the remainder. E f(X) interpolates f linearly.

    Args:
        quantity: q >= 0, units.
    """

    def __init__(self, quantity: Tensor) -> None:
        super().__init__(quantity=quantity)
        not_negative("Rounded", "quantity", quantity)
        self.quantity = quantity

    @property
    def mean(self) -> Tensor:
        """q."""
        return self.quantity

    @property
    def variance(self) -> Tensor:
        """r (1 - r), r the remainder."""
        part = self.quantity - self.quantity.detach().floor()
        return part * (1 - part)

    @property
    def high(self) -> Tensor:
        """floor(q) + 1."""
        return self.quantity.detach().floor() + 1

    def log_prob(self, k: Tensor) -> Tensor:
        """log(1 - |k - q|) for the two neighbours."""
        p = (1 - (k - self.quantity.double()).abs()).clamp_min(0)
        return torch.where(p > 0, p.clamp_min(1e-300).log(), -torch.inf)

    def cdf(self, k: Tensor) -> Tensor:
        """k + 1 - q, cut at 0 and 1."""
        return (k + 1 - self.quantity.double()).clamp(0, 1)

    def quantile(self, uniform: Tensor) -> Tensor:
        """floor(q), one more where u > 1 - remainder."""
        q = self.quantity.detach().double()
        return (q.floor() + (uniform > 1 - (q - q.floor()))).to(self.dtype)
