"""Shocks: what share of something is lost, step by step, `(T, M, B)`; on production, on final demand, or on edges.

Every curve is 0 before its onset and starts with `size`; `piecewise` goes through given points, `observed` is a measured series. Sizes, rates, durations and
onsets are numbers, `(M,)` or `(M, B)`, and all but a hard onset have gradients: with `soft_onset` the beginning is a ramp of so many steps, and the onset can
be learned as well. A profile of any form that sets in at an unknown step and goes on at an unknown pace is `piecewise` with steps = onset + pace k.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

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

    since, most, speed, begun, fastest = _terms(horizon, onset, size, rate, soft_onset, "rate", strict=False)
    if fastest == math.inf:
        at_once = torch.isinf(speed)  # infinity times zero would not be a number
        most, speed = torch.where(at_once, torch.zeros_like(most), most), torch.where(at_once, torch.zeros_like(speed), speed)
    if since.requires_grad or begun.requires_grad:
        return most * torch.exp(-speed * since.clamp_min(0)) * begun
    result: Tensor = _Decay.apply(most, speed, since.clamp_min(0), begun)[0]
    return result


class _Decay(torch.autograd.Function):
    """size exp(-rate t) begun, with one stored tensor instead of three: the paths of a million firms are long."""

    @staticmethod
    def forward(size: Tensor, rate: Tensor, elapsed: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
        unit = (elapsed * -rate).exp_().mul_(begun)  # elapsed and begun have one shape
        return unit * size, unit

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        size, rate, elapsed, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(size, rate, elapsed, output[1])
        ctx.save_for_forward(size, rate, elapsed, output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> Any:
        if grad is None:
            return None, None, None, None
        size, rate, elapsed, unit = ctx.saved_tensors
        slope = grad * unit
        of_size = slope.sum(0).sum_to_size(size.shape) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[1]:
            return of_size, (slope.mul_(elapsed).sum(0) * -size).sum_to_size(rate.shape), None, None
        return of_size, None, None, None

    @staticmethod
    def jvp(ctx: Any, of_size: Tensor | None, of_rate: Tensor | None, *_: Any) -> Any:
        size, _rate, elapsed, unit = ctx.saved_tensors
        moved = torch.zeros_like(unit * size)
        if of_size is not None:
            moved = moved + unit * of_size
        if of_rate is not None:
            moved = moved - unit * size * elapsed * of_rate
        return moved, None


setattr(_Decay.forward, "__signature__", inspect.signature(_Decay.forward))  # noqa: B010  # torch asks for it in every call, and finding it takes long


def linear(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - elapsed / duration), down to 0. `duration` > 0 steps; the rest as in `exponential`."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - e / d).clamp_min(0), "duration", strict=True)


def convex(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - elapsed / duration)^2, down to 0: fast at first, slow at the end. `duration` > 0 steps; the rest as in `exponential`."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - e / d).clamp_min(0).square(), "duration", strict=True)


def concave(horizon: int, *, onset: Level, size: Level, duration: Level, soft_onset: float = 0.0) -> Tensor:
    """size (1 - (elapsed / duration)^2), down to 0: slow at first, fast at the end. `duration` > 0 steps; the rest as in `exponential`."""
    return _curve(horizon, onset, size, duration, soft_onset, lambda e, d: (1 - (e / d).square()).clamp_min(0), "duration", strict=True)


def observed(series: Tensor, *, scale: Level = 1.0) -> Tensor:
    """A measured share lost, `(T,)`, `(T, M)` or `(T, M, B)`, times a scale (number, `(M,)` or `(M, B)`). Raises: ShapeError."""
    checks.finite("series", checks.floating("series", series))
    if not 1 <= series.dim() <= 3:
        raise ShapeError(f"series must have shape (T,), (T, M) or (T, M, B), got {tuple(series.shape)}")
    while series.dim() < 3:
        series = series[..., None]
    return series * _wide("scale", scale, series)


def piecewise(horizon: int, *, steps: Tensor, losses: Tensor) -> Tensor:
    """Straight lines through K points (step, share lost): nothing before the first, the last for good.

    loss(t) = losses_0 [t >= steps_0] + sum_k (losses_(k+1) - losses_k) clamp((t - steps_k) / (steps_(k+1) - steps_k), 0, 1)

    Args:
        horizon: T steps.
        steps: `(K,)`, `(K, M)` or `(K, M, B)`, rising; not necessarily whole.
        losses: the same shapes, shares in [0, 1] at those steps.
    Returns: `(T, M, B)`, M = 1 or B = 1 where the arguments leave it open.
    Gradient: exact in the losses and between points in the steps; a jump at the first point has none in its step, so begin with a loss of 0 to learn when.
    Raises: ShapeError; InputError for steps that do not rise and losses out of range.
    """
    checks.at_least("horizon", horizon, 1)
    for name, value in (("steps", steps), ("losses", losses)):
        checks.finite(name, checks.floating(name, value))
        if not 1 <= value.dim() <= 3 or not len(value):
            raise ShapeError(f"{name} must have shape (K,), (K, M) or (K, M, B) with K >= 1, got {tuple(value.shape)}")
    if len(steps) != len(losses):
        raise ShapeError(f"steps and losses must hold as many points, got {len(steps)} and {len(losses)}")
    at, lost = (value.reshape(*value.shape, *[1] * (3 - value.dim())) for value in (steps.to(losses), losses))
    if len(at) > 1 and not float(at.detach().diff(dim=0).min()) > 0:
        raise InputError(f"steps must rise from point to point, got a difference of {float(at.detach().diff(dim=0).min()):g}")
    low, high = (float(v) for v in torch.aminmax(lost.detach()))
    if not 0 <= low <= high <= 1:
        raise InputError(f"losses must lie in [0, 1], got [{low}, {high}]")
    time = torch.arange(horizon, dtype=lost.dtype, device=lost.device)[:, None, None]
    value = lost[0] * (time >= at[0]).to(lost.dtype)
    for k in range(len(at) - 1):
        value = value + (lost[k + 1] - lost[k]) * ((time - at[k]) / (at[k + 1] - at[k])).clamp(0, 1)
    return value


def compose(*losses: Tensor) -> Tensor:
    """Independent losses together: 1 - prod(1 - loss). Raises: InputError."""
    if not losses:
        raise InputError("compose must be given at least one loss, got none")
    checks.broadcast({f"loss {k + 1}": loss.shape for k, loss in enumerate(losses)})
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
    since, most, speed, begun, _ = _terms(horizon, onset, size, pace, soft, pace_name, strict=strict)
    return most * left(since.clamp_min(0), speed) * begun


def _terms(horizon: int, onset: Level, size: Level, pace: Level, soft: float, pace_name: str, *, strict: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Steps since the onset `(T, M, B)`, size and pace `(M, B)`, how far the shock has set in, shaped as the steps, and the largest pace; ones where nothing
    says more."""
    checks.at_least("horizon", horizon, 1)
    if not soft >= 0:
        raise InputError(f"soft_onset must be >= 0 steps, got {soft}")
    like = next((v for v in (size, pace, onset) if isinstance(v, Tensor) and v.is_floating_point()), None)
    most, speed = _wide("size", size, like), _wide(pace_name, pace, like)
    begin = _wide("onset", onset, like) if isinstance(onset, Tensor) or not math.isfinite(onset) else float(onset)
    if isinstance(begin, Tensor):
        checks.finite("onset", begin)
    low, fastest = (float(v) for v in torch.aminmax(speed.detach()))
    if not (low > 0 if strict else low >= 0):
        raise InputError(f"{pace_name} must be {'> 0' if strict else '>= 0'}, got {low}")
    least, largest = (float(v) for v in torch.aminmax(most.detach()))
    if not 0 <= least <= largest <= 1:
        raise InputError(f"size must lie in [0, 1], got [{least}, {largest}]")
    time = torch.arange(horizon, dtype=most.dtype, device=most.device)[:, None, None]
    since = time - begin
    begun = ((since + soft) / soft).clamp(0, 1) if soft else (since >= 0).to(most.dtype)
    return since, most, speed, begun, fastest
