"""Gumbel-softmax: a choice becomes a soft mixture of all choices.

Source: Jang, Gu & Poole (2017), arXiv:1611.01144; Maddison, Mnih & Teh (2017), arXiv:1611.00712.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc import checks
from dpsc.relax.counts import Law
from dpsc.relax.estimators.estimator import Program, evaluate


@dataclass(frozen=True)
class GumbelSoftmax:
    """Biased; one evaluation, of a program that takes fractional counts. Bias falls and noise rises as the temperature goes to 0.

    Args:
        temperature: > 0.
        hard: the program sees the whole number (straight-through), the gradient is still the soft one's.
        largest: cut of a law without an end; its table's length where None.
    """

    temperature: float = 1.0
    hard: bool = False
    largest: int | None = None
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.positive("temperature", self.temperature)

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a count and possible value."""
        return (*law.shape, self._length(law))

    def _length(self, law: Law) -> int:
        return law.length if self.largest is None else min(law.length, checks.at_least("largest", self.largest, 0) + 1)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost of the relaxed counts; its own gradient."""
        values = torch.arange(self._length(law), dtype=torch.float64, device=noise.device)
        logits = law.log_prob(values.reshape(-1, *[1] * len(law.shape)).expand(-1, *law.shape)).movedim(0, -1).clamp_min(-1e300)
        perturbed = logits - torch.log(-torch.log(noise))
        soft = (torch.softmax(perturbed / self.temperature, -1) * values).sum(-1)
        if self.hard:
            soft = perturbed.argmax(-1).double() - (soft.detach() - soft)
        cost = evaluate(program, law, soft.to(law.dtype)).mean(0)
        return cost.detach(), cost
