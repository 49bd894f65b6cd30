"""The small posterior: exact where the model is linear, honest about a bad proposal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.scenarios import posterior

DESIGN = torch.tensor([[1.0, 0.2, 0.0], [0.5, -1.0, 0.3], [0.0, 0.7, 0.1], [1.0, 1.0, 1.0]], dtype=torch.float64)
SEEN = torch.tensor([0.9, -0.2, 0.4, 1.6], dtype=torch.float64)


def linear(u: Tensor) -> Tensor:
    return DESIGN @ u


def test_the_mode_is_where_the_slope_vanishes() -> None:
    prior = posterior.Noise(3.0, 0.02)
    found = posterior.mode(linear, SEEN, noise_prior=prior, start=torch.zeros(3, dtype=torch.float64), tolerance=1e-14)
    u = found.u[:, None].clone().requires_grad_()
    (slope,) = torch.autograd.grad(posterior.energy(u, linear(u) - SEEN[:, None], prior).sum(), u)
    assert float(slope.abs().max()) < 1e-5
    assert found.evaluations > 0


def test_draws_match_the_exact_posterior_of_a_linear_model() -> None:
    # A variance that is as good as known: shape and scale large; then the posterior is normal with the textbook mean and covariance.
    variance = 0.05
    prior = posterior.Noise(1e6, variance * 1e6)
    found = posterior.mode(linear, SEEN, noise_prior=prior, start=torch.zeros(3, dtype=torch.float64), tolerance=1e-12)
    covariance = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + DESIGN.T @ DESIGN / variance)
    mean = covariance @ DESIGN.T @ SEEN / variance
    assert torch.allclose(found.u, mean, atol=1e-5)
    sample = posterior.draw(linear, SEEN, found, noise_prior=prior, proposals=20_000, draws=10_000, seed=1)
    assert sample.effective > 0.5 * 20_000
    assert torch.allclose(sample.u.mean(1), mean, atol=0.02)
    assert torch.allclose(torch.cov(sample.u), covariance, atol=0.02)
    assert torch.allclose(sample.sigma.square().mean(), torch.tensor(variance, dtype=torch.float64), rtol=1e-2)


def test_the_variance_is_learned() -> None:
    prior = posterior.Noise(2.0, 0.01)
    found = posterior.mode(linear, SEEN, noise_prior=prior, start=torch.zeros(3, dtype=torch.float64))
    sample = posterior.draw(linear, SEEN, found, noise_prior=prior, proposals=4000, draws=4000, seed=2)
    # Against the same integral on a grid of the noise: E[sigma^2 | u] = (b + SS/2) / (a + K/2 - 1), averaged over the draws.
    rate = prior.scale + 0.5 * (linear(sample.u) - SEEN[:, None]).square().sum(0)
    assert abs(float(sample.sigma.square().mean() / (rate / (prior.shape + 2 - 1)).mean()) - 1) < 0.1


def test_a_model_without_finite_values_is_refused() -> None:
    prior = posterior.Noise(2.0, 0.01)
    with pytest.raises(InputError, match=r"model minus observations must be finite"):
        posterior.mode(lambda u: DESIGN @ u / 0, SEEN, noise_prior=prior, start=torch.zeros(3, dtype=torch.float64))
    found = posterior.mode(linear, SEEN, noise_prior=prior, start=torch.zeros(3, dtype=torch.float64))
    with pytest.raises(InputError, match=r"finite for a proposal at least, got none of 10"):
        posterior.draw(lambda u: DESIGN @ u * torch.nan, SEEN, found, noise_prior=prior, proposals=10, draws=5, seed=0)


def test_variational_inference_sees_the_same_posterior() -> None:
    prior = posterior.Noise(3.0, 0.05)
    seen = posterior.Seen(SEEN, prior)
    u = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = posterior.energy(u, linear(u) - SEEN[:, None], prior)
    assert torch.allclose(seen.misfit(linear(u)[:, None]) + 0.5 * u.square().sum(0), whole)
