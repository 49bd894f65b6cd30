"""The simplex of Nelder & Mead (1965), doi:10.1093/comjnl/7.4.308, with the adaptive coefficients of Gao & Han (2012); library scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class NelderMead:
    """A simplex that reflects, expands and shrinks; one candidate at a time.

    Args:
        tolerance: it stops where neither the simplex nor its values are larger.
    """

    tolerance: float = 1e-4
    library: ClassVar[str] = "scipy.optimize"

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Move the simplex; no random numbers."""
        from scipy.optimize import minimize

        minimize(
            lambda x: float(evaluate(torch.from_numpy(x).to(start.dtype))),
            start.reshape(-1).double().numpy(),
            method="Nelder-Mead",
            options={"maxfev": 10**9, "maxiter": 10**9, "adaptive": start.numel() > 1, "xatol": self.tolerance, "fatol": self.tolerance},
        )
