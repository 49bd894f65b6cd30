"""Rationing by priority: a short supply flows to the highest priorities first, as water fills a vessel. top_k is the case of unit demands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.relax.kernels import Kernel, Number
from dpsc.relax.operations.operation import Soft, quantity, settings
from dpsc.types import Relaxation

ITERATIONS = 80


@dataclass(frozen=True, eq=False)
class WaterFill(Soft):
    """Supply handed out in the order of priority."""

    name: ClassVar[str] = "water_fill"
    elementwise: ClassVar[bool] = False

    def hard(self, supply: Tensor, demand: Tensor, priority: Tensor) -> Tensor:
        """Each gets what is left after all before it: min(d, [supply - what goes before]^+)."""
        order = priority.detach().sort(dim=-1, descending=True, stable=True).indices
        sorted_demand = demand.gather(-1, order)
        before = sorted_demand.cumsum(-1) - sorted_demand
        given = torch.minimum((supply[..., None] - before).clamp_min(0), sorted_demand)
        return torch.zeros_like(given).scatter(-1, order, given)

    def soft(self, kernel: Kernel, supply: Tensor, demand: Tensor, priority: Tensor) -> Tensor:
        """d P(priority + tau Z >= level), the level chosen so that exactly the supply is handed out."""
        width = self.width(kernel)
        short = supply < demand.sum(-1)
        with torch.no_grad():
            order = priority.sort(dim=-1, descending=True, stable=True).indices
            marginal = (demand.gather(-1, order).cumsum(-1) < supply[..., None]).sum(-1, keepdim=True).clamp_max(demand.shape[-1] - 1)
            origin = priority.gather(-1, order.gather(-1, marginal))  # measured from the last one served, the level keeps its digits
        height = priority - origin
        with torch.no_grad():
            level = _level(kernel, width, supply, demand, height)
            slope = (demand * kernel.density((height - level) / width) / width).sum(-1, keepdim=True)
            slope = torch.where(slope > 0, slope, torch.ones_like(slope))
        # One Newton step from the solution: by the implicit function theorem it carries the derivative of the level.
        share = demand * (0.5 + 0.5 * kernel.mass((height - level) / width))
        moved = level + (share.sum(-1, keepdim=True) - supply[..., None]) / slope
        given = demand * (0.5 + 0.5 * kernel.mass((height - level - (moved - moved.detach())) / width))
        return torch.where(short[..., None], given, demand)


def _level(kernel: Kernel, width: Number, supply: Tensor, demand: Tensor, height: Tensor) -> Tensor:
    """Bisection on the level, `(..., 1)`; the middle, where a kernel without tails leaves an interval of levels that hand out the same."""
    lowest, highest = height.amin(-1, keepdim=True), height.amax(-1, keepdim=True)
    # A kernel with tails may have to go far out when almost everything, or almost nothing, is handed out.
    reach = (highest - lowest) + 1e4 * (width.amax() if isinstance(width, Tensor) else width)
    ends = []
    for beyond in (torch.gt, torch.ge):
        low, high = lowest - reach, highest + reach
        for _ in range(ITERATIONS):
            middle = 0.5 * (low + high)
            more = beyond((demand * (0.5 + 0.5 * kernel.mass((height - middle) / width))).sum(-1, keepdim=True), supply[..., None])
            low, high = torch.where(more, middle, low), torch.where(more, high, middle)
        ends.append(0.5 * (low + high))
    return 0.5 * (ends[0] + ends[1])


def water_fill(supply: Tensor, demand: Tensor, priority: Tensor, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """Hand out a supply in the order of priority.

    Args:
        supply: `(...)` units, >= 0.
        demand: `(..., K)` units, >= 0.
        priority: `(..., K)` higher is served first; equal priorities in the order of their index.
        relax: how the order of service gets its gradient.
        scale: what temperature 1 means, in units of priority.
    Returns: `(..., K)` units, between 0 and the demand; they add up to min(supply, total demand) under every reading. Soft: d P(priority + tau Z >=
        level) with the level that hands out the supply; proportional to demand as the temperature grows.
    Gradient: raises when exact; of the soft value otherwise, the level by the implicit function theorem.
    Raises: InputError for negative or NaN supply or demand, or a NaN priority.
    """
    for name, value in (("supply", supply), ("demand", demand), ("priority", priority)):
        checks.floating(name, value)
    if demand.dim() < 1 or demand.shape[-1] < 1:
        raise ShapeError(f"demand must have shape (..., K) with K >= 1, got {tuple(demand.shape)}")
    shape = checks.broadcast({"supply": supply.shape, "demand": demand.shape[:-1], "priority": priority.shape[:-1]})
    if priority.dim() < 1 or priority.shape[-1] != demand.shape[-1]:
        raise ShapeError(f"priority must have shape (..., K) with K = {demand.shape[-1]}, got {tuple(priority.shape)}")
    quantity("supply", supply)
    quantity("demand", demand)
    quantity("the size of priority", priority.detach().abs())
    wide = (*shape, demand.shape[-1])
    return relax.read(WaterFill(settings("water_fill", scale)[0]), supply.expand(shape), demand.expand(wide), priority.expand(wide))


def top_k(scores: Tensor, k: int, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """The k options with the largest scores.

    Args:
        scores: `(..., K)`.
        k: how many, 0 <= k <= K.
        relax: how the choice gets its gradient.
        scale: what temperature 1 means, in units of the scores.
    Returns: `(..., K)` in [0, 1], adding up to k: k ones when hard (the first of equals).
    Gradient: raises when exact; of the soft value otherwise.
    """
    checks.floating("the scores of top_k", scores)
    checks.at_least("k", k, 0)
    if scores.dim() < 1 or k > scores.shape[-1]:
        raise InputError(f"k must be at most K, the last dimension of the scores, got k = {k} and shape {tuple(scores.shape)}")
    return water_fill(scores.new_full(scores.shape[:-1], float(k)), torch.ones_like(scores), scores, relax=relax, scale=scale)
