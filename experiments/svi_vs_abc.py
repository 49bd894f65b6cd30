"""Variational inference against approximate Bayesian computation on firms: the same simulator, the same data, evaluations counted alike.

Both methods are random, so both are run `repeats` times and compared mean with mean: the expected loss of draws of the guide against the loss of rejection's
best draw, each averaged over its repeats, in every column (fitted, later, fresh shock). This was settled before the judged data sets were run this way.
Against one draw of rejection the outcome is partly its luck; how large a part, `chances` tells from the pooled draws of the repeats.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.calibrate import Counted, Diagonal, Guide, draw_prior, hold_then_decay, infer, rejection, sequential
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, economy
from dpsc.report.search_curves import SearchTrace, search_curves
from dpsc.types import Relaxation
from experiments.context import RunContext
from experiments.firm_cases import FITTED, PERIODS, Case, annealed, stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Losses = tuple[float, float, float]  # fitted periods, later periods, fresh shock; x 1e4


@dataclass(frozen=True)
class Recipe:
    """How the guide is fitted within its budget: from the best of a few draws of a narrowed prior.

    At the prior's centre all firms hold the same stock and would run out of it at the same time. In a draw they differ, as firms do, and fits from there
    end lower.

    Attributes:
        tries: draws to start from the best of; each is an evaluation.
        narrow: factor on those draws.
        steps: evaluations with gradients.
        rate: learning rate of locations.
        scale_rate: learning rate of log scales.
        scale: standard deviation that the guide starts with.
        weight: of the misfit against the prior, <= 1: before it has converged, a fit misses by more than the noise, and the prior should still be heard.
        hold: see `hold_then_decay`.
        power: see `hold_then_decay`.
        sharpness: first and last sharpness of the soft minima in the backward pass.
        sharpen_until: share of the steps after which the last sharpness holds.
    """

    tries: int
    narrow: float
    steps: int
    rate: float
    scale_rate: float
    scale: float
    weight: float
    hold: float
    power: float
    sharpness: list[float]
    sharpen_until: float

    def adam(self, blocks: list[Tensor]) -> torch.optim.Optimizer:
        """Locations with `rate`, the other blocks with `scale_rate`."""
        return torch.optim.Adam([{"params": blocks[:1], "lr": self.rate}, {"params": blocks[1:], "lr": self.scale_rate}], betas=(0.8, 0.99))


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
        repeats: runs of the fit and of rejection with different seeds; losses are means over them. The sequential rival runs once.
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
    cascades: dict[str, Figure] = {}
    ratios, passes, speed, lucky = {}, {}, [], {"time": 1.0, "shock": 1.0}
    wins = {f"oos_{name}_wins{whom}": 0.0 for name in lucky for whom in ("", "_one_draw", "_accepted")}
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
        if with_sectors and not cascades:
            cascades = {"cascades": _cascades(case, torch.cat([fit.draws for fit in fits], 1), context.seed)}
        metrics |= {f"loss_{label}": ours[0], f"loss_later_{label}": ours[1], f"loss_shock_{label}": ours[2]}
        metrics |= {f"loss_worst_repeat_{label}": float(scored[:, 0].max()), f"loss_shock_worst_repeat_{label}": float(scored[:, 2].max())}
        if spec[1] == spec[0]:
            continue  # firm by firm: no rival, its loss stands in the table
        rejected = [_rival("rejection", case, abc_evaluations, abc_keep, abc_batch, population, context.seed + repeat) for repeat in range(repeats)]
        moved = _rival("sequential", case, abc_evaluations, abc_keep, abc_batch, population, context.seed)
        near, nearest = {}, {}
        for method, runs in (("rejection", rejected), ("sequential", [moved])):
            every = torch.stack([run.losses[:, : abc_keep // 2] for run in runs])  # (repeats, 3, draws)
            near[method], nearest[method] = _triple(every.mean((0, 2))), _triple(every[..., 0].mean(0))
            spent = sum(run.cpu_s for run in runs) / len(runs)
            for repeat, run in enumerate(runs):
                rows.append(_row(case, f"{method}, its best draw", run.evaluations, _triple(run.losses[:, 0]), run.cpu_s) | {"repeat": repeat})
            rows.append(_row(case, f"{method}, mean of its {every.shape[2]} best", runs[0].evaluations, near[method], spent))
            traces[case.name][method] = _trace(runs[0].curve)
            metrics |= {f"abc_{method}_loss_{label}": nearest[method][0], f"cpu_s_{method}_{label}": spent}
        metrics |= {f"abc_rejection_loss_later_{label}": nearest["rejection"][1], f"abc_rejection_loss_shock_{label}": nearest["rejection"][2]}
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
                wins[f"oos_{name}_wins"] += ours[i] < best[i]
                wins[f"oos_{name}_wins_one_draw"] += ours[i] < float(rejected[0].losses[i, 0])
                wins[f"oos_{name}_wins_accepted"] += ours[i] < near["rejection"][i]
                pool = torch.cat([run.losses for run in rejected], 1)
                pool = pool[:, pool[0].argsort()[:abc_keep]]  # the nearest of all repeats: no run dropped any of them
                chance = chances(repeats * abc_evaluations, abc_evaluations, abc_keep)
                lucky[name] *= float(chance[ours[i] < pool[i]].sum())
        else:
            metrics["aggregate_case_loss"] = ours[0]
    metrics |= {
        "geometric_mean_ratio": math.exp(sum(map(math.log, ratios.values())) / len(ratios)),
        "geometric_mean_ratio_to_sequential": math.exp(sum(math.log(metrics[f"ratio_to_sequential_{label}"]) for label in ratios) / len(ratios)),
        "evaluations_to_pass_abc": max(passes.values()),
        "wall_ratio_to_abc": math.exp(sum(map(math.log, speed)) / len(speed)),
        **wins,
        **{f"oos_{name}_chance_of_all_against_one_draw": chance for name, chance in lucky.items()},
    }
    return Outcome(
        metrics=metrics,
        title="Variational inference against approximate Bayesian computation",
        summary=(
            f"With sector series, {curve[-1][0]} gradient evaluations fit {metrics['geometric_mean_ratio']:.0f} times better than the best of "
            f"{abc_evaluations:,} draws of the prior (geometric mean over {against} data sets) and pass it within {metrics['evaluations_to_pass_abc']:.0f} "
            f"evaluations, {metrics['wall_ratio_to_abc']:.0f} times faster in seconds. Later in time and under a fresh shock they are nearer in "
            f"{_pair(wins, '')} of {against}, mean over {repeats} fits against mean over {repeats} runs of rejection."
        ),
        sections=[
            Section(
                "The question",
                "Hundreds of firms, two unknown numbers each (how much stock a firm aims for, how fast it recovers), and all that is "
                "seen is the output of sectors. "
                "Which numbers explain it? One method differentiates the simulator, the others only run it. One run with its gradient "
                "counts as one evaluation, as "
                "does one run without.\n\n"
                f"The guide starts at the best of {recipe.tries} draws of a narrowed prior, which are evaluations too.",
            ),
            Section(
                "The fit, against evaluations and against seconds",
                "Mean squared error in the fitted periods. Variational: expected over draws of the guide at that point. The others: "
                "their best draw so far. The line is "
                "the error of the true parameters, which is the noise.",
                figures=("curves",),
            ),
            Section(
                "Output by sector",
                f"The first data set with sectors, all {PERIODS} periods, of which the first {FITTED} were fitted: medians and 90 % bands of the output of "
                "draws of the prior and of the guide, without errors of observation, and what was observed.",
                figures=tuple(cascades),
            ),
            Section(
                "In and out of sample",
                "later: the periods after those fitted. shock: the same firms hit by another shock. The best draw of rejection is one draw, and how "
                f"it does out of sample is luck: it changes with the seed. So both methods run {repeats} times, and the mean of one is compared with the "
                f"mean of the other: nearer in {_pair(wins, '')} of {against}. Against the best draw of the first run alone the guide is nearer in "
                f"{_pair(wins, '_one_draw')}, against the mean over the {abc_keep // 2} best draws in {_pair(wins, '_accepted')}. The chance over seeds of "
                f"rejection that the guide beats one draw in all {against} is {lucky['time']:.2f} and {lucky['shock']:.2f}, as the draws of all runs "
                "together have it.\n\ncoverage: share of the true values in the guide's 90 % intervals. In so few evaluations a guide is far too sure of "
                "itself; for intervals see the experiment `coverage`.",
                tables=("methods",),
            ),
        ],
        tables={"methods": pd.DataFrame(rows)},
        figures={"curves": search_curves(traces, label="loss x 1e4", best_known=floors, known_label="the truth")} | cascades,
        learned=learned,
    )


def fit_guide(case: Case, recipe: Recipe, draws: int, checkpoints: list[int], seed: int, context: RunContext) -> Fit:
    """Best of a few draws first, then gradients; scored at the checkpoints, which lie at or after the last of those draws."""
    counted = Counted(case.simulator())
    clock = _Clock(case, draws, checkpoints, seed)

    def narrowed(latent: Tensor, *, relax: Relaxation) -> Tensor:
        return counted(recipe.narrow * latent, relax=relax)

    first = rejection(narrowed, case.observations, dimension=case.prior.dimension, evaluations=recipe.tries, keep=1, batch=recipe.tries, seed=seed + 500)
    guide = Diagonal(recipe.narrow * first.draws, scale=recipe.scale)
    infer(
        counted,
        case.observations,
        guide,
        steps=recipe.steps,
        optimizer=recipe.adam,
        reading=annealed(recipe.sharpness, recipe.sharpen_until),
        rate=hold_then_decay(recipe.hold, recipe.power),
        weight=lambda _: recipe.weight,
        seed=seed,
        watch=lambda step, guide: clock(recipe.tries + step, guide.sample(draws, seed=seed + 900)),
        save_to=context.folder / f"last_good_{case.name}.pt",
    )
    return Fit(clock.curve, guide.sample(draws, seed=seed + 900), guide, counted.evaluations)


def _cascades(case: Case, draws: Tensor, seed: int) -> Figure:
    """Output of the sectors over all periods: prior, posterior, data."""
    drawn = {"prior": draw_prior(case.prior.dimension, 100, seed=seed, dtype=draws.dtype), "guide": draws}
    with torch.no_grad():
        series = {name: case.simulator(PERIODS)(u, relax=Exact()) for name, u in drawn.items()}
    return economy.cascades(
        {
            f"sector {k + 1}": {name: economy.band(values[:, k]) for name, values in series.items()} | {"observed": economy.Band(*[case.series[:, k]] * 3)}
            for k in range(case.series.shape[1])
        },
        x=torch.arange(PERIODS),
        x_label="period",
        y_label="output, share of rest",
    )


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


@dataclass(frozen=True)
class _Run:
    """One run of a rival: `(3, keep)` losses of its nearest draws, its curve as that of a `Fit`, and what it cost."""

    losses: Tensor
    curve: list[tuple[int, float, float]]
    evaluations: int
    cpu_s: float


def _rival(method: str, case: Case, evaluations: int, keep: int, batch: int, population: int, seed: int) -> _Run:
    counted, begin = Counted(case.simulator()), time.process_time()
    size, seed = case.prior.dimension, seed + 3
    if method == "rejection":
        kept = rejection(counted, case.observations, dimension=size, evaluations=evaluations, keep=keep, batch=batch, seed=seed)
    else:
        kept = sequential(counted, case.observations, dimension=size, evaluations=evaluations, population=population, seed=seed)
    spent = time.process_time() - begin
    share = spent / kept.wall_s
    curve = [(count, 1e4 * far, wall * share) for count, far, wall in kept.curve]
    return _Run(case.losses(kept.draws[:, :keep]), curve, counted.evaluations, spent)


def chances(pooled: int, drawn: int, keep: int) -> Tensor:
    """`(keep,)` probability that the k-th nearest of `pooled` draws is the best of `drawn` of them, taken without replacement, k = 1 ... keep.

    C(pooled - k, drawn - 1) / C(pooled, drawn): a best draw of rejection under another seed, as far as the pool can tell. They sum to 1 but for the chance that
    all of the nearest `keep` are missed.
    """
    terms = [drawn / pooled]
    for k in range(1, keep):
        terms.append(terms[-1] * (pooled - drawn - k + 1) / (pooled - k))
    return torch.tensor(terms, dtype=torch.float64)


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


def _pair(wins: dict[str, float], whom: str) -> str:
    """Wins later in time and under a fresh shock, as words."""
    return f"{wins[f'oos_time_wins{whom}']:.0f} and {wins[f'oos_shock_wins{whom}']:.0f}"


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
