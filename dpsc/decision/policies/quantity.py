"""What policies are made of: trained quantities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.errors import InputError
from dpsc.relax import round
from dpsc.types import Relaxation, StockState

SMALLEST = 1e-3  # in scales: a softplus that starts at zero could never leave it


class Quantity(nn.Module):
    """A trained number of units (or periods) an item.

    quantity = scale softplus(raw) >= 0, or scale raw where it may be negative; then rounded. The parameter `raw` is unconstrained and of order one,
    whatever the item sells.

    Args:
        name: for messages.
        start: `(..., N)` to begin with, units.
        scale: `(N,)` or a number > 0, units: a mean demand, say. It is also what temperature 1 means to the rounding.
        signed: whether the quantity may be negative (a reorder point).
        whole: whether it is rounded to whole units.
    Raises: InputError for a start that is negative without `signed`, or not finite, or a scale that is not > 0. Starts below .001 scales are lifted to that.
    """

    scale: Tensor

    def __init__(self, name: str, start: Tensor, scale: Tensor | float = 1.0, *, signed: bool = False, whole: bool = True) -> None:
        super().__init__()
        checks.finite(name, checks.floating(name, start))
        units = torch.as_tensor(scale, dtype=start.dtype, device=start.device)
        checks.finite(f"the scale of {name}", units)
        if not bool((units > 0).all()):
            raise InputError(f"the scale of {name} must be > 0, got {units.amin().item()}")
        if not signed and bool((start < 0).any()):
            raise InputError(f"{name} must be >= 0, got {start.amin().item()}")
        self.name, self.signed, self.whole = name, signed, whole
        self.register_buffer("scale", units.detach().clone())
        ratio = start / units
        if not signed:
            ratio = ratio.clamp_min(SMALLEST)
            ratio = ratio + torch.log(-torch.expm1(-ratio))  # the inverse of softplus
        self.raw = nn.Parameter(ratio.detach().clone())

    def forward(self, *, relax: Relaxation) -> Tensor:
        """`(..., 1, N)`, ready to meet futures."""
        value = self.scale * (self.raw if self.signed else nn.functional.softplus(self.raw))
        return (round(value, relax=relax, scale=self.scale) if self.whole else value)[..., None, :]


def items(name: str, value: Tensor, state: StockState) -> None:
    """A policy for N items meets a world with N items."""
    if value.shape[-1] != 1:
        checks.trailing_shape(f"on_hand, for a policy whose {name} has {value.shape[-1]} items,", state.on_hand, value.shape[-1:], "(..., S, N)")
