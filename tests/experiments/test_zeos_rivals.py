"""Gradients against search without gradients, on small instances: equal starts, equal judges, failures told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pandas as pd
import pytest
import torch
from torch import Tensor

from dpsc.instances.replenishment import EXTENDED_RSQ, articles, paths, report_paths, shared_warehouse
from dpsc.objective.risk import Quantile
from dpsc.relax import Exact, Logistic, Normal, Smoothed, StraightThrough
from dpsc.report import Outcome
from dpsc.scenarios.replenishment import ReplenishmentProblem
from dpsc.search import CMA, CrossEntropyByItem
from dpsc.search.gradient_free import Evaluator
from experiments import zeos_rivals
from experiments.context import RunContext
from experiments.zeos import Recipe


@dataclass(frozen=True)
class Falls:
    def search(self, evaluate: Evaluator, start: Tensor, *, seed: int) -> None:
        raise MemoryError("too many simplices")


RECIPE = Recipe(
    starts=2,
    spread=0.5,
    steps=4,
    optimizer=partial(torch.optim.Adam, lr=0.1),
    reading=StraightThrough(Logistic(0.25)),
    measured=Smoothed(Normal(0.05)),
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    context = RunContext(folder=tmp_path_factory.mktemp("rivals"), seed=0, device=torch.device("cpu"))
    sizes = {"futures": 16, "recipe": RECIPE, "rows": 8, "shard": 2}
    return zeos_rivals.run(
        context=context,
        measure=Quantile(0.75),
        seconds=0.4,
        compiled=False,
        problems={"few": {"articles": 3, "coupled": False, **sizes}, "coupled": {"articles": 3, "coupled": True, **sizes}},
        methods={"sep-CMA": CMA(separable=True), "decomposed": CrossEntropyByItem(), "falls": Falls()},
        left_out={"coupled": {"decomposed": "articles interact"}},
        largest=[8.0, 10.0, 10.0, 10.0],
    )


def test_every_curve_begins_at_the_same_point_and_falls(outcome: Outcome) -> None:
    of = articles(3)
    start = dict(zip(("kick_week", "kick_order", "reorder_point", "order_quantity"), EXTENDED_RSQ.parameters["start"], strict=True))
    problem = ReplenishmentProblem(of, paths(of, 16, seed=1), warehouse=None)
    value = float(problem.objective({n: torch.full_like(of.scale, v) for n, v in start.items()}, relax=Exact()).sum())
    axes = outcome.figures["curves"].axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert {"gradient", "sep-CMA", "decomposed", "falls"} <= set(drawn)
    for curve in drawn.values():
        assert float(curve[0]) == pytest.approx(value, rel=1e-6)
        assert (pd.Series(curve).diff().dropna() <= 0).all()
    for name in ("gradient", "sep_cma", "decomposed"):
        assert outcome.metrics[f"optimised_few_{name}"] < 0.9 * value


def test_what_is_found_is_judged_exactly_on_fresh_futures(outcome: Outcome) -> None:
    of = articles(3)
    for label, warehouse in (("few", None), ("coupled", shared_warehouse(of))):
        fresh = ReplenishmentProblem(of, paths(of, report_paths(3), seed=2), warehouse=warehouse)
        value = float(fresh.objective(outcome.learned[label], relax=Exact()).sum())
        assert outcome.metrics[f"fresh_{label}_gradient"] == pytest.approx(value, rel=1e-12)
        ratio = outcome.metrics[f"fresh_{label}_sep_cma"] / value
        assert outcome.metrics[f"ratio_{label}_sep_cma"] == pytest.approx(ratio, rel=1e-12)


def test_budgets_hold_and_failures_are_told(outcome: Outcome) -> None:
    table = outcome.tables["searches"].set_index(["problem", "method"])
    assert table.loc[("few", "falls"), "ended"] == "failed: MemoryError: too many simplices"
    assert table.loc[("few", "falls"), "evaluations"] == 1
    assert table.loc[("coupled", "decomposed"), "ended"] == "not run: articles interact"
    assert table.loc[("few", "decomposed"), "ended"] == "budget spent"
    assert outcome.metrics["seconds_few_sep_cma"] < 1.0
    assert "ratio_coupled_decomposed" not in outcome.metrics
    # four evaluations a gradient, two starts, four steps, then the polish
    assert outcome.metrics["evaluations_few_gradient"] > 1 + 4 * 2 * 4
