"""Gradient descent that stops, says where and keeps the last good state when it leaves the finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dpsc import storage
from dpsc.errors import DivergenceError, InputError
from dpsc.training import History, fit

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Parameters -> their optimiser, `functools.partial(torch.optim.Adam, lr=0.2)` say."""


def hold_then_decay(hold: float = 0.5, power: float = 3.0) -> Callable[[float], float]:
    """A learning rate that stays for a while and then falls: fraction done -> min(1, (hold / done)^power).

    Noisy or kinked objectives need long steps to travel and short ones to settle. Power 1 is the 1/i rule.

    Raises: InputError.
    """
    if not (0 < hold <= 1 and power >= 0):
        raise InputError(f"hold must lie in (0, 1] and power must be >= 0, got {hold!r} and {power!r}")
    return lambda done: min(1.0, (hold / done) ** power) if done > 0 else 1.0


def descend(
    loss: Callable[[float], Tensor],
    blocks: Mapping[str, Tensor],
    *,
    optimizer: Optimizer,
    steps: int,
    rate: Callable[[float], float] | None = None,
    save_to: Path | None = None,
) -> History:
    """Minimise `loss(fraction done)` over named leaf tensors with `dpsc.training.fit`.

    Args:
        loss: a scalar, or one entry a column fitted side by side.
        blocks: name -> parameter, changed in place.
        optimizer: makes the optimiser.
        steps: how many.
        rate: fraction done -> factor on the learning rate.
        save_to: file for the last good state (name -> tensor, read it with `dpsc.storage.load`) should the fit diverge.
    Raises: DivergenceError naming the step and the block, at the first loss, gradient or parameter that is not finite.
    """
    good: dict[str, Tensor] = {}

    def stop(step: int, what: str) -> DivergenceError:
        with torch.no_grad():
            for name, parameter in blocks.items():
                parameter.copy_(good[name])
        where = "not saved; give save_to= to keep it"
        if save_to is not None:
            storage.save(save_to, {"step": step, "blocks": good})
            where = f"saved in {save_to}"
        return DivergenceError(f"the fit diverged at step {step} of {steps}: {what}. The state before that step is {where}")

    def check(step: int) -> None:
        for name, parameter in blocks.items():
            bad = ~torch.isfinite(parameter.detach())
            if bool(bad.any()):
                raise stop(max(step - 1, 0), f"block {name!r} must stay finite, got {int(bad.sum())} of {bad.numel()} entries that are not")
        good.update({name: parameter.detach().clone() for name, parameter in blocks.items()})

    def guarded(_: object, done: float) -> Tensor:
        step = round(done * steps)
        check(step)
        value = loss(done)
        bad = ~torch.isfinite(value.detach())
        if bool(bad.any()):
            which = "" if value.dim() == 0 else f" of column {int(bad.nonzero()[0, 0])} ({int(bad.sum())} of {bad.numel()} in all)"
            raise stop(
                step, f"the loss{which} over the blocks {', '.join(blocks)} must be finite, got {float(value.detach()[bad][0] if value.dim() else value)}"
            )
        return value

    history = fit(guarded, optimizer=optimizer(list(blocks.values())), batches=lambda _: [None], epochs=steps, rate=rate)
    check(steps)
    return history
