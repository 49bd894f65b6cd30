"""dpsc in the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .layers import Arrays, Contender, forward_and_backward, written

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # for `experiments`, and for dpsc in a checkout that is not installed


def closed_form(arrays: Arrays) -> Contender:
    """`Allocation`."""
    from dpsc.decision import Allocation

    layer = Allocation(arrays["theta"].shape[1])
    return forward_and_backward(arrays, lambda theta: layer(cost=theta).decision)


def convex_program(arrays: Arrays, form: str) -> Contender:
    """`ConvexProgram` on what a user writes in cvxpy."""
    from dpsc.decision import ConvexProgram

    problem, _, x = written(form, arrays)
    layer = ConvexProgram(problem, variables={"x": x})
    return forward_and_backward(arrays, lambda theta: layer(theta=theta).decision)


def knapsack(arrays: Arrays, capacity: int) -> Contender:
    """All days in one call."""
    import torch

    from dpsc.decision import Knapsack

    oracle, value = Knapsack([int(w) for w in arrays["weights"]], capacity), torch.from_numpy(arrays["value"])
    return lambda: oracle(value=value), lambda solution: {"value": -solution.objective.numpy()}


def seed_experiment(_: Arrays, experiment: str) -> Contender:
    """An experiment as it is shipped, from drawing the data to its metrics; without the pictures and words of its report.

    The configuration is read once; each call builds the components and trains from the start, in a run folder of its own (checkpoints are written).
    """
    import tempfile
    from unittest import mock

    import torch

    from experiments import build, compose, interactions_report
    from experiments.context import RunContext

    settings = compose.plain(compose.compose([f"experiment={experiment}"]))

    def call() -> Any:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(interactions_report, "outcome", lambda **given: given["metrics"]):
            return build.flow(settings["flow"])(context=RunContext(Path(folder), settings["seed"], torch.device("cpu")))

    return call, lambda metrics: {name: metrics[name] for name in ("oracle_cost", "two_stage_cost", "dfl_cost", "two_stage_mse", "dfl_mse")}
