"""Replenishment of many articles: one objective in two precisions, descents that shards do not change, and a polish that is exact."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.instances.replenishment import EXTENDED_RSQ, Paths, articles, paths, shared_warehouse
from dpsc.objective.risk import Mean, Quantile
from dpsc.relax import Exact, Logistic, Normal, Smoothed, StraightThrough
from dpsc.scenarios.replenishment import ReplenishmentProblem, descend, differences, finish, point_forecast, side_by_side, starts
from dpsc.simulate.replenishment import PARAMETERS

FIRST = dict(zip(PARAMETERS, EXTENDED_RSQ.parameters["start"], strict=True))
HOW: dict[str, Any] = {
    "reading": StraightThrough(Logistic(0.25)),
    "measured": Smoothed(Normal(0.05)),
    "optimizer": partial(torch.optim.Adam, lr=0.1),
}


def problem(count: int, futures: int = 32, **more: Any) -> ReplenishmentProblem:
    of = articles(count)
    return ReplenishmentProblem(of, paths(of, futures), **more)


def exact(of: ReplenishmentProblem, theta: dict[str, Tensor]) -> Tensor:
    return of.objective(theta, relax=Exact())


def test_one_article_ends_at_the_best_integers_known() -> None:
    of = articles(1, seed=3)
    single = ReplenishmentProblem(of, paths(of, 256)).to(dtype=torch.float32)
    ends = descend(single, starts(single, FIRST, 4, spread=1.0, seed=0), steps=20, **HOW)
    found = finish(single, ends, finalists=4)
    best = EXTENDED_RSQ.known["best_integers"]["position"][3][1]
    assert 100 * (float(found.value) / best - 1) < 0.05
    assert bool((found.value <= found.start).all())


@pytest.mark.parametrize("trigger", ["position", "idle"])
def test_whole_units_play_the_same(trigger: str) -> None:
    of = problem(6, trigger=trigger)
    generator = torch.Generator().manual_seed(1)
    theta = {n: 0.2 + 4 * torch.rand(5, 6, generator=generator, dtype=torch.float64) for n in PARAMETERS}
    theta["reorder_point"] = theta["reorder_point"] - 1.5  # some never trigger
    units = of.units(theta)
    assert all(torch.equal(x, x.round()) for x in units.values())
    assert torch.equal(exact(of, theta), exact(of, of.parameters(units)))
    assert all(torch.equal(units[n], of.units(of.parameters(units))[n]) for n in PARAMETERS)


def test_single_precision_moves_the_same_units() -> None:
    of = problem(6)
    theta = of.parameters(of.units({n: torch.full_like(of.articles.scale, v) for n, v in FIRST.items()}))
    double, single = exact(of, theta), exact(of.to(dtype=torch.float32), {n: x.float() for n, x in theta.items()})
    torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0)


def test_a_descent_does_not_depend_on_shards() -> None:
    of = problem(5)
    first = starts(of, FIRST, 2, spread=0.5, seed=3)
    whole, shards = descend(of, first, steps=4, **HOW), descend(of, first, steps=4, shard=2, **HOW)
    assert all(torch.equal(whole[n], shards[n]) for n in PARAMETERS)
    assert all(torch.equal(first[n][0], torch.full_like(first[n][0], FIRST[n])) for n in PARAMETERS)
    assert float(exact(of, whole).sum()) < float(exact(of, first).sum())


def test_a_descent_by_differences_needs_no_reading() -> None:
    of = problem(5)
    first = starts(of, FIRST, 2, spread=0.5, seed=3)
    how = {**HOW, "reading": differences(of)}
    whole, shards = descend(of, first, steps=4, **how), descend(of, first, steps=4, shard=2, **how)
    assert all(torch.equal(whole[n], shards[n]) for n in PARAMETERS)
    assert float(exact(of, whole).sum()) < float(exact(of, first).sum())


def test_differences_see_through_a_shared_warehouse() -> None:
    of = articles(3)
    shared = problem(3, futures=64, warehouse=(0.4 * shared_warehouse(of)[0], 2.0), measure=Mean())
    theta = {n: torch.full((3,), v, dtype=torch.float64, requires_grad=True) for n, v in zip(PARAMETERS, (1.0, 3.2, 2.2, 3.2), strict=True)}
    how = differences(shared)
    value = shared.objective(theta, relax=how)
    plain = {n: x.detach() for n, x in theta.items()}
    assert torch.equal(value.detach(), exact(shared, plain))
    found = torch.stack(torch.autograd.grad(value, list(theta.values())))
    truth = torch.zeros_like(found)
    for i, name in enumerate(PARAMETERS):
        for item in range(3):
            h = torch.as_tensor(how.width[name]).expand(3)[item]
            ends = [{**plain, name: plain[name] + sign * h * torch.eye(3, dtype=torch.float64)[item]} for sign in (1, -1)]
            truth[i, item] = (exact(shared, ends[0]) - exact(shared, ends[1])) / (2 * h)
    # only the kink of the full warehouse is taken at the point itself
    assert float(torch.nn.functional.cosine_similarity(found.flatten(), truth.flatten(), dim=0)) > 0.99


def test_articles_that_share_a_warehouse_are_polished_together() -> None:
    of = articles(4)
    capacity, price = shared_warehouse(of)
    together = problem(4, warehouse=(0.5 * capacity, price))
    start = {n: torch.full((1, 4), v, dtype=torch.float64) for n, v in FIRST.items()}
    found = finish(together, start, rounds=12)
    assert found.value.shape == ()
    assert float(found.value) < float(found.start)
    assert float(exact(together, together.parameters(found.decision))) == pytest.approx(float(found.value), rel=1e-12)
    assert float(exact(together, together.parameters(together.units(start)))) == pytest.approx(float(found.start), rel=1e-12)
    apart = finish(replace(together, warehouse=None), start, rounds=12)
    assert float(exact(together, together.parameters(apart.decision))) >= float(found.value)
    with pytest.raises(InputError, match="finalists must be 1"):
        finish(together, start, finalists=2)


def test_side_by_side_is_each_alone() -> None:
    each = [ReplenishmentProblem(articles(2, seed=s), paths(articles(2, seed=s), 16, seed=s)) for s in (4, 5)]
    theta = {n: torch.full((4,), v, dtype=torch.float64) for n, v in FIRST.items()}
    joined = exact(side_by_side(each), theta)
    assert torch.equal(joined, torch.cat([exact(one, {n: x[:2] for n, x in theta.items()}) for one in each]))
    with pytest.raises(InputError, match="problem 1 differs from the first in trigger"):
        side_by_side([each[0], replace(each[1], measure=Mean())])
    with pytest.raises(InputError, match="problem 0 shares a warehouse"):
        side_by_side([replace(each[0], warehouse=(1.0, 1.0))])
    with pytest.raises(InputError, match="at least one problem"):
        side_by_side([])


def test_a_point_forecast_is_one_future_of_whole_numbers() -> None:
    drawn = Paths(*(torch.tensor(x, dtype=torch.float64).reshape(1, 3, 1) for x in ([1, 2, 6], [1, 1, 3], [2, 3, 3], [0.1, 0.2, 0.9])))
    assert [x.flatten().tolist() for x in point_forecast(drawn)] == [[3.0], [2.0], [3.0], [0.5]]


def test_the_measure_is_the_one_that_is_asked_for() -> None:
    of = problem(3)
    theta = {n: torch.full((3,), v, dtype=torch.float64) for n, v in FIRST.items()}
    assert bool((exact(replace(of, measure=Mean()), theta) < exact(of, theta)).all())
    assert bool((exact(of, theta) < exact(replace(of, measure=Quantile(0.95)), theta)).all())
