"""Stores on weekly sales: what the policy is told is the past, the weeks are split as stated, and a moment of training on a small file."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from dpsc.data.favorita import WeeklySales
from experiments import favorita_stores as flow
from experiments.context import RunContext

ADAM = functools.partial(torch.optim.Adam, lr=0.02)


def test_a_policy_is_told_the_past_only() -> None:
    demand = torch.rand(40, 3, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    told = flow.weeks(demand, 20, 30)
    assert told.features is not None
    assert told.history is not None
    torch.testing.assert_close(told.features[0, :, 0, :2, 0], demand[4:20, :, 0].mean(0))
    torch.testing.assert_close(told.features[9, :, 0, :2, 0], demand[13:29, :, 0].mean(0))
    torch.testing.assert_close(told.features[..., 2, 0], told.features[..., :2, 0].sum(-1))
    assert torch.equal(told.demand, demand[20:30])
    assert torch.equal(told.history, demand[4:20])
    later = demand.clone()
    later[25:] += 1
    moved = flow.weeks(later, 20, 30)
    assert moved.features is not None
    assert torch.equal(moved.features[:6], told.features[:6])
    assert not torch.equal(moved.features[6], told.features[6])


def test_counted_weeks_do_not_overlap() -> None:
    counted = [set(range(*flow.TRAIN)), set(range(flow.DEV[0] + flow.WARM_UP, flow.DEV[1])), set(range(flow.TEST[0] + flow.WARM_UP, flow.TEST[1]))]
    assert set.union(*counted) == set(range(171))
    assert sum(map(len, counted)) == 171
    assert min(flow.DEV[0], flow.TEST[0]) >= flow.OBSERVED


def test_a_short_run_on_drawn_sales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = torch.poisson(torch.full((4, 21, 171), 20.0, dtype=torch.float64), generator=torch.Generator().manual_seed(0))
    units[2, 3, 5] = -7
    monkeypatch.setattr(flow.favorita, "load", lambda root: WeeklySales(units))
    outcome = flow.run(
        context=RunContext(folder=tmp_path, seed=0, device=torch.device("cpu")),
        window=40,
        window_warm_up=10,
        constant_steps=2,
        relative_steps=2,
        neural_steps=2,
        echelon_optimizer=ADAM,
        neural_optimizer=ADAM,
        hidden=4,
        rounds=2,
        products=4,
    )
    m = outcome.metrics
    assert m["negative_cells"] == 1
    assert outcome.tables["negative_cells"].to_dict("records") == [{"product": 2, "store": 3, "week": 5, "units": -7.0}]
    assert m["difference_pct_low"] <= m["difference_pct"] <= m["not_worse"]
    assert 0 < m["gap_to_bound_pct"] < 100
    assert m["cost_echelon"] in (m["cost_echelon_constant"], m["cost_echelon_relative"])
    assert {name for section in outcome.sections for name in section.figures} == set(outcome.figures)
