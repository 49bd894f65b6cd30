"""Gradient quality on a small reference: the reference is its definition, and what is counted is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpsc.relax import Logistic, StraightThrough
from experiments import gradient_quality
from experiments.context import RunContext


def test_a_small_run(tmp_path: Path) -> None:
    outcome = gradient_quality.run(
        context=RunContext(folder=tmp_path, seed=0, device=torch.device("cpu")),
        articles={"count": 3, "seed": 0},
        reference={"futures": 2000, "seed": 3},
        futures=[16, 512],
        trained=512,
        batches=1,
        points=2,
        readings={"st": StraightThrough(Logistic(0.25))},
        many=20,
    )
    metrics = outcome.metrics
    assert metrics["evaluations"] == 9
    assert metrics["evaluations_growth"] == 1
    assert metrics["gradients"] == 2
    assert 0.9 < metrics["cosine_min"] <= metrics["cosine_median"] < 1
    assert metrics["cosine_min"] == metrics["cosine_min_512"]
    assert 1e-4 < metrics["reference_error"] < 0.2  # 2000 futures instead of 40000
    assert len(outcome.tables["gradients"]) == 4


def test_the_reference_is_what_item_differences_give_on_the_same_futures(tmp_path: Path) -> None:
    context = RunContext(folder=tmp_path, seed=0, device=torch.device("cpu"))
    problem = gradient_quality._problem(gradient_quality.world.articles(3), 32, 3, context)
    theta = {name: torch.tensor([0.4, 1.3, 2.7], dtype=torch.float64) for name in gradient_quality.PARAMETERS}
    found = gradient_quality._gradient(problem, theta, gradient_quality.differences(problem))
    for name, slope in gradient_quality._differenced(problem, theta).items():
        assert found[name].tolist() == pytest.approx(slope.tolist(), rel=1e-9)
