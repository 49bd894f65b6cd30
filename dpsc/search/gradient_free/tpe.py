"""The tree-structured Parzen estimator. Source: Bergstra, Bardenet, Bengio & Kegl (2011), NeurIPS 24; library optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.search.gradient_free.minimise import Evaluator


@dataclass(frozen=True)
class TPE:
    """Densities of the good and of the other candidates, parameter by parameter; the next candidate where their ratio is highest.

    One candidate at a time; the time of a proposal grows with parameters times candidates so far.

    Args:
        random_first: candidates before the densities are used.
    """

    random_first: int = 10
    library: ClassVar[str] = "optuna"

    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        """Ask, evaluate, tell."""
        import optuna

        lower, upper = evaluate.box("TPE")
        box: dict[str, optuna.distributions.BaseDistribution] = {
            f"x{i}": optuna.distributions.FloatDistribution(low, high) for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True))
        }
        loud = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.random_first))
            first = dict(zip(box, torch.minimum(torch.maximum(start.reshape(-1), lower), upper).tolist(), strict=True))
            study.enqueue_trial(first)
            while True:
                trial = study.ask(box)
                value = float(evaluate(torch.tensor([trial.params[name] for name in box], dtype=start.dtype)))
                study.tell(trial, value if value < float("inf") else 1e300)
        finally:
            optuna.logging.set_verbosity(loud)
