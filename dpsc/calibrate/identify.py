"""What the data can tell at all: the spread of the linearised posterior, and the parameters that nothing is said about.

Everything is in unit-normal coordinates, with J the Jacobian of the observations in standard deviations: the linearised posterior has covariance (I + J'J)^-1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import ShapeError


def laplace_spread(jacobian: Tensor) -> Tensor:
    """`(D,)` standard deviations of the linearised posterior, from J `(observations, D)`; 1 where the data are silent. Computed in float64.

    Raises: ShapeError.
    """
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


def silent(jacobian: Tensor) -> Tensor:
    """`(D,)` bool: parameters with a column of zeros, which no observation depends on to first order."""
    return (jacobian == 0).all(0)
