"""The five routes of the MOQ problem on few items: each returns what may be ordered, and the prices are those of a plain loop."""

from __future__ import annotations

import functools

import numpy
import pytest
import scipy.stats
import torch

from dpsc.instances.orders import LARGEST, MOQ_500, orders
from dpsc.relax import Anneal, Logistic, Smoothed
from experiments import moq
from experiments.interactions import perceptron

ADAM = functools.partial(torch.optim.Adam, lr=0.05)


@pytest.fixture(scope="module")
def problem() -> moq.Problem:
    return moq.Problem(orders(20))


def test_the_optimum_of_the_published_instance_by_a_plain_loop() -> None:
    items = orders(500)
    total, ordered, at_minimum = 0.0, 0, 0
    demand = numpy.arange(LARGEST + 1)
    for mean, h, b, k, smallest in zip(*(x.tolist() for x in items[:5]), strict=True):
        p = scipy.stats.poisson(mean).pmf(demand)
        p /= p.sum()
        choices = [0, *range(int(smallest), LARGEST + 1)]
        cost = [p @ (h * numpy.maximum(q - demand, 0) + b * numpy.maximum(demand - q, 0)) + k * (q > 0) for q in choices]
        best = int(numpy.argmin(cost))
        total, ordered, at_minimum = total + cost[best], ordered + (choices[best] > 0), at_minimum + (choices[best] == smallest)
    found = moq.Problem(items)
    assert abs(found.optimum - total) < 1e-6
    assert abs(total - MOQ_500.known["optimum"]) < 0.05
    assert (ordered, at_minimum) == (MOQ_500.known["ordered"], MOQ_500.known["at_minimum"])


def test_every_route_returns_allowed_whole_orders_and_none_beats_the_optimum(problem: moq.Problem) -> None:
    found = {
        "interpolate": moq.interpolate(problem, ADAM, 60),
        "surrogate": moq.surrogate(problem, ADAM, 60, Anneal(Smoothed, Logistic, 1.0, 0.05), 20.0),
        "poisson": moq.poisson(problem, ADAM, 60, 0),
        "softmax": moq.softmax(problem, ADAM, 30, functools.partial(perceptron, hidden=8)),
        "gate": moq.gate(problem, ADAM, 200),
    }
    assert found.keys() == moq.ROUTES.keys()
    for order in found.values():
        cost, allowed = problem.price(order)
        assert bool(allowed.all())
        assert float(cost.sum()) >= problem.optimum - 1e-9
    assert float(problem.price(found["gate"])[0].sum()) <= problem.optimum * 1.001


def test_what_is_not_allowed_is_seen(problem: moq.Problem) -> None:
    _, allowed = problem.price(torch.ones(20, dtype=torch.float64))
    assert not bool(allowed.any())
    _, allowed = problem.price(problem.items.minimum_order + 0.5)
    assert not bool(allowed.any())
