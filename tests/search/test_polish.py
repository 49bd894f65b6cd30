"""The integer polish on cases that can be enumerated."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dpsc.errors import InputError, ShapeError
from dpsc.search import Lattice, polish, polish_together

BOX = Lattice(lower={"a": 0, "b": 0}, upper={"a": 7, "b": 7})


def table(seed: int, items: int) -> Tensor:
    """`(N, 8, 8)` costs without any order."""
    return torch.rand(items, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def looked_up(costs: Tensor):  # type: ignore[no-untyped-def]
    return lambda candidates, items: costs[items, candidates["a"].long(), candidates["b"].long()]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), items=st.integers(0, 5), reach=st.sampled_from([1.0, 2.0, 4.0]))
def test_it_ends_where_no_neighbour_is_better_and_never_above_its_start(seed: int, items: int, reach: float) -> None:
    costs = table(seed, items)
    start = {n: torch.randint(0, 8, (items,), generator=torch.Generator().manual_seed(seed + i)).double() for i, n in enumerate("ab")}
    found = polish(looked_up(costs), start, lattice=Lattice(BOX.lower, BOX.upper, reach={"a": reach}))
    assert bool((found.value <= found.start).all())
    assert bool(found.settled.all())
    for i in range(items):
        a, b = int(found.decision["a"][i]), int(found.decision["b"][i])
        near = costs[i, max(a - 1, 0) : a + 2, max(b - 1, 0) : b + 2]
        assert float(found.value[i]) == float(costs[i, a, b]) == float(near.min())


def test_the_optimum_of_a_narrow_valley_needs_two_blocks_at_once() -> None:
    costs = torch.tensor([[100 * abs(a - b) + abs(a - 6) for b in range(8)] for a in range(8)], dtype=torch.float64)[None]
    start = {"a": torch.tensor([1.0]), "b": torch.tensor([1.0])}
    assert float(polish(looked_up(costs), start, lattice=BOX).value) == float(costs.min()) == 0
    alone = polish(looked_up(costs), start, lattice=Lattice(BOX.lower, BOX.upper, together=1))
    assert float(alone.value) == float(alone.start) == 5


def test_far_moves_cross_a_bump() -> None:
    costs = torch.tensor([[float([0, 9, 9, 9, -5, 9, 9, 9][a])] * 8 for a in range(8)], dtype=torch.float64)[None]
    start = {"a": torch.tensor([0.0]), "b": torch.tensor([0.0])}
    assert float(polish(looked_up(costs), start, lattice=BOX).value) == 0
    assert float(polish(looked_up(costs), start, lattice=Lattice(BOX.lower, BOX.upper, reach={"a": 4})).value) == -5


def test_items_do_not_notice_each_other_and_those_at_rest_are_not_asked() -> None:
    costs = table(3, 6)
    start = {"a": torch.arange(6.0), "b": torch.full((6,), 3.2)}
    asked = []

    def objective(candidates: dict[str, Tensor], items: Tensor) -> Tensor:
        asked.append(len(items))
        return looked_up(costs)(candidates, items)

    together = polish(objective, start, lattice=BOX)
    for i in range(6):
        one = polish(lambda c, items, i=i: costs[i, c["a"].long(), c["b"].long()], {n: x[i : i + 1] for n, x in start.items()}, lattice=BOX)  # type: ignore[misc]
        assert (float(one.decision["a"]), float(one.decision["b"])) == (float(together.decision["a"][i]), float(together.decision["b"][i]))
    assert together.evaluations == 6 + 8 * sum(asked[1:])
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] < 6


def quadratic(weights: Tensor):  # type: ignore[no-untyped-def]
    """Items share a budget of 9 and gain from convex costs, so that no exchange between two items means optimal: total = cost + 300 (use - 9)^+ ^ 2."""

    def contribution(candidates: dict[str, Tensor], items: Tensor) -> Tensor:
        own = weights[items] * (candidates["a"] - 5) ** 2 + (candidates["b"] - candidates["a"]).abs()
        return torch.stack([own, candidates["a"]], -1)

    return contribution, lambda x: x[..., 0] + 300 * (x[..., 1] - 9).clamp_min(0) ** 2


def test_a_shared_budget_by_enumeration() -> None:
    weights = torch.tensor([1.0, 2.5, 0.7], dtype=torch.float64)
    contribution, total = quadratic(weights)
    cells = list(itertools.product(range(8), repeat=2))
    each = contribution({n: torch.tensor([c[i] for c in cells], dtype=torch.float64)[:, None].expand(-1, 3) for i, n in enumerate("ab")}, torch.arange(3))
    every = total(each[:, None, None, 0] + each[None, :, None, 1] + each[None, None, :, 2])
    start = {n: torch.tensor([0.0, 4.0, 5.0], dtype=torch.float64) for n in "ab"}
    assert float(polish_together(contribution, total, start, lattice=BOX, exchange=0).value) > float(every.min()) + 0.1  # the budget does not change hands
    found = polish_together(contribution, total, start, lattice=BOX, chunk=2)
    assert float(found.value) == pytest.approx(float(every.min()), abs=1e-12)
    assert bool(found.settled.all())
    again = contribution({n: x[None] for n, x in found.decision.items()}, torch.arange(3))[0].sum(0)
    assert float(total(again)) == float(found.value)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), items=st.integers(1, 6))
def test_together_it_is_never_worse_and_no_single_move_is_better(seed: int, items: int) -> None:
    costs = table(seed, items)

    def contribution(candidates: dict[str, Tensor], which: Tensor) -> Tensor:
        return torch.stack([looked_up(costs)(candidates, which), candidates["a"]], -1)

    def total(x: Tensor) -> Tensor:
        return x[..., 0] + 0.3 * (x[..., 1] - 2 * items).abs()

    start = {n: torch.randint(0, 8, (items,), generator=torch.Generator().manual_seed(seed + i)).double() for i, n in enumerate("ab")}
    found = polish_together(contribution, total, start, lattice=BOX, chunk=4)
    assert float(found.value) <= float(found.start)
    a, b = (found.decision[n].long() for n in "ab")
    for i, x, y in itertools.product(range(items), range(8), range(8)):
        if max(abs(x - int(a[i])), abs(y - int(b[i]))) == 1:
            other_a, other_b = a.clone(), b.clone()
            other_a[i], other_b[i] = x, y
            value = costs[torch.arange(items), other_a, other_b].sum() + 0.3 * (other_a.sum() - 2 * items).abs()
            assert float(value) >= float(found.value) - 1e-12


def test_what_does_not_fit_is_named() -> None:
    one = {"a": torch.zeros(1), "b": torch.zeros(1)}
    with pytest.raises(InputError, match="objective at the start must be finite, got nan for item 0"):
        polish(lambda c, i: c["a"] * torch.nan, one, lattice=BOX)
    with pytest.raises(ShapeError, match=r"one value a candidate and item, \(C, n\) = \(1, 1\), got \(1,\)"):
        polish(lambda c, i: c["a"][:, 0], one, lattice=BOX)
    with pytest.raises(ShapeError, match=r"contribution must have shape \(C, n, M\)"):
        polish_together(lambda c, i: c["a"], lambda x: x.sum(-1), one, lattice=BOX)
    with pytest.raises(ShapeError, match=r"start b must have shape \(N,\) = \(1,\), got \(2,\)"):
        polish(looked_up(table(0, 1)), {"a": torch.zeros(1), "b": torch.zeros(2)}, lattice=BOX)
    with pytest.raises(InputError, match="reach of a must be >= 1, got 0"):
        polish(looked_up(table(0, 1)), one, lattice=Lattice(BOX.lower, reach={"a": 0.2}))
    with pytest.raises(InputError, match="a block of the lattice"):
        polish(looked_up(table(0, 1)), one, lattice=Lattice(BOX.lower, upper={"c": 1}))
    with pytest.raises(InputError, match="at least one block"):
        polish(looked_up(table(0, 1)), {}, lattice=Lattice({}))
