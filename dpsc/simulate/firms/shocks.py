"""Shocks: what share of something is lost, step by step, `(T, M, B)`; on production, on final demand, or on edges.

Every curve is 0 before its onset and starts with `size`. Sizes, rates, durations and onsets are numbers, `(M,)` or `(M, B)`, and all but a hard onset have
gradients: with `soft_onset` the beginning is a ramp of so many steps, and the onset can be learned as well.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Level = float | Tensor


def exponential(horizon: int, *, onset: Level, size: Level, rate: Level, soft_onset: float = 0.0) -> Tensor:
    """size exp(-rate (t - onset)) from the onset on: what is lost heals by a fixed share a step.

    Args:
        horizon: T steps.
        onset: step at which the shock strikes.
        size: share lost at the onset, in [0, 1].
        rate: of recovery a step, >= 0; 0 is permanent, infinity heals at once and is no shock.
        soft_onset: steps over which the shock sets in; 0 = at once.
    Returns: `(T, M, B)`, M = 1 or B = 1 where the arguments leave it open.
    """

    def left(elapsed: Tensor, speed: Tensor) -> Tensor:
        at_once = torch.isinf(speed)  # infinity times zero would not be a number
        return torch.where(at_once, torch.zeros_like(elapsed), torch.exp(-torch.where(at_once, torch.zeros_like(speed), speed) * elapsed))

    return _curve(horizon, onset, size, rate, soft_onset, left, "rate", strict=False)


def linear(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - elapsed / duration), down to 0."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - e / d).clamp_min(0), "duration", strict=True)


def convex(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - elapsed / duration)^2, down to 0: fast at first, slow at the end."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - e / d).clamp_min(0).square(), "duration", strict=True)


def concave(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - (elapsed / duration)^2), down to 0: slow at first, fast at the end."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - (e / d).square()).clamp_min(0), "duration", strict=True)


def observed(series: Tensor, *, scale: Level = 1.0) -> Tensor:
    """A measured share lost, `(T,)`, `(T, M)` or `(T, M, B)`, times a scale (number, `(M,)` or `(M, B)`)."""
    checks.finite("series", checks.floating("series", series))
    if not 1 <= series.dim() <= 3:
        raise ShapeError(f"series must have shape (T,), (T, M) or (T, M, B), got {tuple(series.shape)}")
    while series.dim() < 3:
        series = series[..., None]
    return series * _wide("scale", scale, series)


def compose(*losses: Tensor) -> Tensor:
    """Independent losses together: 1 - prod(1 - loss)."""
    if not losses:
        raise InputError("compose must be given at least one loss, got none")
    kept = 1 - losses[0]
    for loss in losses[1:]:
        kept = kept * (1 - loss)
    return 1 - kept


def _wide(name: str, value: Level, like: Tensor | None = None) -> Tensor:
    """A number, `(M,)` or `(M, B)` as `(M, B)` with ones where it says nothing."""
    if not isinstance(value, Tensor):
        value = torch.tensor(float(value), dtype=torch.float64) if like is None else like.new_tensor(float(value))
    if value.dim() > 2:
        raise ShapeError(f"{name} must be a number, (M,) or (M, B), got {tuple(value.shape)}")
    return value.reshape(1, 1) if value.dim() == 0 else value[:, None] if value.dim() == 1 else value


def _curve(
    horizon: int, onset: Level, size: Level, pace: Level, soft: float, left: Callable[[Tensor, Tensor], Tensor], pace_name: str, *, strict: bool
) -> Tensor:
    checks.at_least("horizon", horizon, 1)
    if not soft >= 0:
        raise InputError(f"soft_onset must be >= 0 steps, got {soft}")
    like = next((v for v in (size, pace, onset) if isinstance(v, Tensor) and v.is_floating_point()), None)
    begin, most, speed = _wide("onset", onset, like), _wide("size", size, like), _wide(pace_name, pace, like)
    low = float(speed.detach().min())
    if not (low > 0 if strict else low >= 0):
        raise InputError(f"{pace_name} must be {'> 0' if strict else '>= 0'}, got {low}")
    if not 0 <= float(most.detach().min()) <= float(most.detach().max()) <= 1:
        raise InputError(f"size must lie in [0, 1], got [{float(most.detach().min())}, {float(most.detach().max())}]")
    time = torch.arange(horizon, dtype=most.dtype, device=most.device)[:, None, None]
    since = time - begin
    begun = ((since + soft) / soft).clamp(0, 1) if soft else (since >= 0).to(most.dtype)
    return most * left(since.clamp_min(0), speed) * begun
