"""A flow for tests: quick, and able to fail in every way. Tests allow it by code, no configuration could."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import nn

from dpsc.errors import InputError, ShapeError
from dpsc.report import Outcome, Section
from experiments.context import RunContext

NAMED_LAMBDA = lambda **_: None  # noqa: E731
PARTIAL = functools.partial(int, "7")
CONSTANT = 3


@dataclass(frozen=True)
class Training:
    """How long and how fast."""

    epochs: int = 3
    rate: float = 0.1


class Layer:
    """A component whose constructor checks its values."""

    def __init__(self, budget: float) -> None:
        if budget <= 0:
            raise ShapeError(f"budget must be positive, got {budget}")
        self.budget = 1 / (budget - 13)


def run(
    *, context: RunContext, training: Training, layer: Layer | None = None, fail: str = "", cost: float | None = None, log: str = "", pause_s: float = 0.0
) -> Outcome:
    """Draw a number from each generator; `log` is a file that gets one line a call."""
    if log:
        with Path(log).open("a") as file:
            file.write(f"{context.seed} {fail or '-'} {os.getcwd()}\n")
    for _ in context.track(range(training.epochs), "epochs"):
        time.sleep(pause_s)
    if fail == "input":
        raise InputError("features must be finite, got NaN")
    if fail == "bug":
        raise ZeroDivisionError("nobody foresaw this")
    if fail == "exit":
        raise SystemExit(0)
    if fail == "interrupt":
        raise KeyboardInterrupt
    if fail == "outcome":
        return {"cost": 1.0}  # type: ignore[return-value]
    metrics = {
        "cost": float(training.epochs) if cost is None else cost,
        "torch_draw": torch.rand(()),
        "numpy_draw": numpy.random.rand(),  # noqa: NPY002 - the global generator is what is tested
        "threads": torch.get_num_threads(),
    }
    learned = {"predictor": nn.Linear(2, 1).state_dict()}
    return Outcome(metrics=metrics, title="A tiny run", summary="Nothing to see.", sections=[Section("Only", "text")], learned=learned)
