"""The replenishment experiment on small instances: every number it reports is one of the exact program."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpsc.instances.replenishment import articles, paths, report_paths
from dpsc.objective.risk import Quantile
from dpsc.relax import Exact, Logistic, Normal, Smoothed, StraightThrough
from dpsc.report import Outcome
from dpsc.scenarios.replenishment import ReplenishmentProblem
from experiments import zeos
from experiments.context import RunContext


def recipe(**more: Any) -> zeos.Recipe:
    settings: dict[str, Any] = {"starts": 1, "spread": 0.5, "steps": 3, "measured": Smoothed(Normal(0.05)), "reading": StraightThrough(Logistic(0.25))}
    return zeos.Recipe(**{**settings, "optimizer": partial(torch.optim.Adam, lr=0.1), **more})


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    context = RunContext(folder=tmp_path_factory.mktemp("zeos"), seed=0, device=torch.device("cpu"))
    return zeos.run(
        context=context,
        measure=Quantile(0.75),
        single={"seeds": [3, 7], "futures": 256, "fresh": 64, "recipe": recipe(starts=2, finalists=2)},
        separable={"few": {"articles": 3, "futures": 24, "recipe": recipe(finished=Smoothed(Normal(0.05)))}},
        coupled={"articles": 3, "futures": 24, "recipe": recipe()},
        ablation="few",
    )


def test_slow_movers_end_near_the_best_integers(outcome: Outcome) -> None:
    gaps = outcome.tables["single"]["gap_pct"]
    assert len(gaps) == 4
    assert gaps.min() > -0.01  # nobody beats an optimum by more than its printed digits
    assert outcome.metrics["gap_pct_d4_max"] == gaps.max() < 5


def test_what_is_reported_is_exact_and_on_fresh_futures(outcome: Outcome, tmp_path: Path) -> None:
    of = articles(3)
    fresh = ReplenishmentProblem(of, paths(of, report_paths(3), seed=2))
    learned = {name: x.double() for name, x in outcome.learned["few"].items()}
    assert all(torch.equal(x, x.round()) for x in learned.values())
    value = float(fresh.objective(fresh.parameters(learned), relax=Exact()).sum())
    assert outcome.metrics["fresh_few"] == pytest.approx(value, rel=1e-12)
    assert 0 < outcome.metrics["fresh_half_width_few"] < 0.1 * value
    assert set(outcome.tables["problems"]["problem"]) == {"few", "coupled"}
    assert set(outcome.tables["ablation"]["optimised for"]) == {"P75, distribution", "mean, distribution", "point forecast"}
    for section in outcome.sections:
        assert set(section.figures) <= set(outcome.figures)
        assert set(section.tables) <= set(outcome.tables)
