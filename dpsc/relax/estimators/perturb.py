"""Perturb and MAP: add noise to the scores, choose the best, and let the cost pull the scores.

Source: Papandreou & Yuille (2011), doi:10.1109/ICCV.2011.6126242; implicit maximum likelihood: Niepert, Minervini & Franceschi (2021), arXiv:2106.01798.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import ShapeError
from dpsc.relax.counts import Categorical, Law
from dpsc.relax.estimators.estimator import Program, supported


def best_one(scores: Tensor) -> Tensor:
    """One-hot of the largest score."""
    return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)


@dataclass(frozen=True)
class PerturbAndMAP:
    """Biased; for choices by any maximiser of a linear score (a path, a packing, one of K), with one more call of the maximiser. The program is given
    the choice as a vector `(..., S, *shape, K)`, not as an index, and must be differentiable in it.

    Gradient: (z - z') / step with z' the choice after the scores have been moved by -step times the gradient of the cost.

    Args:
        oracle: scores `(..., K)` -> choice `(..., K)`; the largest one of K by default.
        step: > 0, how far the cost pulls; small steps see only near ties.
    """

    oracle: Callable[[Tensor], Tensor] = best_one
    step: float = 1.0
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.positive("step", self.step)

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a choice and option."""
        supported(self, law, Categorical)
        assert isinstance(law, Categorical)
        return (*law.shape, law.logits.shape[-1])

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost of the sampled choices; its own gradient, the maximiser's being the one above."""
        assert isinstance(law, Categorical)
        perturbed = law.logits - torch.log(-torch.log(noise)).to(law.dtype)
        cost = program(_Best.apply(perturbed, self.oracle, self.step))
        if cost.shape[:1] != noise.shape[:1] or law.shape[: cost.dim() - 1] != cost.shape[1:]:
            raise ShapeError(f"the program must return costs of shape (S, *batch) with batch a beginning of {tuple(law.shape)}, got {tuple(cost.shape)}")
        return cost.mean(0).detach(), cost.mean(0)


class _Best(torch.autograd.Function):
    """The oracle's choice, pulled by the cost in the backward pass."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, oracle: Callable[[Tensor], Tensor], step: float) -> Tensor:
        choice = oracle(scores)
        ctx.save_for_backward(scores, choice)
        ctx.oracle, ctx.step = oracle, step
        return choice

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scores, choice = ctx.saved_tensors
        (grad,) = grads
        scale = grad.shape[0]  # the mean over samples divided the pull of each by their number
        return (choice - ctx.oracle(scores - ctx.step * scale * grad)) / (ctx.step * scale), None, None
