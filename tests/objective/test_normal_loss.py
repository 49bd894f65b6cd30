"""The normal loss functions: integration, gradients."""

from __future__ import annotations

import pytest
import torch
from scipy import integrate, stats

from dpsc.objective.normal_loss import normal_loss, normal_second_loss


@pytest.mark.parametrize("level", [-3.0, 4.0, 5.5, 11.0])
def test_losses_by_integration(level: float) -> None:
    law = stats.norm(5, 2)
    x = torch.tensor(level, dtype=torch.float64)
    first = integrate.quad(lambda d: (d - level) * law.pdf(d), level, 25)[0]
    second = integrate.quad(lambda d: 0.5 * (d - level) ** 2 * law.pdf(d), level, 25)[0]
    assert abs(float(normal_loss(x, 5.0, 2.0)) - first) < 1e-8
    assert abs(float(normal_second_loss(x, 5.0, 2.0)) - second) < 1e-8


def test_gradients() -> None:
    x = torch.tensor([1.0, 5.0, 9.0], dtype=torch.float64, requires_grad=True)
    mean, deviation = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.0, 2.0))
    assert torch.autograd.gradcheck(normal_loss, (x, mean, deviation))
    assert torch.autograd.gradcheck(normal_second_loss, (x, mean, deviation))
    (slope,) = torch.autograd.grad(normal_second_loss(x, mean, deviation).sum(), x)
    assert torch.allclose(slope, -normal_loss(x, mean, deviation).detach())  # n2' = -n
