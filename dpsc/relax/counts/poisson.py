"""Poisson and its gamma mixture, the negative binomial."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax.counts.law import Law, not_negative


class Poisson(Law):
    """exp(-lambda) lambda^k / k!; dE f(X) / dlambda = E[f(X + 1) - f(X)].

    Args:
        rate: lambda >= 0, units a period.
    """

    def __init__(self, rate: Tensor) -> None:
        super().__init__(rate=rate)
        not_negative("Poisson", "rate", rate)
        self.rate = rate

    @property
    def mean(self) -> Tensor:
        """lambda."""
        return self.rate

    @property
    def variance(self) -> Tensor:
        """lambda."""
        return self.rate

    def log_prob(self, k: Tensor) -> Tensor:
        """k log lambda - lambda - log k!."""
        rate = self.rate.double()
        return torch.where(k < 0, -torch.inf, torch.xlogy(k.clamp_min(0), rate) - rate - torch.lgamma(k.clamp_min(0).double() + 1))

    def weight(self, x: Tensor) -> Tensor:
        """w = 1."""
        return self.rate.double().expand(x.shape)


class NegativeBinomial(Law):
    """A Poisson whose rate is gamma-distributed: variance mu + mu^2 / r. In its mean, dE f(X) / dmu = E[(f(X + 1) - f(X)) (X + r) / (r + mu)].

    Args:
        mean: mu >= 0, units a period.
        dispersion: r > 0; the smaller, the wilder (r to infinity is Poisson).
    """

    def __init__(self, mean: Tensor, dispersion: Tensor) -> None:
        super().__init__(mean=mean, dispersion=dispersion)
        not_negative("NegativeBinomial", "mean", mean)
        if dispersion.numel() and float(dispersion.detach().min()) <= 0:
            raise InputError(f"dispersion of NegativeBinomial must be > 0, got {float(dispersion.detach().min())}")
        self._mean, self.dispersion = mean.expand(self.shape), dispersion.expand(self.shape)

    @classmethod
    def of_variance(cls, mean: Tensor, variance: Tensor) -> NegativeBinomial:
        """By mean and variance, which must be larger."""
        if not bool((variance > mean).all()):
            raise InputError("variance of NegativeBinomial must be > mean everywhere; use Poisson where they are equal")
        return cls(mean, mean.square() / (variance - mean))

    @property
    def mean(self) -> Tensor:
        """mu."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """mu + mu^2 / r."""
        return self._mean + self._mean.square() / self.dispersion

    def log_prob(self, k: Tensor) -> Tensor:
        """log of Gamma(k + r) / (Gamma(r) k!) (r / (r + mu))^r (mu / (r + mu))^k."""
        mean, r, at = self._mean.double(), self.dispersion.double(), k.clamp_min(0).double()
        value = torch.lgamma(at + r) - torch.lgamma(r) - torch.lgamma(at + 1) - r * torch.log1p(mean / r) + torch.xlogy(at, mean / (r + mean))
        return torch.where(k < 0, -torch.inf, value)

    def weight(self, x: Tensor) -> Tensor:
        """w = (x + r) / (r + mu) for the mean; by the distribution function if the dispersion is trained as well."""
        if self.dispersion.requires_grad:
            return super().weight(x)
        mean, r = self._mean.double(), self.dispersion.double()
        return (x + r) / (r + mean.detach()) * mean
