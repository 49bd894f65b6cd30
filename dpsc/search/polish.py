"""Integer polish: the last step after a gradient, exact and never worse than its start.

A gradient ends near a good point of a smoothed program, at numbers that must be rounded. From there the exact objective is asked about neighbours on the
integer lattice, far ones first and near ones last, until no neighbour is better. Items are moved side by side: where they do not interact, every item takes
its own best move in the same evaluation; where they share something, moves are valued one by one and then taken together as long as the exact total falls.
Source: pattern search, Hooke & Jeeves (1961), doi:10.1145/321062.321069, on a lattice, with pairs of coordinates moved together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError

Decision = Mapping[str, Tensor]
Objective = Callable[[dict[str, Tensor], Tensor], Tensor]
Contribution = Callable[[dict[str, Tensor], Tensor], Tensor]
Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lattice:
    """Which integers are allowed, and how far the first moves go.

    Args:
        lower: block -> smallest value, a number or `(N,)`.
        upper: block -> largest value; none where absent.
        reach: block -> first step, >= 1, a number or `(N,)`, rounded to a whole number and halved until it is 1; 1 where absent.
        together: how many blocks of an item may move at once, >= 1; 2 sees trade-offs between any two.
    """

    lower: Mapping[str, float | Tensor]
    upper: Mapping[str, float | Tensor] | None = None
    reach: Mapping[str, float | Tensor] | None = None
    together: int = 2


@dataclass(frozen=True)
class Polished:
    """Where the polish ended.

    Attributes:
        decision: block -> `(N,)` whole numbers.
        value: `(N,)` objective of every item, or `()` of all together.
        start: the same at the start.
        evaluations: how often the objective was asked about one item.
        settled: `(N,)` whether the item's last round found no better neighbour at step 1 (else the rounds ran out).
    """

    decision: dict[str, Tensor]
    value: Tensor
    start: Tensor
    evaluations: int
    settled: Tensor


def polish(objective: Objective, start: Decision, *, lattice: Lattice, rounds: int = 100) -> Polished:
    """Improve items that do not interact, all at once.

    Args:
        objective: `(candidates, items)`, block -> `(C, n)` whole numbers and the `(n,)` indices of the items they belong to -> `(C, n)` exact objective. Only
            items that still move are asked about.
        start: block -> `(N,)`; rounded to the lattice.
        lattice: the integers.
        rounds: at most so many moves an item.
    Returns: the best point met; its value is at most that of the start, for every item.
    Gradient: none.
    Raises: InputError, ShapeError for a start or an objective that does not fit; InputError where the start's objective is not finite.
    """
    now, step, moves = _prepared(start, lattice, rounds)
    everything = torch.arange(next(iter(now.values())).shape[0], device=next(iter(now.values())).device)
    value = _asked(objective, {name: x[None] for name, x in now.items()}, everything)[0].clone()
    _finite_start(value)
    first, evaluations = value.clone(), len(value)
    active, settled = everything, torch.zeros(len(value), dtype=torch.bool, device=value.device)
    for _ in range(rounds):
        if not len(active):
            break
        candidates = _neighbours(now, step, moves, lattice, active)
        found = _asked(objective, candidates, active)
        evaluations += found.numel()
        best, which = torch.where(found.isnan(), torch.inf, found).min(0)
        better = best < value[active]
        item, pick = active[better], which[better]
        for name, x in candidates.items():
            now[name][item] = x[:, better].gather(0, pick[None])[0]
        value[item] = best[better]
        active, settled = _shrink(step, active, better, settled)
    return Polished(now, value, first, evaluations, settled)


def polish_together(
    contribution: Contribution, total: Total, start: Decision, *, lattice: Lattice, rounds: int = 100, chunk: int = 64, exchange: int = 48
) -> Polished:
    """Improve items that interact through a sum: objective = total(sum over items of their contributions).

    A shared capacity, a budget and the risk of a summed cost are of this form: the contribution of an item is its cost on every future and its use of the
    shared resource in every period. A move of one item is then valued exactly at the price of simulating that item. Every round values all moves of all items;
    the best move of each is put into the order of its gain, and the first k of them are taken together, k by the exact total of every such beginning. Where no
    single move helps, the least bad ones are tried in pairs of two items, so that a scarce resource can change hands.

    Args:
        contribution: `(candidates, items)`, block -> `(C, n)` and `(n,)` -> `(C, n, M)`, M numbers that add up over items.
        total: `(..., M)` summed -> `(...)` exact objective.
        start: block -> `(N,)`; rounded to the lattice.
        lattice: the integers.
        rounds: at most so many.
        chunk: items whose moves are valued in one call; the memory is that of chunk x moves x M numbers.
        exchange: how many moves are tried in pairs; 0 for none.
    Returns: the best point met; its value is at most that of the start.
    Gradient: none.
    Raises: as `polish`.
    """
    now, step, moves = _prepared(start, lattice, rounds)
    checks.at_least("exchange", exchange, 0)
    count = next(iter(now.values())).shape[0]
    everything = torch.arange(count, device=next(iter(now.values())).device)
    held = torch.cat([_contributed(contribution, _of(now, part), part)[0] for part in everything.split(chunk)])  # (N, M)
    value = total(held.sum(0))
    _finite_start(value[None])
    first, evaluations = value.clone(), count
    active, settled, moved = everything, torch.zeros(count, dtype=torch.bool, device=held.device), False
    for _ in range(rounds):
        if not len(active):
            if not moved:
                break
            active, settled, moved = everything, torch.zeros_like(settled), False  # what the others did may have opened a move
        summed = held.sum(0)
        offers = [_offered(contribution, total, part, now, step, moves, lattice, held, summed, exchange) for part in active.split(chunk)]
        evaluations += len(moves) * len(active)
        own = _Offers(*(torch.cat([getattr(o[0], field) for o in offers], -1 if field == "point" else 0) for field in _Offers._fields))
        order = own.value.argsort()
        order = order[own.value[order] < value]
        better = torch.zeros(len(active), dtype=torch.bool, device=held.device)
        better[order] = True  # those that cannot be taken beside the others keep their step too
        if len(order):
            beginnings = total(summed + own.change[order].cumsum(0))
            taken, chosen = order[: int(beginnings.argmin()) + 1], own
        else:
            chosen = _Offers(*(torch.cat([getattr(o[1], field) for o in offers], -1 if field == "point" else 0) for field in _Offers._fields))
            taken = _exchange(chosen, total, summed, value, exchange)
            better = better | torch.isin(active, chosen.item[taken])
        if len(taken):
            item = chosen.item[taken]
            after = held.clone()
            after[item] += chosen.change[taken]
            reached = total(after.sum(0))
            if bool(reached < value):  # rounding aside, always
                for i, name in enumerate(now):
                    now[name][item] = chosen.point[i, taken]
                held, value, moved = after, reached, True
            else:
                better[:] = False
        active, settled = _shrink(step, active, better, settled)
    return Polished(now, value, first, evaluations, settled)


class _Offers(NamedTuple):
    """Moves of single items: whose `(K,)`, where to `(blocks, K)`, the change of the contributions `(K, M)`, the total after it `(K,)`."""

    item: Tensor
    point: Tensor
    change: Tensor
    value: Tensor


def _offered(
    contribution: Contribution,
    total: Total,
    items: Tensor,
    now: Decision,
    step: Decision,
    moves: Tensor,
    lattice: Lattice,
    held: Tensor,
    summed: Tensor,
    exchange: int,
) -> tuple[_Offers, _Offers]:
    """The best move of every item, and the least bad ones of all for an exchange."""
    candidates = _neighbours(now, step, moves, lattice, items)
    change = _contributed(contribution, candidates, items) - held[items]
    after = total(summed + change)
    after = torch.where(after.isnan(), torch.inf, after)
    point = torch.stack(list(candidates.values()))  # (blocks, C, n)
    stays = (point == torch.stack([now[name][items] for name in now])[:, None]).all(0)  # a bound kept it where it is: nothing to exchange
    best = after.argmin(0)
    place = torch.arange(len(items), device=best.device)
    few = torch.where(stays, torch.inf, after).flatten().argsort()[:exchange]
    row, column = few // len(items), few % len(items)
    return (
        _Offers(items, point[:, best, place], change[best, place], after[best, place]),
        _Offers(items[column], point[:, row, column], change[row, column], after[row, column]),
    )


def _exchange(offers: _Offers, total: Total, summed: Tensor, value: Tensor, exchange: int) -> Tensor:
    """The best pair of moves of two items, if it is better: one gives what the other takes."""
    few = offers.value.argsort()[:exchange]
    if len(few) < 2:
        return few[:0]
    one, other = torch.triu_indices(len(few), len(few), 1, device=few.device)
    keep = offers.item[few[one]] != offers.item[few[other]]
    one, other = few[one[keep]], few[other[keep]]
    best, pair = value, few[:0]
    for part in torch.arange(len(one), device=few.device).split(256):
        found = total(summed + offers.change[one[part]] + offers.change[other[part]])
        found = torch.where(found.isnan(), torch.inf, found)
        if len(found) and bool(found.min() < best):
            best, at = found.min(), part[found.argmin()]
            pair = torch.stack([one[at], other[at]])
    return pair


def _prepared(start: Decision, lattice: Lattice, rounds: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """The rounded start, the first steps, and the moves `(C, blocks)` in -1, 0, 1."""
    checks.at_least("rounds", rounds, 0)
    checks.at_least("together", lattice.together, 1)
    if not start:
        raise InputError("the start must have at least one block, got none")
    checks.exact_names("lower", lattice.lower, start)
    for name in (*(lattice.upper or {}), *(lattice.reach or {})):
        checks.one_of("a block of the lattice", name, start)
    shape = next(iter(start.values())).shape
    now, step = {}, {}
    for name, x in start.items():
        if x.dim() != 1 or x.shape != shape:
            raise ShapeError(f"start {name} must have shape (N,) = {tuple(shape)}, got {tuple(x.shape)}")
        checks.finite(f"start {name}", x)
        now[name] = _clipped(x.detach().round().clone(), name, lattice, slice(None))
        step[name] = (torch.as_tensor((lattice.reach or {}).get(name, 1.0)).to(x) * torch.ones_like(x)).round()
        if not bool((step[name] >= 1).all()):
            raise InputError(f"reach of {name} must be >= 1, got {float(step[name].min())}")
    some = next(iter(now.values()))
    moves = [m for m in itertools.product((-1.0, 0.0, 1.0), repeat=len(now)) if 0 < sum(map(abs, m)) <= lattice.together]
    return now, step, torch.tensor(moves, dtype=some.dtype, device=some.device)


def _of(now: Decision, items: Tensor) -> dict[str, Tensor]:
    return {name: x[None, items] for name, x in now.items()}


def _clipped(x: Tensor, name: str, lattice: Lattice, items: Tensor | slice) -> Tensor:
    """Into the bounds of the items in the last dimension."""
    for bound, cut in ((lattice.lower[name], torch.maximum), ((lattice.upper or {}).get(name), torch.minimum)):
        if bound is not None:
            limit = torch.as_tensor(bound).to(x)
            x = cut(x, limit[items] if limit.dim() else limit)
    return x


def _neighbours(now: Decision, step: Decision, moves: Tensor, lattice: Lattice, items: Tensor) -> dict[str, Tensor]:
    """Block -> `(C, n)` candidates."""
    return {name: _clipped(now[name][items] + moves[:, i, None] * step[name][items], name, lattice, items) for i, name in enumerate(now)}


def _asked(objective: Objective, candidates: dict[str, Tensor], items: Tensor) -> Tensor:
    found = objective(candidates, items)
    shape = next(iter(candidates.values())).shape
    if found.shape != shape:
        raise ShapeError(f"the objective must return one value a candidate and item, (C, n) = {tuple(shape)}, got {tuple(found.shape)}")
    return found.detach()


def _contributed(contribution: Contribution, candidates: dict[str, Tensor], items: Tensor) -> Tensor:
    found = contribution(candidates, items)
    shape = next(iter(candidates.values())).shape
    if found.dim() != 3 or found.shape[:2] != shape:
        raise ShapeError(f"the contribution must have shape (C, n, M) with (C, n) = {tuple(shape)}, got {tuple(found.shape)}")
    return found.detach()


def _finite_start(value: Tensor) -> None:
    bad = (~torch.isfinite(value)).nonzero()
    if len(bad):
        raise InputError(f"the objective at the start must be finite, got {float(value[bad[0, 0]])} for item {int(bad[0, 0])}")


def _shrink(step: dict[str, Tensor], active: Tensor, better: Tensor, settled: Tensor) -> tuple[Tensor, Tensor]:
    """Halve the steps of items that found nothing better; an item at step 1 in all blocks is done."""
    stuck = active[~better]
    done = torch.stack([s[stuck] <= 1 for s in step.values()]).all(0)
    for s in step.values():
        s[stuck] = (s[stuck] / 2).floor().clamp_min(1)
    settled[stuck[done]] = True
    keep = better.clone()
    keep[~better] = ~done
    return active[keep], settled
