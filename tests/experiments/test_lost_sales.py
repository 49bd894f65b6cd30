"""Lost sales: gradients find the published capped rule and come close to the optimum on a small instance; exact prices of whole orders."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from dpsc import instances
from dpsc.relax import Anneal, Normal, Ramp, Smoothed, linear
from experiments.context import RunContext
from experiments.lost_sales import Case, Simulated, run


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return RunContext(folder=Path(tmp_path_factory.mktemp("lost_sales")), seed=0, device=torch.device("cpu"))


def test_two_small_instances_from_start_to_report(context: RunContext) -> None:
    adam = {"capped": functools.partial(torch.optim.Adam, lr=0.3), "network": functools.partial(torch.optim.Adam, lr=0.02)}
    found = run(
        context=context,
        names=["lost_sales_poisson_2_9", "lost_sales_geometric_1_4"],
        steps={"capped": 80, "network": 200},
        optimizer=adam,
        width=24,
        anneal=[Anneal(Smoothed, Normal, 0.5, 0.05, curve=linear), Anneal(Smoothed, Ramp, 1.0, 0.15, curve=linear)],
        second_try=200,
        margin=6,
    )
    assert -1e-4 < found.metrics["gap_pct_poisson_2_9"] < 0.1
    assert -1e-4 < found.metrics["gap_pct_geometric_1_4"] < 0.1
    assert abs(found.metrics["capped_worst_gap_pct"]) < 1e-3  # (19, 6), the best there is, up to the digits published
    table = found.tables["instances"].set_index("instance")
    assert table.levels["poisson_2_9"] == "(19, 6)"
    assert table.network["poisson_2_9"] < table.capped["poisson_2_9"]
    assert abs(float(found.learned["poisson_2_9"]["level"]) - 19) < 0.5


def test_simulated_futures_improve_on_the_capped_rule() -> None:
    case = Case(instances.get("lost_sales_poisson_2_4"), torch.device("cpu"))
    case.restrict(11, 17.0, 5.0)
    simulated = Simulated(
        names=[], paths=128, periods=20, steps=40, optimizer=functools.partial(torch.optim.Adam, lr=0.01), anneal=Anneal(Smoothed, Normal, 0.5, 0.2)
    )
    cost = case.price(case.whole(case.train_simulated(17.0, 5.0, simulated, 16, 0)))
    assert 4.3952 < cost < 4.4057  # the optimum, and the best capped rule


def test_room_is_that_of_the_chain() -> None:
    case = Case(instances.get("lost_sales_poisson_3_4"), torch.device("cpu"))
    assert torch.equal(case.room(case.chain.states), case.chain.room)
