"""What the data can tell: against dense linear algebra."""

from __future__ import annotations

import math

import pytest
import torch

from dpsc.calibrate import effective_from_jacobian, effective_parameters, laplace_spread, silent
from dpsc.errors import InputError, ShapeError
from tests.calibrate.linear import NOISE, D, data, matrix, posterior

J = matrix() / NOISE


@pytest.mark.parametrize("rows", [3, 10], ids=["fewer data than parameters", "more data"])
def test_linearised_spread_is_that_of_the_exact_posterior(rows: int) -> None:
    j = J[:rows]
    expected = torch.linalg.inv(torch.eye(D, dtype=torch.float64) + j.mT @ j).diagonal().sqrt()
    torch.testing.assert_close(laplace_spread(j), expected, atol=1e-12, rtol=0)
    if rows == 10:
        torch.testing.assert_close(laplace_spread(j), posterior(data(0)[1])[1].diagonal().sqrt(), atol=1e-12, rtol=0)
    assert silent(j).tolist() == [False] * (D - 1) + [True]


def test_effective_number_is_the_trace_of_the_resolution() -> None:
    resolution = torch.linalg.solve(torch.eye(D, dtype=torch.float64) + J.mT @ J, J.mT @ J)
    assert effective_from_jacobian(J) == pytest.approx(float(resolution.trace()))
    assert effective_from_jacobian(J) < D - 1


def test_lanczos_at_full_depth_has_no_error_but_that_of_its_probes() -> None:
    """Averaged over every one of the sign vectors the estimate is exact; a single one is exact for a diagonal J J'."""
    scales = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0], dtype=torch.float64)
    found = effective_parameters(lambda v: scales * v, lambda w: scales * w, observations=5, depth=5)
    assert found.number == pytest.approx(float((scales**2 / (1 + scales**2)).sum()), abs=1e-9)
    assert found.evaluations == 10
    assert math.isnan(found.standard_error)


def test_lanczos_is_unbiased_and_knows_its_error() -> None:
    found = effective_parameters(lambda v: J @ v, lambda w: J.mT @ w, observations=len(J), probes=200, depth=len(J), seed=1)
    assert abs(found.number - effective_from_jacobian(J)) < 4 * found.standard_error
    assert 0 < found.standard_error < 0.2
    assert found.evaluations <= 200 * 2 * len(J)


def test_error_texts() -> None:
    with pytest.raises(ShapeError, match=r"jacobian must have shape \(observations, D\), got \(3,\)"):
        laplace_spread(torch.zeros(3))
    with pytest.raises(InputError, match="depth must be an integer >= 1, got 0"):
        effective_parameters(lambda v: v, lambda w: w, observations=3, depth=0)
