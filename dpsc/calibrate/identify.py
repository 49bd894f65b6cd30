"""What the data can tell at all: the linearised posterior, the effective number of parameters, and the parameters that nothing is said about.

Everything is in unit-normal coordinates, with J the Jacobian of the observations in standard deviations: the linearised posterior has covariance (I + J'J)^-1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Product = Callable[[Tensor], Tensor]


def laplace_spread(jacobian: Tensor) -> Tensor:
    """`(D,)` standard deviations of the linearised posterior, from J `(observations, D)`; 1 where the data are silent. Computed in float64."""
    if jacobian.dim() != 2:
        raise ShapeError(f"jacobian must have shape (observations, D), got {tuple(jacobian.shape)}")
    j = jacobian.double()
    checks.finite("jacobian", j)
    rows, parameters = j.shape
    if rows >= parameters:
        inverse = torch.linalg.inv(torch.eye(parameters, dtype=j.dtype, device=j.device) + j.mT @ j)
        return inverse.diagonal().sqrt().to(jacobian.dtype)
    # (I + J'J)^-1 = I - J' (I + J J')^-1 J: only as large as the data
    factor = torch.linalg.cholesky(torch.eye(rows, dtype=j.dtype, device=j.device) + j @ j.mT)
    return (1 - torch.linalg.solve_triangular(factor, j, upper=False).square().sum(0)).clamp_min(0).sqrt().to(jacobian.dtype)


def effective_from_jacobian(jacobian: Tensor) -> float:
    """Effective number of parameters, sum s^2 / (1 + s^2) over the singular values of J `(observations, D)`."""
    s = torch.linalg.svdvals(jacobian.double())
    return float((s**2 / (1 + s**2)).sum())


def silent(jacobian: Tensor) -> Tensor:
    """`(D,)` bool: parameters with a column of zeros, which no observation depends on to first order."""
    return (jacobian == 0).all(0)


@dataclass(frozen=True)
class Effective:
    """Effective number of parameters, its standard error over probes, and the products spent (one J'w or Jv each)."""

    number: float
    standard_error: float
    evaluations: int


def effective_parameters(
    forward: Product, backward: Product, *, observations: int, probes: int = 1, depth: int = 40, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Effective:
    """Effective number of parameters without a Jacobian: tr J J' (I + J J')^-1 by stochastic Lanczos quadrature.

    Each probe is a random sign vector w; `depth` steps of Lanczos with full reorthogonalisation turn w' f(J J') w into a Gauss quadrature. A product with
    J J' costs two evaluations. The error has two parts: quadrature (falls with `depth`) and probes (falls with the square root of their number; the standard
    error reported is theirs alone). Too shallow a quadrature errs upwards: singular values over six decades need a depth of about half the observations for
    a few per cent, and then a Jacobian row by row costs no more and has no error.

    Args:
        forward: J v: `(D,)` -> `(observations,)`.
        backward: J' w: `(observations,)` -> `(D,)`.
        observations: how many, zero rows included.
        probes: how many.
        depth: Lanczos steps a probe; 2 x depth evaluations.
        seed: of the probes.
        dtype: of the probes.
    Source: Ubaru, Chen & Saad (2017), doi:10.1137/16M1104974.
    """
    checks.at_least("observations", observations, 1)
    checks.at_least("probes", probes, 1)
    checks.at_least("depth", depth, 1)
    generator = torch.Generator().manual_seed(seed)
    values, spent = [], 0
    for _ in range(probes):
        w = torch.randint(0, 2, (observations,), generator=generator).to(dtype) * 2 - 1
        basis, alpha, beta = [w / math.sqrt(observations)], [], []
        for step in range(min(depth, observations)):
            image = forward(backward(basis[-1])).to(dtype)
            spent += 2
            alpha.append(float(image @ basis[-1]))
            for _ in range(2):  # twice is enough
                stacked = torch.stack(basis)
                image = image - stacked.mT @ (stacked @ image)
            length = float(image.norm())
            if step + 1 == min(depth, observations) or length <= 1e-12 * max(abs(a) for a in alpha):
                break
            beta.append(length)
            basis.append(image / length)
        ritz, vectors = torch.linalg.eigh(_tridiagonal(alpha, beta, dtype))
        ritz = ritz.clamp_min(0)
        values.append(observations * float((vectors[0].square() * ritz / (1 + ritz)).sum()))
    number = sum(values) / probes
    spread = math.sqrt(sum((v - number) ** 2 for v in values) / (probes - 1) / probes) if probes > 1 else float("nan")
    if not math.isfinite(number):
        raise InputError(f"the products with the Jacobian must be finite, got an effective number of {number}")
    return Effective(number, spread, spent)


def _tridiagonal(alpha: list[float], beta: list[float], dtype: torch.dtype) -> Tensor:
    matrix = torch.diag(torch.tensor(alpha, dtype=dtype))
    off = torch.tensor(beta[: len(alpha) - 1], dtype=dtype)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)
