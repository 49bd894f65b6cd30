"""Guaranteed service: printed answers, enumeration, error texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from dpsc.errors import InputError
from dpsc.instances import textbook
from dpsc.search.guaranteed_service import GuaranteedService
from dpsc.types import Instance


def network(instance: Instance) -> GuaranteedService:
    p = dict(instance.parameters)
    for side in ("inbound", "outbound"):
        p[side] = {int(k): v for k, v in p[side].items()}
    return GuaranteedService(**p)


@pytest.mark.parametrize("instance", textbook.SERVICE, ids=lambda i: i.name)
def test_printed_answers(instance: Instance) -> None:
    of = network(instance)
    found = of.optimum()
    assert abs(found.cost - instance.known["cost"]) < 6e-6
    assert abs(of.cost(found.service_times) - found.cost) < 1e-9


def everything(of: GuaranteedService) -> float:
    """The cheapest of all promises that can be kept."""
    best = float("inf")
    for times in itertools.product(*[range(k + 1) for k in of.longest]):
        try:
            best = min(best, of.cost(times))
        except InputError:
            continue
    return best


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_promise_of_the_small_ones(index: int) -> None:
    of = network(textbook.SERVICE[index])
    assert abs(of.optimum().cost - everything(of)) < 1e-9


def test_random_trees_against_enumeration() -> None:
    draw = numpy.random.default_rng(0)
    for _ in range(12):
        parents = [int(draw.integers(0, k)) for k in range(1, 5)]
        links = [(k, parent) if draw.random() < 0.5 else (parent, k) for k, parent in enumerate(parents, start=1)]
        sinks = set(range(5)) - {a for a, _ in links}
        of = GuaranteedService(
            links, draw.integers(0, 3, 5).tolist(), draw.uniform(0.5, 3, 5).tolist(),
            [float(draw.uniform(0.5, 2)) if k in sinks else 0.0 for k in range(5)], 1.6, {0: 1}, {k: int(draw.integers(0, 3)) for k in sinks},
        )  # fmt: skip
        assert abs(of.optimum().cost - everything(of)) < 1e-9


GOOD: dict[str, Any] = {
    "links": [(0, 1), (1, 2)], "processing_time": [1, 1, 1], "holding_cost": [1.0, 2.0, 3.0], "deviation": [0.0, 0.0, 1.0], "safety_factor": 1.0,
    "inbound": {}, "outbound": {2: 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"links": [(0, 1), (0, 1)]}, r"links must form a tree, got a second way between stages 0 and 1"),
        ({"links": [(0, 1)]}, r"links must join all 3 stages into one tree, got 1 links"),
        ({"links": [(0, 1), (1, 3)]}, r"links must join stages 0 ... 2, got \(1, 3\)"),
        ({"processing_time": [1, -1, 1]}, r"processing_time must be an integer >= 0, got -1"),
        ({"deviation": [1.0]}, r"must have one entry a stage, got 3, 3 and 1"),
        ({"safety_factor": 0.0}, r"safety_factor must be a finite number > 0"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], text: str) -> None:
    call: Callable[..., object] = GuaranteedService
    with pytest.raises(InputError, match=text):
        call(**{**GOOD, **change})


def test_promises_that_cannot_be_kept_are_named() -> None:
    of = GuaranteedService(**GOOD)
    with pytest.raises(InputError, match=r"service_times must lie in \[0, SI \+ T\], got 2 at stage 0, where SI \+ T = 1"):
        of.cost([2, 0, 0])
    with pytest.raises(InputError, match=r"at most 1 at stage 2, which faces customers, got 2"):
        of.cost([1, 2, 2])
