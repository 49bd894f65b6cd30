"""One warehouse: a small network trained for a moment, and the parts that the verdict rests on."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from dpsc.data.stores import one_warehouse
from dpsc.decision.rationing import balanced, proportional
from dpsc.relax import Exact
from experiments.context import RunContext
from experiments.one_warehouse import _echelon, _futures, _local_gain, _network, run
from experiments.warehouse import Setting, compare, play, watch

ADAM = functools.partial(torch.optim.Adam, lr=0.02)


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting.of(one_warehouse(2))


def test_the_network_starts_at_the_tuned_levels(setting: Setting) -> None:
    futures = _futures(setting.network, 0, "select", 0, 20, 30)
    for ration in (balanced, proportional):
        echelon = _echelon(setting.network, setting.supplier, ration)
        network = _network(setting.network, setting.supplier, echelon, ration, 4, 0)
        with torch.no_grad():
            torch.testing.assert_close(play(setting, network, futures, warm_up=5), play(setting, echelon, futures, warm_up=5), rtol=1e-9, atol=1e-9)


def test_units_are_conserved_and_priced_by_hand(setting: Setting) -> None:
    futures = _futures(setting.network, 0, "report", 0, 10, 40)
    echelon = _echelon(setting.network, setting.supplier, balanced)
    seen = watch(setting, echelon, futures)
    flow, stores = seen.flow, setting.network.stores
    start = futures.stock.sum() * torch.ones(10, dtype=torch.float64)
    bought, sold = flow.shipped[..., stores].sum(0), flow.sales.sum((0, -1))
    torch.testing.assert_close(start + bought - sold, flow.on_hand[-1].sum(-1) + flow.in_transit[-1].sum(-1), rtol=0, atol=1e-9)
    torch.testing.assert_close(seen.ordered, flow.shipped, rtol=0, atol=1e-9)  # the policy asks for no more than there is
    lost = futures.demand - flow.sales[..., :stores]
    by_hand = (flow.on_hand * setting.network.holding_cost).sum(-1) + (lost * setting.network.lost_sale[:stores]).sum(-1)
    with torch.no_grad():
        torch.testing.assert_close(play(setting, echelon, futures, warm_up=10), by_hand[10:].mean(0), rtol=1e-12, atol=1e-12)


def test_futures_of_different_uses_and_steps_differ(setting: Setting) -> None:
    one, other = (_futures(setting.network, 0, use, 0, 4, 5).demand for use in ("optimise", "report"))
    assert not torch.equal(one, other)
    assert not torch.equal(one, _futures(setting.network, 0, "optimise", 1, 4, 5).demand)
    assert torch.equal(one, _futures(setting.network, 0, "optimise", 0, 4, 5).demand)


def test_an_untuned_policy_is_found_out(setting: Setting) -> None:
    echelon = _echelon(setting.network, setting.supplier, balanced)
    with torch.no_grad():
        echelon.level.raw[:-1] *= 0.5
    assert echelon.level(relax=Exact()).min() > 0
    gain, _ = _local_gain(setting, echelon, _futures(setting.network, 0, "select", 0, 64, 60), 20)
    assert gain > 0.5


def test_the_interval_is_that_of_the_differences() -> None:
    echelon = torch.tensor([10.0, 12.0, 14.0], dtype=torch.float64)
    found = compare(echelon, echelon - 0.6)
    assert abs(float(found.difference_pct.estimate) + 5) < 1e-12
    assert abs(float(found.difference_pct.high) + 5) < 1e-9


def test_a_short_run(tmp_path: Path) -> None:
    outcome = run(
        context=RunContext(folder=tmp_path, seed=0, device=torch.device("cpu")),
        stores=[2],
        paths=64,
        periods=30,
        warm_up=10,
        echelon_steps=10,
        neural_steps=10,
        echelon_optimizer=ADAM,
        neural_optimizer=ADAM,
        hidden=4,
        report_paths=64,
        report_periods=60,
        report_warm_up=30,
        bound_steps=[4],
        bound_paths=4,
        bound_optimizer=ADAM,
    )
    m = outcome.metrics
    assert m["difference_pct_2_low"] < m["difference_pct_2"] < m["not_worse_2"]
    assert m["bound_2"] < m["cost_neural_2"]
    assert abs(m["gap_to_bound_pct_2"] - 100 * (m["cost_neural_2"] / m["bound_2"] - 1)) < 1e-9
    assert {name for section in outcome.sections for name in section.figures} == set(outcome.figures)
