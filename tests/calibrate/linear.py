"""A linear simulator with normal errors, whose posterior is known exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.calibrate import Observations
from dpsc.relax import Exact
from dpsc.types import Relaxation

D, T, K, NOISE = 6, 5, 2, 0.4


def matrix(seed: int = 0) -> Tensor:
    """`(T K, D)`; the last coordinate has no influence at all."""
    a = torch.randn(T * K, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a[:, -1] = 0
    return a


def simulate(coordinates: Tensor, *, relax: Relaxation) -> Tensor:
    return (matrix() @ coordinates).view(T, K, -1)


def data(seed: int) -> tuple[Tensor, Observations]:
    """Truth `(D,)` from the prior and what was seen."""
    generator = torch.Generator().manual_seed(1000 + seed)
    truth = torch.randn(D, generator=generator, dtype=torch.float64)
    clean = simulate(truth[:, None], relax=Exact())[..., 0]
    return truth, Observations(clean + NOISE * torch.randn(T, K, generator=generator, dtype=torch.float64), NOISE)


def posterior(observations: Observations) -> tuple[Tensor, Tensor]:
    """Exact mean `(D,)` and covariance `(D, D)`."""
    a = matrix()
    covariance = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + a.mT @ a / NOISE**2)
    return covariance @ a.mT @ observations.values.reshape(-1) / NOISE**2, covariance
