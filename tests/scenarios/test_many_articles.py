"""Millions of articles in shards: no article knows its shard; costs fall; the laws are those of the published definition."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.instances.replenishment import Articles, articles
from dpsc.objective import Quantile
from dpsc.relax import Anneal, Logistic, Smoothed, StraightThrough
from dpsc.scenarios import many_articles
from dpsc.scenarios.many_articles import TabulatedFutures, articles_at, optimise
from dpsc.simulate.replenishment import PARAMETERS

FUTURES = TabulatedFutures(5)


def trained(count: int, shard: int, **changes: Any) -> many_articles.Optimised:
    settings: dict[str, Any] = {
        "first": dict(zip(PARAMETERS, (1.0, 3.0, 2.0, 3.0), strict=True)),
        "futures": FUTURES,
        "paths": 6,
        "steps": 4,
        "reading": Anneal(StraightThrough, Logistic, 0.5, 0.25),
        "measure": Quantile(0.75),
        "measured": Smoothed(Logistic(0.05)),
        "optimizer": functools.partial(torch.optim.Adam, lr=0.2),
        "compiled": False,
    }
    return optimise(count, shard=shard, **{**settings, **changes})


def test_no_article_knows_its_shard() -> None:
    done: list[int] = []
    whole, parts = trained(40, 48), trained(40, 16, progress=done.append)
    for name in PARAMETERS:
        assert torch.equal(whole.parameters[name], parts.parameters[name])
    assert torch.equal(whole.end, parts.end)
    assert done == [16, 32, 40]
    assert whole.end.shape == (40,)
    assert float(whole.end.sum()) < float(whole.start.sum())


def test_own_articles() -> None:
    of = articles(3)

    def mine(item: Tensor) -> Articles:
        return Articles(*(x[..., item].float() for x in of))

    found = trained(3, 16, articles=mine)
    assert found.start.shape == (3,)
    assert not torch.equal(found.start, trained(3, 16).start)


def test_the_laws_are_those_of_the_definition() -> None:
    """Means over many synthetic articles and futures, against those of the numpy generator."""
    mine, theirs = articles_at(torch.arange(4000), seed=1), articles(4000, seed=1)
    for name in Articles._fields:
        a, b = getattr(mine, name).double(), getattr(theirs, name)
        assert abs(float(a.mean() - b.mean())) <= 4 * float(b.std()) * (2 / 4000) ** 0.5 + 1e-6, name
    of, item = articles_at(torch.arange(48), seed=1), torch.arange(48)
    drawn = TabulatedFutures(2).paths(of, item, torch.arange(600))
    assert drawn.demand.shape == (12, 600, 48)
    assert float(drawn.demand.mean() / of.mean_demand.mean()) == pytest.approx(1.0, abs=0.03)
    assert (float(drawn.lead_time.min()), float(drawn.lead_time.max())) == (1, 4)
    true = torch.distributions.Gamma(4.0, 4 / of.mean_lead_time).sample((200_000,)).ceil().clamp(1, 4).mean(0)
    assert torch.allclose(drawn.lead_time.mean((0, 1)), true, atol=0.04)
    assert [float((drawn.return_lag == k).double().mean()) for k in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.01)
    assert float(drawn.uniform.mean()) == pytest.approx(0.5, abs=0.005)
    other = TabulatedFutures(2, "report").paths(of, item, torch.arange(600))
    assert abs(float(torch.corrcoef(torch.stack([other.uniform.flatten(), drawn.uniform.flatten()]))[0, 1])) < 0.01


def test_a_shard_must_fill_the_registers() -> None:
    with pytest.raises(InputError, match="shard must be a multiple of 16, got 20"):
        trained(40, 20)
