"""The textbook flow: every program equals its referee where both are defined, small families from start to report, the printed digits."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from dpsc.relax import Anneal, Logistic, Smoothed
from experiments.context import RunContext
from experiments.textbook import Lines, _train_line, common_period, printed, problems, run
from experiments.textbook_plans import SERIAL, serial_price
from experiments.textbook_problem import Problem

ANNEAL = {"(s, S)": Anneal(Smoothed, Logistic, 0.25, 0.001), "finite horizon": Anneal(Smoothed, Logistic, 0.1, 0.001)}
ADAM = functools.partial(torch.optim.Adam, betas=(0.9, 0.99))


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, Problem]:
    return {p.name: p for p in problems(ANNEAL, 0)}


def test_every_printed_digit(all_of_them: dict[str, Problem]) -> None:
    rows = printed(list(all_of_them.values()))
    assert [r for r in rows if not r["agrees"] and not r["grid"]] == []
    assert all(r["error_pct"] < 0.03 for r in rows if r["grid"])
    assert len(rows) == 106


@pytest.mark.parametrize(
    "name",
    [
        "example_3_1",
        "example_3_8",
        "example_9_1",
        "example_9_4",
        "example_9_5",
        "example_4_4",
        "example_5_1_exact",
        "example_5_1_loss_function",
        "problem_4_8a",
    ],
)
def test_programs_cost_what_the_referee_says(all_of_them: dict[str, Problem], name: str) -> None:
    problem = all_of_them[name]
    (decision,) = problem.decisions(problem.start[0].tolist())
    assert abs(float(problem.loss(problem.start, 0.0)) / problem.price(decision) - 1) < 1e-6


def test_programs_of_triggers_cost_what_the_referee_says_at_the_end_of_their_schedule(all_of_them: dict[str, Problem]) -> None:
    for name, theta in (
        ("example_4_7", torch.tensor([[3.5 / 6, 9 / 6]])),
        ("fixed_10", torch.tensor([[0.55, 3.2]])),
        ("problem_5_2", torch.tensor([[5 / 6, 6.0]])),
    ):
        problem = all_of_them[name]
        row = theta.double()
        if name == "problem_5_2":
            row[:, 1] = row[:, 1].log()
        costs = [problem.price(d) for d in problem.decisions(row[0].tolist())]
        assert any(abs(float(problem.loss(row, 1.0)) / cost - 1) < 1e-6 for cost in costs)


def test_random_plans_cost_what_the_certain_ones_do(all_of_them: dict[str, Problem]) -> None:
    problem = all_of_them["problem_3_27"]
    row = torch.tensor([[40.0, -40.0, 40.0]], dtype=torch.float64)
    assert abs(float(problem.loss(row, 0.0)) - problem.price(problem.decisions(row[0].tolist())[0])) < 1e-9
    service = all_of_them["example_6_5"]
    sure = torch.zeros_like(service.start[:1]).reshape(2, -1)
    sure[0, 1], sure[1, 2] = 60.0, 60.0
    assert abs(float(service.loss(sure.reshape(1, -1), 0.0)) - service.price(service.decisions(sure.flatten().tolist())[0])) < 1e-9


def test_two_families_from_start_to_report(tmp_path: Path) -> None:
    found = run(
        context=RunContext(folder=tmp_path, seed=0, device=torch.device("cpu")),
        steps={"order quantity": 400, "lot plan": 200},
        rate={"order quantity": 0.1, "lot plan": 0.2},
        optimizer=ADAM,
        anneal=ANNEAL,
        lines=Lines(paths=16, periods=20, warm_up=5, steps=2),
        families=["order quantity", "lot plan"],
    )
    assert found.metrics["worst_gap_pct"] < 1e-6
    assert found.metrics["printed_numbers_missed"] == 0
    assert set(found.tables["problems"].family) == {"order quantity", "lot plan"}


def test_a_serial_line_comes_closer() -> None:
    instance = SERIAL[1]
    start, level, _ = _train_line(instance, Lines(paths=64, periods=30, warm_up=8, steps=60), 0.1, ADAM, 0)
    optimum = serial_price(instance)[1]
    assert serial_price(instance, levels=start)[1] > 2 * optimum
    assert serial_price(instance, levels=level)[1] < 1.005 * optimum


def test_periods_divide_lead_times() -> None:
    assert common_period([8.0, 3.0]) == 1.0
    assert common_period([0.5] * 5) == 0.5
    assert common_period([0.25, 1.0]) == 0.25
    assert common_period([4.0, 6.0]) == 2.0
