"""The cross-entropy method, item by item. Source: Rubinstein (1999), doi:10.1023/A:1010091220143."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class CrossEntropyByItem:
    """Every item its own small search, all of them in one call: the baseline to beat wherever items do not interact.

    Each item samples its K parameters from a normal distribution of its own, keeps its own elite, and moves its mean and deviation there. One evaluation
    of a candidate of all items tries N items at once, so the cost does not grow with the number of parameters, and no joint method, with or without
    gradients, can use as much information. It needs an objective of values by item, `(C, N)`: as soon as items share anything it does not apply.

    Args:
        members: candidates a round.
        elite: of them kept.
        step: first standard deviation, in the units of the parameters.
        least: of the standard deviation.
        gain: how far mean and deviation move to those of the elite, in (0, 1].
    """

    members: int = 40
    elite: int = 8
    step: float = 2.0
    least: float = 0.03
    gain: float = 0.7

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Sample, rank each item, move; inside the bounds where there are some."""
        if start.dim() != 2:
            raise InputError(f"a search item by item needs a start of shape (N, K), got {tuple(start.shape)}")
        generator = torch.Generator().manual_seed(seed)
        lower, upper = evaluate.lower.reshape(start.shape), evaluate.upper.reshape(start.shape)
        mean, deviation = start.clone(), torch.full_like(start, self.step)
        while True:
            drawn = mean + deviation * torch.randn(self.members, *start.shape, dtype=start.dtype, generator=generator)
            drawn = torch.minimum(torch.maximum(drawn, lower), upper)
            order = evaluate.items(drawn).argsort(dim=0, stable=True)[: self.elite]  # (elite, N)
            best = drawn.gather(0, order[..., None].expand(-1, -1, start.shape[1]))
            mean = self.gain * best.mean(0) + (1 - self.gain) * mean
            deviation = (self.gain * best.std(0) + (1 - self.gain) * deviation).clamp_min(self.least)
