"""Replenishment of many articles by the extended (R, s, Q) policy: gradients first, an exact integer polish last.

Every article has four parameters (week and size of a first order, trigger level, size of later orders). What is minimised is a risk of the simulated cost:
article by article, or of the total where the articles share a warehouse. `descend` follows the gradient of a relaxed reading from several starts at once;
`finish` rounds to whole units and polishes on the exact reading, so that the result is never worse than its start.
Source: after Presbitero et al. (2025), doi:10.1038/s41598-025-32537-2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError
from dpsc.instances.replenishment import WEEKS, Articles, Paths
from dpsc.objective.risk import Quantile, RiskMeasure
from dpsc.relax import Exact, ItemDifferences
from dpsc.search import Lattice, Polished, polish, polish_together
from dpsc.simulate.replenishment import PARAMETERS, Simulated, simulate, with_shared_warehouse
from dpsc.training import fit
from dpsc.types import Relaxation

QUANTITIES = PARAMETERS[1:]
_P75 = Quantile(0.75)
_COLUMNS = 400  # candidates x articles in one simulation: with 256 futures in float32 the tensors of a week stay in the cache


@dataclass(frozen=True)
class ReplenishmentProblem:
    """N articles on S futures.

    Attributes:
        articles: costs and rates.
        paths: futures.
        trigger: "position" (stock + on order <= s) or "idle" (stock <= s and nothing on order).
        measure: of the cost over the futures.
        warehouse: units that all articles may hold together at the end of a week, and the price of a unit and week above; articles do not interact if None.
    """

    articles: Articles
    paths: Paths
    trigger: str = "position"
    measure: RiskMeasure = _P75
    warehouse: tuple[float, float] | None = None

    @property
    def count(self) -> int:
        """N."""
        return len(self.articles.scale)

    def play(self, parameters: Mapping[str, Tensor], *, relax: Relaxation | ItemDifferences) -> Simulated:
        """Cost and stock of every article on every future; see `objective`."""

        def exactly(theta: Mapping[str, Tensor], reading: Relaxation) -> Simulated:
            return simulate(theta, self.paths, articles=self.articles, relax=reading, trigger=self.trigger)

        if not isinstance(relax, ItemDifferences):
            return exactly(parameters, relax)
        if self.warehouse is None:  # nobody looks at the stock
            (money,) = relax.evaluate(lambda theta: (exactly(theta, Exact()).cost,), parameters)
            return Simulated(money, ())

        def flat(theta: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            played = exactly(theta, Exact())
            return (played.cost, *played.on_hand)

        money, *on_hand = relax.evaluate(flat, parameters)
        return Simulated(money, tuple(on_hand))

    def objective(self, parameters: Mapping[str, Tensor], *, relax: Relaxation | ItemDifferences, measured: Relaxation | None = None) -> Tensor:
        """What is minimised.

        Args:
            parameters: as `simulate` takes them, `(..., N)` each, in weeks and multiples of the article's scale.
            relax: reading of the simulator, or differences of it: articles meet only in what comes after, so that they are exact for any number of articles.
            measured: reading of the measure; exact where None.
        Returns: `(..., N)` risk of every article's cost, or `(...)` of the total where there is a warehouse.
        Gradient: of the readings.
        """
        measured = Exact() if measured is None else measured
        played = self.play(parameters, relax=relax)
        if self.warehouse is None:
            return self.measure(played.cost, relax=measured)
        return self.measure(with_shared_warehouse(played, capacity=self.warehouse[0], price=self.warehouse[1]), relax=measured, dim=-1)

    def part(self, items: Tensor | slice) -> ReplenishmentProblem:
        """The same for some articles, which may repeat."""
        return replace(self, articles=Articles(*(x[..., items] for x in self.articles)), paths=Paths(*(x[..., items] for x in self.paths)))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> ReplenishmentProblem:
        """The same in another precision or on another device; float32 holds all units exactly, and money to seven digits."""
        return replace(self, articles=Articles(*(x.to(device, dtype) for x in self.articles)), paths=Paths(*(x.to(device, dtype) for x in self.paths)))

    def units(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole weeks and units that play the same, or nearly: the trigger level is the largest whole number not above s (it is compared with whole stock)."""
        scale = self.articles.scale
        return {
            "kick_week": parameters["kick_week"].clamp(0, WEEKS - 1).round(),
            "kick_order": (parameters["kick_order"].clamp_min(0) * scale).round(),
            "reorder_point": (parameters["reorder_point"] * scale).floor().clamp_min(-1),
            "order_quantity": (parameters["order_quantity"].clamp_min(0) * scale).round().clamp_min(1),
        }

    def parameters(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters that play whole weeks and units; half a unit is added to the trigger level, so that no rounding can touch it."""
        scale = self.articles.scale
        shifted = {**units, "reorder_point": units["reorder_point"] + 0.5}
        return {name: shifted[name].to(scale) / (scale if name in QUANTITIES else 1) for name in PARAMETERS}


def side_by_side(problems: Sequence[ReplenishmentProblem]) -> ReplenishmentProblem:
    """Problems on equally many futures, which need not be the same, as one problem whose articles do not interact.

    Raises: InputError where they differ in trigger, measure or number of futures, or share a warehouse.
    """
    if not problems:
        raise InputError("side_by_side needs at least one problem, got none")
    first = problems[0]
    for i, one in enumerate(problems):
        if one.warehouse is not None:
            raise InputError(f"problem {i} shares a warehouse: its articles interact")
        if (one.trigger, one.measure, one.paths.demand.shape[1]) != (first.trigger, first.measure, first.paths.demand.shape[1]):
            raise InputError(f"problem {i} differs from the first in trigger, measure or number of futures")
    fields = [torch.cat(pieces, -1) for pieces in zip(*((*one.articles, *one.paths) for one in problems), strict=True)]
    split = len(first.articles)
    return replace(first, articles=Articles(*fields[:split]), paths=Paths(*fields[split:]))


def point_forecast(paths: Paths) -> Paths:
    """One future, `(T, 1, N)`: mean demand, lead time and return lag, in whole units and weeks; what a planner without distributions believes."""
    demand, lead_time, return_lag = (x.mean(1, keepdim=True).round() for x in (paths.demand, paths.lead_time, paths.return_lag))
    return Paths(demand, lead_time, return_lag, torch.full_like(demand, 0.5))


def starts(problem: ReplenishmentProblem, first: Mapping[str, float], count: int, *, spread: float, seed: int) -> dict[str, Tensor]:
    """Several starting points an article: the given one, and others around it.

    Args:
        problem: for N, precision and device.
        first: parameter -> value, the same for all articles.
        count: K >= 1.
        spread: standard deviation of the others, in weeks and multiples of scale; cut at a tenth of the scale, weeks at 0.
        seed: of the draws.
    Returns: parameter -> `(K, N)`.
    """
    checks.exact_names("first", first, PARAMETERS)
    like = problem.articles.scale
    item, start = torch.arange(problem.count, device=like.device), torch.arange(checks.at_least("count", count, 1), device=like.device)[:, None]
    found = {}
    for name in PARAMETERS:
        z = noise.normal(seed, f"start {name}", item, start).to(like)
        moved = (first[name] + spread * z).clamp_min(0.0 if name == "kick_week" else 0.1)
        found[name] = torch.where(start == 0, torch.full_like(z, first[name]), moved)
    return found


def descend(
    problem: ReplenishmentProblem,
    start: Mapping[str, Tensor],
    *,
    reading: Callable[[float], Relaxation] | Relaxation | ItemDifferences,
    measured: Relaxation,
    optimizer: Callable[..., torch.optim.Optimizer],
    steps: int,
    shard: int = 100,
) -> dict[str, Tensor]:
    """Follow the gradient with a falling rate, from all starts at once.

    Args:
        problem: what to minimise.
        start: parameter -> `(K, N)`.
        reading: of the simulator, or a schedule of readings over the fraction done; or item differences, for example `differences(problem)`.
        measured: reading of the measure: many futures must steer, not one or two.
        optimizer: partial of torch.optim; its rate falls linearly to zero.
        steps: how many.
        shard: articles trained in one go where they do not interact; the result does not depend on it.
    Returns: parameter -> `(K, N)`, inside the bounds.
    """
    checks.exact_names("start", start, PARAMETERS)
    if problem.warehouse is None and problem.count > shard:
        parts = []
        for first in range(0, problem.count, checks.at_least("shard", shard, 1)):
            cut = slice(first, first + shard)
            some = {name: x[:, cut] for name, x in start.items()}
            read = reading.part(cut) if isinstance(reading, ItemDifferences) else reading
            parts.append(descend(problem.part(cut), some, reading=read, measured=measured, optimizer=optimizer, steps=steps, shard=shard))
        return {name: torch.cat([part[name] for part in parts], -1) for name in PARAMETERS}
    leaves = {name: start[name].detach().clone().requires_grad_() for name in PARAMETERS}

    def project() -> None:
        with torch.no_grad():
            leaves["kick_week"].clamp_(0, WEEKS - 1)
            leaves["kick_order"].clamp_(min=0)
            leaves["order_quantity"].clamp_(min=0)

    def loss(_: None, done: float) -> Tensor:
        project()
        relax = reading if isinstance(reading, (Relaxation, ItemDifferences)) else reading(done)
        return problem.objective(leaves, relax=relax, measured=measured)

    fit(loss, optimizer=optimizer(list(leaves.values())), batches=lambda _: [None], epochs=steps, rate=lambda done: 1 - done)
    project()
    return {name: x.detach() for name, x in leaves.items()}


def differences(problem: ReplenishmentProblem, *, weeks: float = 1.0, units: float = 2.0) -> ItemDifferences:
    """Differences one week and two units wide on either side: what a step of that size changes, jumps and all.

    Nine exact evaluations for value and gradient, for one article as for a million.
    """
    h = units / problem.articles.scale
    return ItemDifferences(
        width={"kick_week": weeks, **{name: h for name in QUANTITIES}},
        lower={"kick_week": 0.0, "kick_order": 0.0, "order_quantity": 0.0},
    )


def finish(
    problem: ReplenishmentProblem,
    parameters: Mapping[str, Tensor],
    *,
    measured: Relaxation | None = None,
    finalists: int = 1,
    reach: float = 0.25,
    together: int = 2,
    rounds: int = 60,
) -> Polished:
    """Whole weeks and units, polished on the exact simulator.

    Args:
        problem: what to minimise.
        parameters: parameter -> `(K, N)`, the ends of K descents.
        measured: reading of the measure: exact where None; smoothed, it does not chase the quirks of a few futures.
        finalists: how many of the K are polished, the best of every article first; one where articles share a warehouse.
        reach: first step of the quantities, in multiples of the article's scale.
        together: parameters of an article that may move at once.
        rounds: at most so many.
    Returns: the polished integers `(N,)`, values by `measured`.
    """
    checks.exact_names("parameters", parameters, PARAMETERS)
    measured = Exact() if measured is None else measured
    whole = problem.units(parameters)
    with torch.no_grad():
        if problem.warehouse is not None:
            if finalists != 1:
                raise InputError(f"finalists must be 1 where articles share a warehouse, got {finalists}")
            value = problem.objective(problem.parameters(whole), relax=Exact(), measured=measured)
            lowest = {name: x[value.argmin()] for name, x in whole.items()}
            return _finish_together(problem, lowest, measured, _lattice(problem.articles.scale, reach, together), rounds)
        article = torch.arange(problem.count, device=problem.articles.scale.device)
        starting = torch.cat([_scored(problem, {name: x[k : k + 1] for name, x in whole.items()}, article, measured) for k in range(len(whole["kick_week"]))])
        order = starting.argsort(0)[: checks.at_least("finalists", finalists, 1)]  # (k, N)
        chosen = {name: x.gather(0, order).flatten() for name, x in whole.items()}
        repeated = article.repeat(len(order))
        lattice = _lattice(problem.articles.scale[repeated], reach, together)
        found = polish(lambda candidates, items: _scored(problem, candidates, repeated[items], measured), chosen, lattice=lattice, rounds=rounds)
        value = found.value.reshape(len(order), -1)
        best = value.argmin(0)
        pick = best * problem.count + article
        return Polished(
            {name: x[pick] for name, x in found.decision.items()},
            found.value[pick],
            starting.amin(0),
            found.evaluations + starting.numel(),
            found.settled[pick],
        )


def _lattice(scale: Tensor, reach: float, together: int) -> Lattice:
    return Lattice(
        lower={"kick_week": 0, "kick_order": 0, "reorder_point": -1, "order_quantity": 1},
        upper={"kick_week": WEEKS - 1},
        reach={name: (reach * scale).clamp_min(1) for name in QUANTITIES},
        together=together,
    )


def _scored(problem: ReplenishmentProblem, units: Mapping[str, Tensor], articles: Tensor, measured: Relaxation) -> Tensor:
    """Exact simulation of `(C, n)` candidates for n articles, in pieces that fit the cache."""
    columns = []
    for cut in torch.arange(len(articles), device=articles.device).split(100):
        part = problem.part(articles[cut])
        rows = []
        for first in range(0, len(units["kick_week"]), max(1, _COLUMNS // len(cut))):
            some = {name: x[first : first + max(1, _COLUMNS // len(cut)), cut] for name, x in units.items()}
            rows.append(part.objective(part.parameters(some), relax=Exact(), measured=measured))
        columns.append(torch.cat(rows))
    return torch.cat(columns, -1)


def _finish_together(problem: ReplenishmentProblem, start: Mapping[str, Tensor], measured: Relaxation, lattice: Lattice, rounds: int) -> Polished:
    """What articles add up: their cost on every future, and their stock on every future at the end of every week."""
    assert problem.warehouse is not None
    capacity, price = problem.warehouse
    futures = problem.paths.demand.shape[1]

    def contribution(units: Mapping[str, Tensor], items: Tensor) -> Tensor:
        part = problem.part(items)
        played = simulate(part.parameters(units), part.paths, articles=part.articles, relax=Exact(), trigger=part.trigger)
        return torch.stack([played.cost, *played.on_hand], -3).movedim(-1, 1).flatten(-2).double()

    def total(added: Tensor) -> Tensor:
        own, stock = added[..., :futures], added[..., futures:].unflatten(-1, (-1, futures))
        return problem.measure(own + price * (stock - capacity).clamp_min(0).sum(-2), relax=measured, dim=-1)

    return polish_together(contribution, total, start, lattice=lattice, rounds=rounds, chunk=10)
