"""Random search: what every method must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class RandomSearch:
    """Candidates uniform in a box.

    Args:
        batch: candidates a call.
    """

    batch: int = 64

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Draw until the budget is spent."""
        lower, upper = evaluate.box("random search")
        generator = torch.Generator().manual_seed(seed)
        while True:
            evaluate(lower + (upper - lower) * torch.rand(self.batch, start.numel(), dtype=start.dtype, generator=generator))
