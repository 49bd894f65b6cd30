"""How good a gradient is that never leaves the exact program: item differences on few futures, against the exact gradient on many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.instances import replenishment as world
from dpsc.instances.replenishment import EXTENDED_RSQ, Articles, Paths, gradient_points
from dpsc.objective.risk import Mean
from dpsc.relax import Exact, ItemDifferences
from dpsc.report import Outcome, Section, figures
from dpsc.scenarios.replenishment import ReplenishmentProblem, differences
from dpsc.simulate.replenishment import PARAMETERS
from dpsc.types import Relaxation
from experiments.context import RunContext

ITEMS = "item differences"


def run(
    *,
    context: RunContext,
    articles: Mapping[str, int],
    reference: Mapping[str, int],
    futures: list[int],
    trained: int,
    batches: int,
    points: int,
    readings: Mapping[str, Relaxation],
    many: int,
) -> Outcome:
    """Cosines to the exact gradient at the random points of the reference.

    Args:
        context: of the run.
        articles: `count` (3, as the points have) and `seed`.
        reference: `futures` and `seed` of the exact gradient.
        futures: batch sizes that are compared.
        trained: the batch size of the reported rows, one of `futures`.
        batches: independent batches at every point and size; their seeds follow that of the reference.
        points: how many of the random ones.
        readings: name -> reading, compared with item differences on the same futures.
        many: articles of the problem on which evaluations are counted again.
    """
    of = Articles(*(x.to(context.device) for x in world.articles(articles["count"], seed=articles["seed"])))
    at = [{name: point[:, i].to(context.device) for i, name in enumerate(PARAMETERS)} for point in gradient_points()[: points + 1]]
    exact_problem = _problem(of, reference["futures"], reference["seed"], context)
    exact = [_differenced(exact_problem, theta) for theta in context.track(at, "reference", len(at))]
    known = torch.tensor(EXTENDED_RSQ.known["gradients"], dtype=torch.float64)
    error = max(float((_flat(g).reshape(4, -1).T - k).norm() / k.norm()) for g, k in zip((_cpu(g) for g in exact), known, strict=False))

    drawn = {size: [_problem(of, size, 1000 * size + reference["seed"] + 1 + b, context) for b in range(batches)] for size in futures}
    candidates: dict[str, Any] = {ITEMS: None, **readings}
    rows, cosines = [], {}
    for size in context.track(futures, "batch sizes", len(futures)):
        for name, reading in candidates.items():
            begin, found = time.process_time(), []
            for theta, target in zip(at[1:], exact[1:], strict=True):
                found.append([_cosine(_gradient(one, theta, reading or differences(one)), target) for one in drawn[size]])
            seconds = (time.process_time() - begin) / (points * batches)
            cosine = cosines[size, name] = torch.tensor(found)
            rows.append(
                {
                    "gradient": name,
                    "futures": size,
                    "cosine_median": float(cosine.median()),
                    "cosine_min": float(cosine.min()),
                    "below_0.7_pct": 100 * float((cosine < 0.7).double().mean()),
                    "cpu_ms": 1e3 * seconds,
                }
            )
    ours, best = cosines[trained, ITEMS], {name: cosines[trained, name] for name in readings}
    counted = {count: _counted(count, context) for count in (articles["count"], many)}
    metrics = {
        "cosine_median": float(ours.median()),
        "cosine_min": float(ours.min()),
        "reference_error": error,
        "reading_cosine_median": max(float(c.median()) for c in best.values()),
        "reading_cosine_min": max(float(c.min()) for c in best.values()),
        "evaluations": counted[articles["count"]],
        "evaluations_growth": counted[many] / counted[articles["count"]],
        "futures": trained,
        "gradients": ours.numel(),
    } | {f"cosine_{kind}_{size}": float(getattr(cosines[size, ITEMS], kind)()) for size in futures for kind in ("median", "min")}
    return Outcome(
        metrics=metrics,
        title="A gradient that never leaves the exact program",
        summary=(
            f"On {trained} futures, item differences have a median cosine of {metrics['cosine_median']:.3f} to the exact gradient and never fall below "
            f"{metrics['cosine_min']:.2f} ({ours.numel()} gradients at {points} points); the best reading on the same futures has "
            f"{metrics['reading_cosine_median']:.2f} and {metrics['reading_cosine_min']:.2f}. Value and gradient take {metrics['evaluations']:.0f} exact "
            f"evaluations, for {articles['count']} articles as for {many}."
        ),
        sections=[
            Section(
                "The question",
                "The cost of a replenishment policy jumps wherever an order moves by a unit or a week, so its gradient means what a step of a week or of two "
                "units changes. Readings smooth every jump and can point anywhere. But an article's cost depends on its own four parameters only: if one of "
                "them is moved for all articles at once, two exact evaluations give the differences of all articles, and eight the whole gradient.",
            ),
            Section(
                "Result",
                f"Exact gradient: differences on {reference['futures']:,} futures, one parameter of one article at a time. Candidates: gradients on small "
                "batches of other futures, the size that a training step sees. One value a point and batch.",
                tables=("gradients",),
                figures=("cosines", "sizes"),
            ),
        ],
        tables={"gradients": pd.DataFrame(rows)},
        figures={
            "cosines": figures.distribution(
                {name: cosines[trained, name].flatten().tolist() for name in candidates}, label=f"cosine to the exact gradient, {trained} futures"
            ),
            "sizes": figures.distribution(
                {f"{ITEMS}, {size} futures": cosines[size, ITEMS].flatten().tolist() for size in futures}, label="cosine to the exact gradient"
            ),
        },
        learned={"reference": {f"{name}_{i}": g[name] for i, g in enumerate(exact) for name in PARAMETERS}},
    )


def _problem(of: Articles, futures: int, seed: int, context: RunContext) -> ReplenishmentProblem:
    drawn = world.paths(Articles(*(x.cpu() for x in of)), futures, seed=seed)
    return ReplenishmentProblem(of, Paths(*(x.to(context.device) for x in drawn)), measure=Mean())


def _gradient(problem: ReplenishmentProblem, at: Mapping[str, Tensor], relax: Relaxation | ItemDifferences) -> dict[str, Tensor]:
    leaves = {name: x.clone().requires_grad_() for name, x in at.items()}
    found = torch.autograd.grad(problem.objective(leaves, relax=relax).sum(), list(leaves.values()))
    return dict(zip(PARAMETERS, found, strict=True))


def _differenced(problem: ReplenishmentProblem, at: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference, from its definition and without item differences: every parameter of every article moved alone, the others' cost left out of account."""
    steps = {"kick_week": torch.ones_like(problem.articles.scale), **{name: 2 / problem.articles.scale for name in PARAMETERS[1:]}}
    lower = {"kick_week": 0.0, "kick_order": 0.0, "order_quantity": 0.0}
    slopes = {name: torch.zeros_like(at[name]) for name in PARAMETERS}
    with torch.no_grad():
        for item in range(problem.count):
            one = problem.part(slice(item, item + 1))
            alone = {name: x[item : item + 1] for name, x in at.items()}
            for name in PARAMETERS:
                high = alone[name] + steps[name][item]
                low = (alone[name] - steps[name][item]).clamp_min(lower.get(name, -torch.inf))
                ends = {n: torch.stack([high, low]) if n == name else torch.stack([x, x]) for n, x in alone.items()}
                cost = one.objective(ends, relax=Exact())
                slopes[name][item] = ((cost[0] - cost[1]) / (high - low))[0]
    return slopes


def _counted(count: int, context: RunContext) -> int:
    """Exact evaluations of one value and gradient."""
    of = world.articles(count)
    problem = _problem(Articles(*(x.to(context.device) for x in of)), 4, 1, context)
    calls = 0

    def program(theta: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        return (problem.play(theta, relax=Exact()).cost,)

    leaves = {name: torch.ones_like(problem.articles.scale).requires_grad_() for name in PARAMETERS}
    differences(problem).evaluate(program, leaves)[0].sum().backward()
    return calls


def _cpu(gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.cpu() for name, x in gradient.items()}


def _flat(gradient: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([gradient[name] for name in PARAMETERS])


def _cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return float(torch.nn.functional.cosine_similarity(_flat(one), _flat(other), dim=0))
