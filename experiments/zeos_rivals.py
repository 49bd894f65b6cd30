"""Gradients against search without gradients on the replenishment problem: same simulator, same start, same budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.instances import replenishment as world
from dpsc.instances.replenishment import EXTENDED_RSQ
from dpsc.objective.risk import RiskMeasure
from dpsc.relax import Exact
from dpsc.report import Outcome, Section
from dpsc.report.search_curves import SearchTrace, search_curves
from dpsc.scenarios.replenishment import ReplenishmentProblem
from dpsc.search import Method, minimise
from dpsc.simulate.replenishment import PARAMETERS, Replenishment, with_shared_warehouse
from dpsc.types import Relaxation
from experiments.context import RunContext
from experiments.zeos import FIRST, OPTIMISE, REPORT, Recipe, optimise

OURS = "gradient"
GRADIENT_COST = 4.0  # simulations that a forward and a backward pass cost together, at most


def run(
    *,
    context: RunContext,
    measure: RiskMeasure,
    seconds: float,
    compiled: bool,
    problems: Mapping[str, Mapping[str, Any]],
    methods: Mapping[str, Method],
    left_out: Mapping[str, Mapping[str, str]],
    largest: Sequence[float],
) -> Outcome:
    """Every method on every problem.

    Args:
        context: of the run.
        measure: of the cost.
        seconds: of processor time, for every method on every problem.
        compiled: whether the simulator of the methods without gradients is compiled (outside of their budget).
        problems: label -> `articles`, `futures`, `coupled`, `recipe` (of the gradient), `shard` (articles at a time), `rows` (candidates in one simulation).
        methods: label -> method.
        left_out: problem -> method -> why it is not run there.
        largest: upper bounds of the four parameters, for methods that search a box.
    """
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    traces: dict[str, dict[str, SearchTrace]] = {}
    learned: dict[str, dict[str, Tensor]] = {}
    for label, given in context.track(problems.items(), "problems", len(problems)):
        optimised, fresh = _pair(context, measure, given["articles"], given["futures"], given["coupled"])
        dimensions = 4 * optimised.count
        objective = _objective(optimised.to(dtype=torch.float32), given["rows"], compiled)
        start = torch.tensor([FIRST[name] for name in PARAMETERS], dtype=torch.float64).repeat(optimised.count, 1)
        trace, best, ended = _gradient(optimised, objective, start, given["recipe"], given["shard"], context.seed)
        curves = {OURS: trace}
        ours = _value(fresh, _named(best))
        found = [(OURS, trace, best, ended)]
        for name, method in methods.items():
            why = left_out.get(label, {}).get(name)
            if why is not None:
                rows.append({"problem": label, "parameters": dimensions, "method": name, "ended": f"not run: {why}"})
                continue
            result = minimise(
                objective,
                start,
                method=method,
                seconds=seconds,
                bounds=(torch.zeros(4), torch.tensor(list(largest))),
                rows=given["rows"],
                seed=context.seed,
                clock=time.process_time,
            )
            curves[name] = SearchTrace(result.trace.evaluations, result.trace.seconds, result.trace.value)
            found.append((name, curves[name], result.point, result.ended))
        for name, curve, point, ended in found:
            value = _value(fresh, _named(point))
            key = f"{label}_{name.lower().replace('-', '_').replace(' ', '_')}"
            metrics |= {
                f"fresh_{key}": value,
                f"optimised_{key}": curve.value[-1],
                f"seconds_{key}": curve.seconds[-1],
                f"evaluations_{key}": curve.evaluations[-1],
            }
            if name != OURS:
                metrics[f"ratio_{key}"] = value / ours
            rows.append(
                {
                    "problem": label,
                    "parameters": dimensions,
                    "method": name,
                    "optimised": curve.value[-1],
                    "fresh": value,
                    "ratio": value / ours,
                    "evaluations": curve.evaluations[-1],
                    "seconds": curve.seconds[-1],
                    "ended": ended,
                }
            )
        traces[f"{dimensions} parameters{', shared warehouse' if given['coupled'] else ''}"] = curves
        learned[label] = _named(best)
    return _outcome(metrics, rows, traces, learned, seconds)


def _pair(context: RunContext, measure: RiskMeasure, count: int, futures: int, coupled: bool) -> tuple[ReplenishmentProblem, ReplenishmentProblem]:
    """The problem on the futures to optimise on, and on fresh ones."""
    of = world.articles(count)
    warehouse = world.shared_warehouse(of) if coupled else None
    optimised, fresh = (
        ReplenishmentProblem(of, world.paths(of, paths, seed=seed), measure=measure, warehouse=warehouse)
        for paths, seed in ((futures, OPTIMISE), (world.report_paths(count), REPORT))
    )
    return optimised.to(device=context.device), fresh.to(device=context.device)


def _value(problem: ReplenishmentProblem, parameters: Mapping[str, Tensor]) -> float:
    with torch.no_grad():
        return float(problem.objective(parameters, relax=Exact()).sum())


def _named(point: Tensor) -> dict[str, Tensor]:
    """`(..., N, 4)` -> the parameters by name."""
    return dict(zip(PARAMETERS, point.unbind(-1), strict=True))


def _objective(problem: ReplenishmentProblem, rows: int, compiled: bool) -> Callable[[Tensor], Tensor]:
    """`(C, N, 4)` candidates -> `(C, N)` risks, or `(C,)` of the total with a warehouse; exact.

    Calls have one of two sizes, one candidate or `rows` (filled up), so that a compiled simulator compiles twice; both are called once here.
    """
    simulator = Replenishment(problem.paths, articles=problem.articles, trigger=problem.trigger, compiled=compiled)

    def evaluate(points: Tensor) -> Tensor:
        count = len(points)
        if 1 < count < rows:
            points = torch.cat([points, points[:1].expand(rows - count, *points.shape[1:])])
        theta = _named(points.float())
        if problem.warehouse is None:
            return problem.measure(simulator.cost(theta, relax=Exact()))[:count].double()
        capacity, price = problem.warehouse
        played = with_shared_warehouse(simulator.simulate(theta, relax=Exact()), capacity=capacity, price=price)
        return problem.measure(played, dim=-1)[:count].double()

    with torch.no_grad():
        for count in (1, rows):
            evaluate(torch.zeros(count, problem.count, 4))
    return evaluate


def _gradient(
    problem: ReplenishmentProblem, objective: Callable[[Tensor], Tensor], start: Tensor, recipe: Recipe, shard: int, seed: int
) -> tuple[SearchTrace, Tensor, str]:
    """The gradient route, some articles at a time where they do not interact; looking at it costs no time on its clock.

    Returns: the trace, `(N, 4)` parameters, how it ended.
    """
    watch = _Watch(problem, objective, start, recipe)
    watch.look(start[None])
    size = problem.count if problem.warehouse is not None else min(shard, problem.count)
    for first in range(0, problem.count, size):
        part = problem if size >= problem.count else problem.part(slice(first, first + size))
        watch.enter(slice(first, first + size))
        found = optimise(part, watch.recipe, seed)
        watch.leave(found.polished.evaluations / problem.count, torch.stack([found.parameters[name].double() for name in PARAMETERS], -1))
    return watch.trace, watch.point, "its own stopping rule"


class _Watch:
    """Notes the exact value of where the gradient stands, from within the calls that the recipe makes anyway."""

    def __init__(self, problem: ReplenishmentProblem, objective: Callable[[Tensor], Tensor], start: Tensor, recipe: Recipe) -> None:
        self.problem, self.objective, self.point = problem, objective, start.clone()
        self.trace = SearchTrace([], [], [])
        self.leaves: list[Tensor] = []
        self.items, self.share, self.evaluations, self.paused = slice(None), 1.0, 1.0, 0.0
        self.begin = time.process_time()
        self.recipe = replace(recipe, optimizer=self._optimizer(recipe.optimizer), reading=self._reading(recipe.reading))
        self.starts, self.every = recipe.starts, max(1, recipe.steps // 20)
        self.steps = 0

    def _optimizer(self, build: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
        def watched(leaves: list[Tensor]) -> torch.optim.Optimizer:
            self.leaves = leaves
            return build(leaves)

        return watched

    def _reading(self, reading: Callable[[float], Relaxation] | Relaxation) -> Callable[[float], Relaxation]:
        def watched(done: float) -> Relaxation:
            if self.steps and self.steps % self.every == 0:
                self.look(torch.stack([leaf.detach().double() for leaf in self.leaves], -1))
            self.steps += 1
            self.evaluations += GRADIENT_COST * self.starts * self.share
            return reading if isinstance(reading, Relaxation) else reading(done)

        return watched

    def enter(self, items: slice) -> None:
        """Some articles begin."""
        self.items, self.share, self.steps = items, len(self.point[items]) / len(self.point), 0

    def leave(self, evaluations: float, point: Tensor) -> None:
        """They are finished: the polished point is what they keep."""
        self.evaluations += evaluations
        self.look(point[None], keep=True)

    def look(self, points: Tensor, *, keep: bool = False) -> None:
        """Value of `(K, n, 4)` points of the current articles, the others as they are; the clock stands still."""
        seconds, stopped = time.process_time() - self.begin - self.paused, time.process_time()
        whole = self.point.expand(len(points), *self.point.shape).clone()
        whole[:, self.items] = points
        with torch.no_grad():
            value = torch.cat([self.objective(row[None]) for row in whole])
        if value.dim() == 2:  # every article has its own best start
            best = value.argmin(0)
            value = value.amin(0).sum()
            at = whole[best, torch.arange(len(best))]
        else:
            at, value = whole[value.argmin()], value.amin()
        if keep:
            self.point = at
        self.trace.evaluations.append(self.evaluations)  # type: ignore[attr-defined]
        self.trace.seconds.append(seconds)  # type: ignore[attr-defined]
        self.trace.value.append(float(value))  # type: ignore[attr-defined]
        self.paused += time.process_time() - stopped


def _outcome(
    metrics: dict[str, float], rows: list[dict[str, Any]], traces: Mapping[str, Mapping[str, SearchTrace]], learned: dict[str, Any], seconds: float
) -> Outcome:
    table = pd.DataFrame(rows)
    beaten = table[(table["method"] != OURS) & (table["ratio"] > 1)]
    better = table[(table["method"] != OURS) & (table["ratio"] <= 1)]
    said = "; ".join(f"{row.method} at {row.problem} ({row.ratio:.3f})" for row in better.itertuples())
    first = next(iter(traces))
    known = {first: EXTENDED_RSQ.known["best_integers"]["position"][0][1]} if first == "4 parameters" else None
    return Outcome(
        metrics=metrics,
        title="Gradients against search without them",
        summary=(
            f"Cost on fresh futures after {seconds:g} s: the gradient route is better than {len(beaten)} of {len(beaten) + len(better)} searches"
            + (f"; as good or better: {said}." if said else ".")
        ),
        sections=[
            Section(
                "The question",
                "The replenishment problem with 4, 40, 400 and 4000 parameters, and with 400 that share a warehouse. All methods begin at the same point, call "
                f"the same exact simulator (compiled beforehand), see the same 256 futures and have {seconds:g} s of processor time; some stop earlier by "
                "their own rule. What they found is judged on fresh futures.",
            ),
            Section(
                "Search curves",
                "The best cost so far on the 256 futures. The gradient route descends on a relaxed reading and then polishes whole units on the exact one; "
                "where it smooths the percentile in the polish, it gives away cost on these futures to gain on fresh ones. One of its gradients counts as "
                "four evaluations.",
                figures=("curves",),
            ),
            Section(
                "What was found",
                "fresh: P75 on fresh futures, summed over articles, or of the total with a shared warehouse. ratio: to the gradient's; above 1, the gradient "
                "route is better. The search by item (decomposed) tries all articles at once in every evaluation: where articles do not interact it is the "
                "rival to beat; with a shared warehouse it does not apply. A method that failed or could not begin is a result, too.",
                tables=("searches",),
            ),
        ],
        tables={"searches": table},
        figures={"curves": search_curves(traces, label="P75, money", best_known=known)},
        learned=learned,
    )
