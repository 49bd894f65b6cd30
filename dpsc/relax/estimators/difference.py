"""The difference identity: d E f(X) = E[(f(X + 1) - f(X)) w(X)].

Source: Price (1958), doi:10.1109/TIT.1958.1057444, for the idea; for the Poisson, d/dlambda E f(X) = E f(X + 1) - E f(X), exactly; for others by
summation by parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax.counts import Law
from dpsc.relax.estimators.estimator import Program, coupled, evaluate, one_by_one, summed


@dataclass(frozen=True)
class Difference:
    """Unbiased for every law and every parameter; one evaluation more for each coupled count, one in all where counts do not interact.

    Its noise is that of one jump of the program, not of its level, so it does best where costs are smooth.
    """

    unbiased: ClassVar[bool] = True

    def uniforms(self, law: Law) -> tuple[int, ...]:
        """One a count."""
        return tuple(law.shape)

    def surrogate(self, program: Program, law: Law, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cost, and the differences times the weights of the law."""
        x = law.quantile(noise)
        cost = evaluate(program, law, x)
        together = coupled(cost, x, law)
        high = torch.as_tensor(law.high, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            if together:
                more = evaluate(program, law, torch.minimum(x + one_by_one(x, together), high))
                change = (more - cost).movedim(0, -1).reshape(x.shape)
            else:
                change = evaluate(program, law, torch.minimum(x + 1, high)) - cost
        return cost.mean(0), summed(change * law.weight(x), together).mean(0)
