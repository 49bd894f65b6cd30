"""The newsvendor's expected cost, for every whole order at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError


def poisson_pmf(mean: Tensor, largest: int) -> Tensor:
    """Poisson probabilities of 0 ... K, cut at K and renormalised.

    Args:
        mean: `(...)` > 0, units.
        largest: K >= 0.
    Returns: `(..., K + 1)`, rows that add up to 1.
    Gradient: exact in `mean`.
    Raises: InputError for a mean that is not positive and finite, or so far above K that nothing is left.
    """
    checks.floating("mean", mean)
    checks.finite("mean", mean)
    if mean.numel() and float(mean.min()) <= 0:
        raise InputError(f"mean must be > 0, got {float(mean.min())}")
    k = torch.arange(checks.at_least("largest", largest, 0) + 1, dtype=mean.dtype, device=mean.device)
    return torch.softmax(k * mean[..., None].log() - torch.lgamma(k + 1), -1)  # the renormalised exponential, without overflow


def newsvendor_table(mean: Tensor, holding_cost: Tensor, stockout_cost: Tensor, *, largest: int) -> Tensor:
    """Expected cost of every order 0 ... K against Poisson demand cut at K.

    G(q) = h E[q - D]^+ + b E[D - q]^+, by G(q + 1) - G(q) = (h + b) F(q) - b from G(0) = b E D.

    Args:
        mean: `(...)` of the demand, units a period, > 0.
        holding_cost: `(...)` h, money a unit left over, >= 0.
        stockout_cost: `(...)` b, money a unit short, >= 0.
        largest: K, the largest order and the largest demand, units.
    Returns: `(..., K + 1)` money, convex in q.
    Gradient: exact in all three.
    Raises: InputError.
    """
    for name, value in (("holding_cost", holding_cost), ("stockout_cost", stockout_cost)):
        checks.finite(name, checks.floating(name, value))
        if value.numel() and float(value.min()) < 0:
            raise InputError(f"{name} must be >= 0, got {float(value.min())}")
    pmf = poisson_pmf(mean, largest)
    k = torch.arange(largest + 1, dtype=pmf.dtype, device=pmf.device)
    below = pmf.cumsum(-1).cumsum(-1)
    left = torch.cat([torch.zeros_like(below[..., :1]), below[..., :-1]], -1)  # E[q - D]^+ = sum of F below q
    return holding_cost[..., None] * left + stockout_cost[..., None] * ((pmf * k).sum(-1, keepdim=True) - k + left)


def interpolated(table: Tensor, quantity: Tensor) -> Tensor:
    """A table of costs read between its whole quantities: linear interpolation.

    Args:
        table: `(..., K + 1)` cost of 0 ... K.
        quantity: `(...)` q in [0, K]; cut there.
    Returns: `(...)`.
    Gradient: the slope of the piece to the right of q, in `quantity` (zero beyond the ends); linear in `table`.
    Source: this is also E table[floor(q) + Bernoulli(q - floor(q))], the expectation under stochastic rounding.
    """
    result: Tensor = _Interpolated.apply(table, quantity)
    return result


class _Interpolated(torch.autograd.Function):
    """Two gathers forward, no scatter backward unless the table asks for it."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, quantity: Tensor) -> Tensor:
        last = table.shape[-1] - 1
        inside = quantity.clamp(0, last)
        low = inside.floor().clamp_max(max(last - 1, 0))
        index = low.long()[..., None]
        left = table.gather(-1, index)[..., 0]
        right = table.gather(-1, (index + 1).clamp_max(last))[..., 0]
        part = inside - low
        slope = right - left
        ctx.save_for_backward(slope * (quantity == inside), index, part)
        ctx.shape = table.shape
        return left + part * slope

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        slope, index, part = ctx.saved_tensors
        of_table = None
        if ctx.needs_input_grad[0]:
            of_table = torch.zeros(ctx.shape, dtype=grad.dtype, device=grad.device)
            of_table.scatter_add_(-1, index, (grad * (1 - part))[..., None])
            of_table.scatter_add_(-1, (index + 1).clamp_max(ctx.shape[-1] - 1), (grad * part)[..., None])
        return of_table, grad * slope
