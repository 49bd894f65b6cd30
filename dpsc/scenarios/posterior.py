"""A posterior for a few parameters and a few observations: Gauss-Newton to the mode, then draws around it, weighted to the exact posterior.

Letters: P parameters in unit-normal coordinates u, K observations, B particles (innermost).

    y = model(u) + e,   e_k ~ N(0, sigma^2),   u ~ N(0, I),   sigma^2 ~ inverse gamma(a, b)

sigma is integrated out: -log posterior(u) = |u|^2 / 2 + (a + K/2) log(b + |y - model(u)|^2 / 2). Its mode is found by Gauss-Newton steps on re-weighted
squares with Levenberg's damping; draws come from Student's t with 5 degrees of freedom around it, and carry the weight posterior / proposal. The weights are
the diagnostic: few effective draws mean that the shape around the mode is a bad guess of the posterior.
Source: Geweke (1989), Econometrica 57: 1317-1339 (importance sampling with t proposals); conjugacy of the inverse gamma is textbook.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError

Model = Callable[[Tensor], Tensor]
"""Parameters `(P, B)` -> observables `(K, B)`; every column on its own."""

DEGREES = 5.0
DAMPINGS = (0.03, 0.3, 1.0, 10.0, 100.0)


class Noise(NamedTuple):
    """The prior of the variance of the observations: inverse gamma, shape a, scale b (mean b / (a - 1))."""

    shape: float
    scale: float


class Mode(NamedTuple):
    """u `(P,)`; the curvature `(P, P)` of -log posterior by Gauss-Newton; -log posterior; residuals model - y `(K,)`; evaluations of one column each."""

    u: Tensor
    curvature: Tensor
    value: float
    residual: Tensor
    evaluations: int


class Draws(NamedTuple):
    """u `(P, B)`, equally weighted; sigma `(B,)`; the effective number of draws before resampling; evaluations."""

    u: Tensor
    sigma: Tensor
    effective: float
    evaluations: int


def mode(model: Model, observed: Tensor, *, noise_prior: Noise, start: Tensor, steps: int = 40, tolerance: float = 1e-6) -> Mode:
    """The most probable parameters.

    Args:
        model: differentiable by reverse mode.
        observed: `(K,)` y.
        noise_prior: of the variance.
        start: `(P,)`.
        steps: at most.
        tolerance: stop when a step gains less than this.
    Raises: InputError where the model is not finite at the start.
    """
    checks.at_least("steps", steps, 1)
    u, count, parameters = start.clone(), len(observed), len(start)
    damping, used = 1.0, 0
    value, residual = torch.inf, observed.new_zeros(count)
    for _ in range(steps):
        residual, jacobian = _linearise(model, u, observed)
        used += 2 * count
        checks.finite("model minus observations", residual)
        value = float(energy(u[:, None], residual[:, None], noise_prior))
        precision = (noise_prior.shape + count / 2) / (noise_prior.scale + 0.5 * residual @ residual)
        curvature = torch.eye(parameters, dtype=u.dtype) + precision * jacobian.T @ jacobian
        slope = u + precision * jacobian.T @ residual
        tries = torch.stack([u - torch.linalg.solve(curvature + damping * scale * torch.diag(curvature.diag()), slope) for scale in DAMPINGS], 1)
        with torch.no_grad():
            values = energy(tries, model(tries) - observed[:, None], noise_prior).nan_to_num(nan=torch.inf)
        used += len(DAMPINGS)
        best = int(values.argmin())
        gain = value - float(values[best])
        if gain > 0:
            u = tries[:, best]
            damping = min(max(damping * DAMPINGS[best] * 0.3, 1e-8), 1e8)
        if gain < tolerance:
            break
    residual, jacobian = _linearise(model, u, observed)
    precision = (noise_prior.shape + count / 2) / (noise_prior.scale + 0.5 * residual @ residual)
    curvature = torch.eye(parameters, dtype=u.dtype) + precision * jacobian.T @ jacobian
    return Mode(u, curvature, float(energy(u[:, None], residual[:, None], noise_prior)), residual, used + 2 * count)


def draw(model: Model, observed: Tensor, found: Mode, *, noise_prior: Noise, proposals: int, draws: int, seed: int, widen: float = 1.2) -> Draws:
    """Draws of the posterior: t proposals around the mode, weighted, resampled systematically; then sigma given each.

    Args:
        model: see `mode`.
        observed: `(K,)`.
        found: by `mode`.
        noise_prior: of the variance.
        proposals: evaluated.
        draws: returned.
        seed: of the draws.
        widen: factor of the standard deviations of the proposal over those of the curvature.
    """
    parameters = len(found.u)
    index = torch.arange(checks.at_least("proposals", proposals, 2))
    z = noise.normal(seed, "proposals", torch.arange(parameters)[:, None], index)
    mixed = noise.normal(seed, "scale of proposals", torch.arange(int(DEGREES))[:, None], index).square().sum(0)  # chi square, 5 degrees
    scale = widen * torch.linalg.inv(torch.linalg.cholesky(found.curvature)).T  # scale scale' = widen^2 curvature^-1
    standard = z * (DEGREES / mixed).sqrt()
    u = found.u[:, None] + scale @ standard
    with torch.no_grad():
        residual = model(u) - observed[:, None]
    log_proposal = -0.5 * (DEGREES + parameters) * torch.log1p(standard.square().sum(0) / DEGREES)
    log_weight = -energy(u, residual, noise_prior) - log_proposal
    log_weight = torch.where(torch.isfinite(residual).all(0), log_weight, log_weight.new_full((), -torch.inf))
    if not bool(torch.isfinite(log_weight).any()):
        raise InputError(f"the model must be finite for a proposal at least, got none of {proposals}")
    weight = torch.softmax(log_weight, 0)
    effective = float(1 / weight.square().sum())
    at = (torch.arange(draws, dtype=z.dtype) + noise.uniform(seed, "resampling", torch.zeros(1, dtype=torch.int64))) / draws
    chosen = torch.searchsorted(weight.cumsum(0), at).clamp_max(proposals - 1)
    chosen = chosen[noise.uniform(seed, "order of draws", torch.arange(draws)).argsort()]
    shape = noise_prior.shape + len(observed) / 2
    rate = noise_prior.scale + 0.5 * residual[:, chosen].square().sum(0)
    generator = torch.Generator().manual_seed(seed)
    gamma = torch._standard_gamma(torch.full((draws,), shape, dtype=z.dtype), generator=generator)
    return Draws(u[:, chosen], (rate / gamma).sqrt(), effective, proposals)


class Seen:
    """The observations as `dpsc.calibrate.infer` wants them: their misfit is -log likelihood with the variance integrated out.

    Args:
        observed: `(K,)` y.
        noise_prior: of the variance.
    """

    def __init__(self, observed: Tensor, noise_prior: Noise) -> None:
        self.observed, self.noise_prior = observed, noise_prior

    def misfit(self, series: Tensor) -> Tensor:
        """`(K, 1, B)` series of the model -> `(B,)`."""
        residual = series[:, 0] - self.observed[:, None]
        return (self.noise_prior.shape + len(residual) / 2) * torch.log(self.noise_prior.scale + 0.5 * residual.square().sum(0))


def energy(u: Tensor, residual: Tensor, noise_prior: Noise) -> Tensor:
    """-log posterior up to a constant, `(P, B)` and `(K, B)` -> `(B,)`."""
    return 0.5 * u.square().sum(0) + (noise_prior.shape + len(residual) / 2) * torch.log(noise_prior.scale + 0.5 * residual.square().sum(0))


def _linearise(model: Model, u: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals and the exact Jacobian `(K, P)`: K copies of u in one run, copy k differentiated through observation k."""
    copies = u[:, None].expand(-1, len(observed)).clone().requires_grad_()
    with torch.enable_grad():
        values = model(copies)
        (jacobian,) = torch.autograd.grad(values.diagonal().sum(), copies)
    return (values[:, 0] - observed).detach(), jacobian.T
