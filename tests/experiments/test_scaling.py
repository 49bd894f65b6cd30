"""The scaling experiment on a small network: what it times is the model, and its peaks are its own."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments import scaling
from experiments.context import RunContext


def test_a_run_in_chunks_is_one_run() -> None:
    problem = scaling._Problem(60, 30, 5.0, "cpu", 1e9)
    one, many = problem.forward(30), problem.forward(7)
    assert torch.allclose(one, many, rtol=1e-5)
    assert float(one.min() / one[0]) < 0.95
    assert all(float(g.abs().sum()) > 0 for g in problem.gradient())


def test_a_small_scaling(tmp_path: Path) -> None:
    context = RunContext(tmp_path, 0, torch.device("cpu"))
    made = scaling.run(context=context, sizes=[50, 200], steps=20, degree=4.0, chunk=10, budget_s=0.0, memory=1e6, devices=["cpu"])
    assert made.metrics["forward_s_a_step_200"] > 0
    assert 0.05 < made.metrics["gradient_peak_gb_50"] < 5
    assert made.tables["scaling"]["firms"].tolist() == [50, 200]
    assert set(made.figures) == {"time", "memory"}
