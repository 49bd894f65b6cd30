"""Newsvendor and base stock: printed answers, differences, error texts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.objective import newsvendor_table, poisson_pmf
from dpsc.search.newsvendor import NormalNewsvendor, newsvendor_costs
from dpsc.types import Instance


@pytest.mark.parametrize("instance", textbook.NEWSVENDORS, ids=lambda i: i.name)
def test_normal(instance: Instance) -> None:
    problem = NormalNewsvendor(**instance.parameters)
    found = problem.optimum()
    assert abs(found.level - instance.known["level"]) < 6e-5
    assert abs(found.cost - instance.known["cost"]) < 6e-5
    slope = (problem.cost(found.level + 0.01) - problem.cost(found.level - 0.01)) / 0.02
    assert abs(slope) < 1e-6


def test_poisson() -> None:
    p, known = textbook.POISSON_NEWSVENDOR.parameters, textbook.POISSON_NEWSVENDOR.known
    mean = torch.tensor(p["mean_demand"], dtype=torch.float64)
    costs = newsvendor_costs(poisson_pmf(mean, 90), p["holding_cost"], p["stockout_cost"])
    assert int(costs.argmin()) == known["level"]
    assert abs(float(costs.min()) - known["cost"]) < 6e-6
    other = newsvendor_table(mean, torch.tensor(p["holding_cost"]).double(), torch.tensor(p["stockout_cost"]).double(), largest=90)
    assert (costs - other).abs().max() < 1e-8


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: NormalNewsvendor(5.0, 0.0, 1.0, 9.0), r"deviation must be a finite number > 0, got 0.0"),
        (lambda: newsvendor_costs(torch.tensor([0.5, 0.6]), 1.0, 9.0), r"demand_pmf must be a vector of probabilities"),
        (lambda: newsvendor_costs(torch.tensor([0.5, 0.5]), 0.0, 9.0), r"holding_cost must be a finite number > 0"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
