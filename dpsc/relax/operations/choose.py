"""choose: one option of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import ShapeError
from dpsc.relax.kernels import Kernel, Logistic, Number
from dpsc.relax.operations.operation import Soft, settings
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class Choose(Soft):
    """Which of K scores is the largest."""

    name: ClassVar[str] = "choose"
    elementwise: ClassVar[bool] = False

    def hard(self, scores: Tensor) -> Tensor:
        """1 for the largest score (the first of equals), else 0."""
        best = scores.argmax(-1, keepdim=True)
        weight = torch.zeros_like(scores).scatter(-1, best, 1.0)
        return torch.where(scores.isnan().any(-1, keepdim=True), torch.nan, weight)

    def soft(self, kernel: Kernel, scores: Tensor) -> Tensor:
        """A softmax for the logistic kernel; else the product of the pairwise soft steps, made to add up to 1."""
        width = self.width(kernel)
        if isinstance(kernel, Logistic):
            return torch.softmax(scores / width, -1)
        pairwise = 0.5 + 0.5 * kernel.mass((scores[..., :, None] - scores[..., None, :]) / width)
        itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
        weight = torch.where(itself, torch.ones((), dtype=scores.dtype, device=scores.device), pairwise).prod(-1)
        return weight / weight.sum(-1, keepdim=True)


def choose(scores: Tensor, *, relax: Relaxation, scale: Number = 1.0) -> Tensor:
    """One of K options, the one with the largest score: one supplier out of five, one mode of transport.

    What is chosen is the sum of weights times options: `(choose(score, relax=relax) * cost).sum(-1)`.

    Args:
        scores: `(..., K)`, K >= 1.
        relax: how it gets its gradient.
        scale: what temperature 1 means, in units of the scores.
    Returns: `(..., K)` weights that add up to 1: one-hot (the first of equal scores) when hard; soft, softmax(scores / tau) for the logistic kernel.
    Gradient: none when exact (raises); of the soft value otherwise.
    """
    checks.floating("the scores of choose", scores)
    if scores.dim() < 1 or scores.shape[-1] < 1:
        raise ShapeError(f"the scores of choose must have shape (..., K) with K >= 1, got {tuple(scores.shape)}")
    return relax.read(Choose(settings("choose", scale)[0]), scores)
