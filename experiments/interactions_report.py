"""The report page of `experiments.interactions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from dpsc.decision import DecisionLayer, Portfolio
from dpsc.report import Outcome, Section, figures
from dpsc.training import History

TWO, DFL = "two-stage", "decision-focused"


def outcome(
    *,
    title: str,
    problem: DecisionLayer,
    score: Any,
    metrics: Mapping[str, float],
    scores: tuple[Any, Any],
    history: History,
    weights: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    sensitivity: Tensor | None,
    rows: Mapping[str, int],
    seeds: range,
) -> Outcome:
    """Figures, tables and words."""
    from experiments.interactions import per_seed_table

    two, dfl = scores
    start, end = weights
    several, mismatch = len(seeds) > 1, score.function is not None
    pictures = {
        "regret_distribution": figures.distribution({TWO: two.regret.flatten(), DFL: dfl.regret.flatten()}, label="regret of a test row (layer's objective)"),
        "training_curve": figures.curves(
            {f"mean over {len(seeds)} seeds" if several else "loss": history.loss.mean(1)},
            x_label="epoch",
            y_label=f"mean training {score.name} of the decisions",
        ),
    }
    if several:
        pictures["scatter"] = figures.scatter_pairs(
            two.regret.mean(1), dfl.regret.mean(1), x_label=f"mean test regret of a seed, {TWO}", y_label=f"mean test regret of a seed, {DFL}"
        )
    else:
        pictures["scatter"] = figures.scatter_pairs(
            two.regret[0], dfl.regret[0], x_label=f"regret of a test row, {TWO}", y_label=f"regret of a test row, {DFL}"
        )
    if mismatch:
        pictures["gap_distribution"] = figures.distribution(
            {TWO: two.gap.flatten(), DFL: dfl.gap.flatten()}, label=f"{score.name} beyond that of the layer's optimum"
        )
    tables = {"seeds": per_seed_table(seeds, two, dfl)} if several else {"rows": _rows_table(two, dfl)}
    name, first, last = next((n, w[0], end[n][0]) for n, w in start.items() if w.dim() == 3)  # the (first) layer that reads the features
    linear = len(start) <= 2
    outputs = [f"item {k + 1}" if linear else f"unit {k + 1}" for k in range(len(first))]
    columns = [f"feature {j + 1}" for j in range(first.shape[1])]
    which = (f" (seed {seeds[0]})" if several else "") + ("" if linear else f", {name}")
    pictures["weights"] = figures.matrices({TWO + which: first, DFL + which: last}, row_names=outputs, column_names=columns)
    if sensitivity is not None:
        names = [f"item {i + 1}" for i in range(len(sensitivity))]
        tables["sensitivity"] = pd.DataFrame(sensitivity.numpy(), columns=[f"by cost of {n}" for n in names], index=pd.Index(names, name="share of"))
    return Outcome(
        metrics=metrics,
        title=title,
        summary=_summary(metrics, several, mismatch, score),
        sections=_sections(problem, metrics, rows, seeds, score, linear, tables),
        tables=tables,
        figures=pictures,
        learned={"two_stage": {k: v.cpu() for k, v in start.items()}, "decision_focused": {k: v.cpu() for k, v in end.items()}},
    )


def _rows_table(two: Any, dfl: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"regret_two_stage": two.regret[0].cpu(), "regret_dfl": dfl.regret[0].cpu(), "gap_two_stage": two.gap[0].cpu(), "gap_dfl": dfl.gap[0].cpu()}
    )


def _summary(m: Mapping[str, float], several: bool, mismatch: bool, score: Any) -> str:
    a, b, cut = m["objective_regret_two_stage"], m["objective_regret_dfl"], m["objective_regret_reduction_pct"]
    if several and not m["objective_regret_change_high"] < 0:
        head = f"Training through the decision brings no advantage here: the mean regret goes from {a:.4g} to {b:.4g}, a change of {-cut:+.1f} %"
    else:
        head = f"Training through the decision changes the mean regret from {a:.4g} to {b:.4g}, a reduction of {cut:.1f} %"
    if several:
        head += (
            f"; it is better in {m['wins_pct']:.0f} % of the seeds (change {m['objective_regret_change']:+.3g}, 95 % interval "
            f"{m['objective_regret_change_low']:+.3g} to {m['objective_regret_change_high']:+.3g})"
        )
    if mismatch:
        head += (
            f". The source's own figure, the {score.name} gap, falls from {m['two_stage_regret']:.4f} to {m['dfl_regret']:.4f}, by "
            f"{m['regret_reduction_pct']:.1f} %; that figure is not a "
            "regret, for the reason given below"
        )
    return head + "."


def _sections(
    problem: DecisionLayer, m: Mapping[str, float], rows: Mapping[str, int], seeds: range, score: Any, linear: bool, tables: Mapping[str, Any]
) -> list[Section]:
    several, mismatch = len(seeds) > 1, score.function is not None
    if isinstance(problem, Portfolio):
        decision = f"how to spread one unit of capital over {problem.items} assets; concentrating it costs {problem.risk_aversion:g} per squared share"
        predicted = "returns"
    else:
        count = problem.parameter_shapes["cost"][0]
        decision = f"how to share one unit of work among {count} activities; concentrating it costs extra, so that the best shares move smoothly with the costs"
        predicted = "costs"
    equal = "" if linear else "; the two-stage model is trained on for as many epochs, so that only the loss differs"
    truth = (
        "by a model that cannot represent the truth exactly, because the truth contains products of features"
        if linear
        else "by a small neural network, which can represent the truth"
    )
    out = [
        Section(
            "The question",
            f"Every row asks {decision}. The {predicted} are not known when the decision is taken; they are predicted from five features "
            f"{truth}.\n\n"
            f"Two-stage training fits the {predicted} as well as it can and then optimises. Decision-focused training goes on from there and changes the "
            f"model so that the decisions, not the "
            f"{predicted}, come out well{equal}. Each model learns from {rows['train']} rows and is judged on {rows['test']} others"
            + (f", for {len(seeds)} independent seeds ({seeds[0]} to {seeds[-1]})." if several else f" (seed {seeds[0]})."),
        ),
        Section(
            "Regret on unseen rows",
            "Regret is what a decision costs beyond the best decision for the row, measured with the function that the decision layer itself minimises. It "
            "cannot be negative, and zero is perfect. "
            + ("Each dot of the second picture is a seed" if several else "Each dot of the second picture is a test row")
            + "; below the diagonal, decision-focused training did better.",
            figures=("regret_distribution", "scatter"),
            tables=("seeds",) if several else ("rows",),
        ),
    ]
    if mismatch:
        out.append(
            Section(
                "Why the notebook's regret is not a regret",
                f"The layer minimises cost plus a regulariser, c.x + eps |x|^2. The notebook trains and scores with c.x alone, here called the {score.name} "
                f"gap. The decision that the layer calls optimal "
                f'does not minimise that score, so rows can beat the "optimum": the smallest gap here is {m["two_stage_min_regret"]:.4f} for two-stage and '
                f"{m['dfl_min_regret']:.4f} for "
                "decision-focused training, both below zero.\n\n"
                "Training on such a score has an easy way out: exaggerate the differences between the predicted costs, which undoes the regulariser. That is "
                "where most of the headline comes from: "
                f"{m['regret_reduction_pct']:.1f} % by the notebook's figure, {m['objective_regret_reduction_pct']:.1f} % when the very same decisions are "
                f"judged by the layer's own objective. The "
                "experiment honest_allocation trains and judges with one objective, over 200 seeds.",
                figures=("gap_distribution",),
            )
        )
    out.append(
        Section(
            "Training",
            "The mean loss of the training rows in every epoch of the decision-focused phase, each batch taken before its update.",
            figures=("training_curve",),
        )
    )
    what = "The weights of both models" if linear else "The weights of the first layer of both networks, which reads the features"
    out.append(
        Section(
            "What was learned",
            f"{what}, on one colour scale. All parameters together moved by {100 * m['weight_change']:.1f} % of their size.",
            figures=("weights",),
        )
    )
    if "sensitivity" in tables:
        out.append(
            Section(
                "How the decision answers to its inputs",
                "The derivative of every share in every cost at the costs (0.8, 1, 1.2), by differentiating the optimality conditions: raising the cost of "
                "an activity moves its share away in equal parts to "
                "the others, as long as all shares are positive. This matrix is what carries the gradient of the loss back to the predictor.",
                tables=("sensitivity",),
            )
        )
    return out
