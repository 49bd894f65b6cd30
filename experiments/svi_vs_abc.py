"""Variational inference against approximate Bayesian computation on firms: the same simulator, the same data, evaluations counted alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.calibrate import Accepted, Counted, Diagonal, Guide, Hierarchy, Simulator, hold_then_decay, infer, rejection, sequential
from dpsc.report import Outcome, Section
from dpsc.report.search_curves import SearchTrace, search_curves
from dpsc.types import Relaxation
from experiments.context import RunContext
from experiments.firm_cases import Case, annealed, stored

Losses = tuple[float, float, float]  # fitted periods, later periods, fresh shock; x 1e4


@dataclass(frozen=True)
class Recipe:
    """How the guide is fitted within its budget: sectors first, then firms.

    Attributes:
        tied_steps: evaluations with one pair of parameters a sector.
        tied_rate: learning rate of those.
        free_steps: evaluations with every firm its own.
        rate: learning rate of locations.
        scale_rate: learning rate of log scales.
        scale: standard deviation that the guide starts with.
        hold: see `hold_then_decay`.
        power: see `hold_then_decay`.
        sharpness: first and last sharpness of the soft minima in the backward pass.
        sharpen_until: share of a phase after which the last sharpness holds.
    """

    tied_steps: int
    tied_rate: float
    free_steps: int
    rate: float
    scale_rate: float
    scale: float
    hold: float
    power: float
    sharpness: list[float]
    sharpen_until: float

    def adam(self, rate: float) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
        """Locations with `rate`, the other blocks with `scale_rate`."""
        return lambda blocks: torch.optim.Adam([{"params": blocks[:1], "lr": rate}, {"params": blocks[1:], "lr": self.scale_rate}], betas=(0.8, 0.99))


@dataclass(frozen=True)
class Fit:
    """One fit of the guide: its curve of (evaluations, expected loss in the fitted periods, CPU seconds), its draws, its evaluations."""

    curve: list[tuple[int, float, float]]
    draws: Tensor
    guide: Guide
    evaluations: int


def run(
    *,
    context: RunContext,
    cases: list[list[int]],
    recipe: Recipe,
    repeats: int,
    draws: int,
    checkpoints: list[int],
    abc_evaluations: int,
    abc_keep: int,
    abc_batch: int,
    population: int,
) -> Outcome:
    """Fit every case by all three methods.

    Args:
        context: of the run.
        cases: (firms, sectors, seed) of stored data sets.
        recipe: of the guide.
        repeats: fits with different seeds; losses are means over them.
        draws: from the guide to score it with.
        checkpoints: evaluations after which the guide is scored; scoring is not counted, neither in evaluations nor in seconds.
        abc_evaluations: of each rival.
        abc_keep: draws that rejection keeps.
        abc_batch: its draws side by side.
        population: of the sequential rival.
    """
    rows: list[dict[str, Any]] = []
    traces: dict[str, dict[str, SearchTrace]] = {}
    floors, learned, metrics = {}, {}, {}
    ratios, passes, speed, wins = {}, {}, [], {"time": 0, "shock": 0, "time_accepted": 0, "shock_accepted": 0}
    against = 0
    for spec in context.track(cases, "data sets", len(cases)):
        case = stored(*spec)
        label = f"m{spec[0]}_ns{spec[1]}_s{spec[2]}"
        with_sectors = 1 < spec[1] < spec[0]
        fits = [fit_guide(case, recipe, draws, checkpoints, context.seed + repeat, context) for repeat in range(repeats)]
        scored = torch.stack([case.losses(fit.draws).mean(1) for fit in fits])
        ours = _triple(scored.mean(0))
        floors[case.name] = case.floor
        rows.append(_row(case, "variational", fits[0].evaluations, ours, sum(fit.curve[-1][2] for fit in fits) / repeats) | _coverage(case, fits))
        curve = [
            (point[0], sum(fit.curve[i][1] for fit in fits) / repeats, sum(fit.curve[i][2] for fit in fits) / repeats) for i, point in enumerate(fits[0].curve)
        ]
        traces[case.name] = {"variational": _trace(curve)}
        learned[label] = {name: value for name, value in fits[0].guide.state_dict().items()}
        metrics |= {f"loss_{label}": ours[0], f"loss_later_{label}": ours[1], f"loss_shock_{label}": ours[2]}
        metrics |= {f"loss_worst_repeat_{label}": float(scored[:, 0].max()), f"loss_shock_worst_repeat_{label}": float(scored[:, 2].max())}
        if spec[1] == spec[0]:
            continue  # firm by firm: no rival, its loss stands in the table
        near, nearest = {}, {}
        for method in ("rejection", "sequential"):
            counted, begin = Counted(case.simulator()), time.process_time()
            kept = _rival(method, counted, case, abc_evaluations, abc_keep, abc_batch, population, context.seed)
            spent = time.process_time() - begin
            some = kept.draws[:, : abc_keep // 2]
            every = case.losses(some)
            near[method], nearest[method] = _triple(every.mean(1)), _triple(every[:, 0])
            rows.append(_row(case, f"{method}, its best draw", counted.evaluations, nearest[method], spent))
            rows.append(_row(case, f"{method}, mean of its {some.shape[1]} best", counted.evaluations, near[method], spent))
            share = spent / kept.wall_s
            traces[case.name][method] = _trace([(count, 1e4 * far, wall * share) for count, far, wall in kept.curve])
            metrics |= {f"abc_{method}_loss_{label}": nearest[method][0], f"cpu_s_{method}_{label}": spent}
        best = nearest["rejection"]
        passed = next(((count, seconds) for count, loss, seconds in curve if loss <= best[0]), None)
        metrics[f"evaluations_to_pass_{label}"] = float(passed[0]) if passed else float(10 * curve[-1][0])
        speed.append(metrics[f"cpu_s_rejection_{label}"] / (passed[1] if passed else math.inf))
        metrics[f"ratio_{label}"] = best[0] / ours[0]
        metrics[f"ratio_to_sequential_{label}"] = nearest["sequential"][0] / ours[0]
        if with_sectors:
            against += 1
            ratios[label], passes[label] = best[0] / ours[0], metrics[f"evaluations_to_pass_{label}"]
            for i, name in ((1, "time"), (2, "shock")):
                wins[name] += ours[i] < best[i]
                wins[f"{name}_accepted"] += ours[i] < near["rejection"][i]
        else:
            metrics["aggregate_case_loss"] = ours[0]
    metrics |= {
        "geometric_mean_ratio": math.exp(sum(map(math.log, ratios.values())) / len(ratios)),
        "geometric_mean_ratio_to_sequential": math.exp(sum(math.log(metrics[f"ratio_to_sequential_{label}"]) for label in ratios) / len(ratios)),
        "evaluations_to_pass_abc": max(passes.values()),
        "wall_ratio_to_abc": math.exp(sum(map(math.log, speed)) / len(speed)),
        **{f"oos_{name}_wins": float(count) for name, count in wins.items()},
    }
    return Outcome(
        metrics=metrics,
        title="Variational inference against approximate Bayesian computation",
        summary=(
            f"With sector series, {curve[-1][0]} gradient evaluations fit {metrics['geometric_mean_ratio']:.0f} times better than the best of "
            f"{abc_evaluations:,} draws of the prior (geometric mean over {against} data sets) and pass it within {metrics['evaluations_to_pass_abc']:.0f} "
            f"evaluations, {metrics['wall_ratio_to_abc']:.0f} times faster in seconds. Later in time they are nearer in {wins['time']} of {against}, under a "
            f"fresh shock in {wins['shock']} of {against}."
        ),
        sections=[
            Section(
                "The question",
                "Hundreds of firms, two unknown numbers each (how much stock a firm aims for, how fast it recovers), and all that is "
                "seen is the output of sectors. "
                "Which numbers explain it? One method differentiates the simulator, the others only run it. One run with its gradient "
                "counts as one evaluation, as "
                "does one run without.\n\n"
                "The guide is fitted from coarse to fine: first one pair of numbers for a sector, then one for every firm.",
            ),
            Section(
                "The fit, against evaluations and against seconds",
                "Mean squared error in the fitted periods. Variational: expected over draws of the guide at that point. The others: "
                "their best draw so far. The line is "
                "the error of the true parameters, which is the noise.",
                figures=("curves",),
            ),
            Section(
                "In and out of sample",
                "later: the periods after those fitted. shock: the same firms hit by another shock. The best draw of a rival is one "
                "draw, and how it does out of sample "
                "is luck; the mean over its best draws is what its posterior promises, as the mean over draws is for the guide. "
                "coverage: share of the true values in "
                "the guide's 90 % intervals. In so few evaluations a guide is far too sure of itself; for intervals see the experiment `coverage`.",
                tables=("methods",),
            ),
        ],
        tables={"methods": pd.DataFrame(rows)},
        figures={"curves": search_curves(traces, label="loss x 1e4", best_known=floors)},
        learned=learned,
    )


def fit_guide(case: Case, recipe: Recipe, draws: int, checkpoints: list[int], seed: int, context: RunContext) -> Fit:
    """Sectors first, then firms."""
    counted = Counted(case.simulator())
    tied = Hierarchy(case.prior, {name: case.sector for name in case.prior.blocks}, share=1.0)
    clock = _Clock(case, draws, checkpoints, seed)
    reading = annealed(recipe.sharpness, recipe.sharpen_until)
    save_to = context.folder / f"last_good_{case.name}.pt"
    start = torch.zeros(case.prior.dimension, 1)
    if recipe.tied_steps:

        def coarse(latent: Tensor, *, relax: Relaxation) -> Tensor:
            return counted(tied(latent), relax=relax)

        sectors = Diagonal(torch.zeros(tied.dimension, 1), scale=recipe.scale)
        infer(
            coarse,
            case.observations,
            sectors,
            steps=recipe.tied_steps,
            optimizer=recipe.adam(recipe.tied_rate),
            reading=reading,
            seed=seed,
            watch=lambda step, guide: clock(step, tied(guide.sample(draws, seed=seed + 900))) if step < recipe.tied_steps else None,
            save_to=save_to,
        )
        start = tied(sectors.centre())
    guide = Diagonal(start, scale=recipe.scale)
    infer(
        counted,
        case.observations,
        guide,
        steps=recipe.free_steps,
        optimizer=recipe.adam(recipe.rate),
        reading=reading,
        rate=hold_then_decay(recipe.hold, recipe.power),
        seed=seed,
        watch=lambda step, guide: clock(recipe.tied_steps + step, guide.sample(draws, seed=seed + 900)),
        save_to=save_to,
    )
    return Fit(clock.curve, guide.sample(draws, seed=seed + 900), guide, counted.evaluations)


class _Clock:
    """Scores a guide at the checkpoints, and keeps the seconds of scoring apart."""

    def __init__(self, case: Case, draws: int, checkpoints: list[int], seed: int) -> None:
        self.observations, self.simulate = case.observations, case.simulator()
        self.checkpoints, self.curve, self.scoring, self.begin = set(checkpoints), [], 0.0, time.process_time()

    def __call__(self, evaluations: int, draws: Tensor) -> None:
        from dpsc.relax import Exact

        if evaluations not in self.checkpoints:
            return
        start = time.process_time()
        with torch.no_grad():
            loss = 1e4 * float(self.observations.loss(self.simulate(draws, relax=Exact())).mean())
        self.curve.append((evaluations, loss, start - self.begin - self.scoring))
        self.scoring += time.process_time() - start


def _rival(method: str, simulate: Simulator, case: Case, evaluations: int, keep: int, batch: int, population: int, seed: int) -> Accepted:
    if method == "rejection":
        return rejection(simulate, case.observations, dimension=case.prior.dimension, evaluations=evaluations, keep=keep, batch=batch, seed=seed + 3)
    return sequential(simulate, case.observations, dimension=case.prior.dimension, evaluations=evaluations, population=population, seed=seed + 3)


def _coverage(case: Case, fits: list[Fit]) -> dict[str, float]:
    """Share of true values within the guide's 90 % intervals: stocks, and recovery rates of the firms that were hit."""
    firms = case.network.firms
    inside = []
    for fit in fits:
        assert isinstance(fit.guide, Diagonal)
        spread = fit.guide.log_scale.detach().exp()[0]
        inside.append((case.truth - fit.guide.centre()[:, 0]).abs() < 1.6449 * spread)
    share = torch.stack(inside).double().mean(0)
    return {"coverage_n": float(share[:firms].mean()), "coverage_lambda_hit": float(share[firms:][case.hit].mean())}


def _triple(losses: Tensor) -> Losses:
    return float(losses[0]), float(losses[1]), float(losses[2])


def _row(case: Case, method: str, evaluations: int, losses: Losses, seconds: float) -> dict[str, Any]:
    return {
        "data set": case.name,
        "method": method,
        "evaluations": evaluations,
        "fitted_x1e4": losses[0],
        "later_x1e4": losses[1],
        "shock_x1e4": losses[2],
        "floor_x1e4": case.floor,
        "cpu_s": seconds,
    }


def _trace(curve: list[tuple[int, float, float]]) -> SearchTrace:
    return SearchTrace([count for count, _, _ in curve], [seconds for _, _, seconds in curve], [loss for _, loss, _ in curve])
