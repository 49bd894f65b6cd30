"""Which gradient of the extended (R, s, Q) policy to trust: every reading against the exact program, at one point and at twenty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from dpsc.instances import replenishment
from dpsc.instances.replenishment import Paths, gradient_points
from dpsc.relax import Audit, audit
from dpsc.report import Outcome, Section, figures
from dpsc.report.audit import gradient_audit
from dpsc.simulate.replenishment import PARAMETERS, cost
from dpsc.types import Relaxation
from experiments.context import RunContext


def run(
    *,
    context: RunContext,
    articles: Mapping[str, int],
    paths: Mapping[str, int],
    futures: int,
    points: int,
    readings: Mapping[str, Relaxation],
) -> Outcome:
    """Audit all readings at the first points of the reference.

    Args:
        context: of the run.
        articles: `count` (3, as the points have) and `seed`.
        paths: `count` and `seed`.
        futures: batches that the paths are dealt into; the spread of a gradient is taken over them.
        points: how many: the shifted start, then the random ones.
        readings: name -> reading.
    """
    of = replenishment.articles(articles["count"], seed=articles["seed"])
    drawn = replenishment.paths(of, paths["count"], seed=paths["seed"])
    dealt = [Paths(*(x[:, i::futures].contiguous().to(context.device) for x in drawn)) for i in range(futures)]
    of = type(of)(*(x.to(context.device) for x in of))
    unit = 2 / of.scale

    def program(parameters: Mapping[str, Tensor], future: Paths, *, relax: Relaxation) -> Tensor:
        return cost(parameters, future, articles=of, relax=relax).sum(-1)

    found: list[Audit] = []
    for point in context.track(gradient_points()[:points], "points", points):
        found.append(
            audit(
                program,
                {name: point[:, i].to(context.device) for i, name in enumerate(PARAMETERS)},
                readings,
                futures=dealt,
                steps={"kick_week": 1.0, "kick_order": unit, "reorder_point": unit, "order_quantity": unit},
                lower={"kick_week": 0.0, "kick_order": 0.0, "order_quantity": 0.0},
            )
        )
    return _outcome(found, list(readings), futures)


def _outcome(found: Sequence[Audit], names: Sequence[str], futures: int) -> Outcome:
    first, rest = found[0], found[1:] or found
    metrics: dict[str, float] = {}
    rows = []
    for name in names:
        cosine = torch.tensor([a.row(name).cosine for a in rest])
        row = first.row(name)
        metrics |= {
            f"cosine_first_{name}": row.cosine,
            f"deviation_first_{name}": row.deviation,
            f"cosine_median_{name}": float(cosine.median()),
            f"cosine_min_{name}": float(cosine.min()),
        }
        rows.append(
            {
                "reading": name,
                "cosine_first": row.cosine,
                "deviation_first": row.deviation,
                "cosine_median": float(cosine.median()),
                "cosine_min": float(cosine.min()),
                "points_below_0.7": int((cosine < 0.7).sum()),
                "norm_ratio_median": float(torch.tensor([a.row(name).norm_ratio for a in rest]).median()),
                "cost_evaluations": float(torch.tensor([a.row(name).cost for a in rest]).median()),
            }
        )
    best = max(names, key=lambda name: metrics[f"cosine_min_{name}"])
    metrics |= {"best_smallest_cosine": metrics[f"cosine_min_{best}"], "points": len(rest)}
    metrics |= {"best_median_cosine": max(metrics[f"cosine_median_{name}"] for name in names)}
    chosen = torch.tensor([a.row(a.recommended).cosine for a in rest])
    metrics |= {"cosine_median_recommended": float(chosen.median()), "cosine_min_recommended": float(chosen.min())}
    return Outcome(
        metrics=metrics,
        title="Which gradient of a replenishment policy to trust",
        summary=(
            f"At the first point the audit recommends {first.advice}. Over {len(rest)} other points no reading is good everywhere: the best, {best}, "
            f"falls to a cosine of {metrics['best_smallest_cosine']:.2f}. Choosing at each point by an audit gives a median of "
            f"{metrics['cosine_median_recommended']:.2f} and a smallest of {metrics['cosine_min_recommended']:.2f}."
        ),
        sections=[
            Section(
                "The question",
                "A policy with four parameters an article (week and size of a first order, trigger level, size of later orders) is simulated over twelve "
                "weeks. Its cost jumps wherever an order moves by a unit or a week. Readings replace these jumps, each in its own way, and "
                "each gradient is exact for some other program. Here they are compared with differences of the exact mean "
                "cost, two units or one week wide, on the same futures.",
            ),
            Section(
                "At one point",
                f"Open marks are the whole gradient, the others its blocks. The standard deviation is that of one of {futures} batches of futures: where it is "
                "above 1, the mean over all futures is still noise, and the sign of its cosine is chance.",
                figures=("first",),
            ),
            Section(
                "At many points",
                "Cosines to the exact gradient: a reading that is right at one point may be wrong at the next.",
                tables=("readings",),
                figures=("points",),
            ),
        ],
        tables={"readings": pd.DataFrame(rows), "first_point": pd.DataFrame(first.table())},
        figures={
            "first": gradient_audit(first.rows),
            "points": figures.distribution(
                {name: [a.row(name).cosine for a in rest] for name in names}, label="cosine to the exact gradient, one value a point"
            ),
        },
        learned={"reference": {f"{name}_{i}": a.reference[name] for i, a in enumerate(found) for name in PARAMETERS}},
    )
