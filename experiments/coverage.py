"""Do 90 % intervals hold the truth nine times in ten? Coverage on fresh data sets, and simulation-based calibration."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.calibrate import Amortised, Uniformity, coverage_curve, covered, ensemble, hold_then_decay, laplace_spread, predictive_check, pull_back
from dpsc.calibrate.ensemble import Ensemble
from dpsc.relax import Exact
from dpsc.report import Outcome, Section
from dpsc.report.calibration import coverage_curves, prior_and_posterior, rank_histograms
from experiments.context import RunContext
from experiments.firm_cases import NOISE, Case, annealed, drawn
from experiments.firm_ranks import FUNCTIONALS, calibration, functionals, known, learnt_draws

UNIFORM = 0.003  # p below which three tests together would rarely fall if ranks were uniform
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def run(
    *,
    context: RunContext,
    firms: int,
    sectors: int,
    first_seed: int,
    data_sets: int,
    members: int,
    steps: int,
    sbc_firms: int,
    sbc_first_seed: int,
    sbc_data_sets: int,
    sbc_members: int,
    sbc_steps: int,
    sbc_again_first_seed: int,
    sbc_again_data_sets: int,
    bins: int,
    learn: Callable[..., Amortised],
    optimizer: Callable[..., torch.optim.Optimizer],
    hold: float,
    power: float,
    sharpness: list[float],
    sharpen_until: float,
) -> Outcome:
    """Draw data sets whose truth is known, infer, count.

    Args:
        context: of the run.
        firms: of each data set.
        sectors: series of each data set.
        first_seed: of the data sets, which take the seeds from there on.
        data_sets: for coverage.
        members: of each ensemble.
        steps: of each member.
        sbc_firms: firms of the data sets for simulation-based calibration.
        sbc_first_seed: of those.
        sbc_data_sets: how many.
        sbc_members: draws of each posterior; plus one must be a multiple of `bins`.
        sbc_steps: of each member of an ensemble.
        sbc_again_first_seed: of further data sets, on which nothing is decided.
        sbc_again_data_sets: how many.
        bins: of the rank histograms.
        learn: see `experiments.firm_ranks.learn`, which gets the first of the data sets for its network of firms.
        optimizer: partial of torch.optim.
        hold: see `hold_then_decay`.
        power: see `hold_then_decay`.
        sharpness: first and last sharpness of the soft minima in the backward pass.
        sharpen_until: share of a fit after which the last sharpness holds.
    """
    reading, rate = annealed(sharpness, sharpen_until), hold_then_decay(hold, power)

    def posterior(case: Case, count: int, length: int, seed: int) -> Ensemble:
        return ensemble(
            case.simulator(),
            case.observations,
            dimension=case.prior.dimension,
            members=count,
            steps=length,
            optimizer=optimizer,
            reading=reading,
            rate=rate,
            seed=seed,
            save_to=context.folder / f"last_good_{case.name}.pt",
        )

    begin = time.process_time()
    rows: list[dict[str, Any]] = []
    pooled: dict[str, list[Tensor]] = {"all": [], "informed": []}
    truths: dict[str, list[Tensor]] = {"all": [], "informed": []}
    shown: tuple[Case, Tensor, Tensor] | None = None
    for seed in context.track(range(first_seed, first_seed + data_sets), "coverage", data_sets):
        case = drawn(firms, sectors, seed)
        found = posterior(case, members, steps, seed)
        contraction = 1 - laplace_at_truth(case)
        informed = contraction > 0.5
        inside = covered(found.members, case.truth)
        check = _check(case, found.members)
        for name, mask in (("all", torch.ones_like(informed)), ("informed", informed)):
            pooled[name].append(found.members[mask])
            truths[name].append(case.truth[mask])
        rows.append(
            {
                "data set": case.name,
                "all": float(inside.double().mean()),
                "informed": float(inside[informed].double().mean()),
                "informed_parameters": int(informed.sum()),
                "stocks": float(inside[:firms].double().mean()),
                "rates_of_hit_firms": float(inside[firms:][case.hit].double().mean()),
                "median_loss_x1e4": float(case.losses(found.members)[0].median()),
                "floor_x1e4": case.floor,
                "predictive_inside": float(check["inside"].mean()),
            }
        )
        shown = shown or (case, found.members, contraction)
    spent, begin = time.process_time() - begin, time.process_time()
    table = pd.DataFrame(rows)
    sets = [drawn(sbc_firms, sectors, first) for first in range(sbc_first_seed, sbc_first_seed + sbc_data_sets)]
    more = [drawn(sbc_firms, sectors, first) for first in range(sbc_again_first_seed, sbc_again_first_seed + sbc_again_data_sets)]
    law = learn(sets[0], track=lambda steps: context.track(steps, "learning from simulations"))
    tests, tests_again = (calibration(learnt_draws(law, listed, sbc_members), listed, bins) for listed in (sets, more))
    gained = law.contraction(torch.cat([known(case) for case in sets], 1))
    learning, begin = time.process_time() - begin, time.process_time()
    drawn_values, ratios = [], []
    for number, case in enumerate(context.track(sets, "ranks in ensembles", len(sets))):
        found = posterior(case, sbc_members, sbc_steps, sbc_first_seed + number)
        drawn_values.append(functionals(case.network, case.size[:, None], found.members))
        ratios.append(float(case.losses(found.members)[0].median()) / case.floor)
    of_ensembles = torch.stack(drawn_values, 1)
    tests_ensembles = calibration(of_ensembles, sets, bins)
    gained_ensembles = 1 - of_ensembles.std(-1).mean(1) / law.spread.to(of_ensembles)
    fitting = time.process_time() - begin
    assert shown is not None
    nominal = {name: coverage_curve(torch.cat(pooled[name]), torch.cat(truths[name]), LEVELS) for name in pooled}
    metrics = {
        "coverage_all": float(table["all"].mean()),
        "coverage_informed": float(table["informed"].mean()),
        "coverage_stocks": float(table["stocks"].mean()),
        "coverage_rates_of_hit_firms": float(table["rates_of_hit_firms"].mean()),
        "sbc_p_min": min(test.p for test in tests.values()),
        "sbc_p_min_again": min(test.p for test in tests_again.values()),
        "sbc_p_min_ensemble": min(test.p for test in tests_ensembles.values()),
        "sbc_ratio_to_floor_ensemble": float(torch.tensor(ratios).median()),
        **{f"sbc_p_{_key(name)}": test.p for name, test in tests.items()},
        **{f"sbc_contraction_{_key(name)}": float(share) for name, share in zip(FUNCTIONALS, gained, strict=True)},
        **{f"sbc_contraction_ensemble_{_key(name)}": float(share) for name, share in zip(FUNCTIONALS, gained_ensembles, strict=True)},
        "evaluations_a_data_set": float(members * steps),
        "predictive_inside": float(table["predictive_inside"].mean()),
        "median_ratio_to_floor": float((table["median_loss_x1e4"] / table["floor_x1e4"]).median()),
        "cpu_s_coverage": spent,
        "cpu_s_sbc": learning,
        "cpu_s_sbc_ensemble": fitting,
    }
    case, drawn_members, contraction = shown
    verdict = "look uniform" if metrics["sbc_p_min"] > UNIFORM else "are not uniform"
    return Outcome(
        metrics=metrics,
        title="Intervals that hold the truth",
        summary=(
            f"On {data_sets} fresh data sets, 90 % intervals hold {metrics['coverage_all']:.1%} of all true parameters and "
            f"{metrics['coverage_informed']:.1%} of "
            f"those the data speak about. On {sbc_data_sets} more, the ranks of three declared numbers under the learnt law {verdict}: smallest p "
            f"{metrics['sbc_p_min']:.2g}. Those among ensembles are another matter ({metrics['sbc_p_min_ensemble']:.2g}): there a typical member's loss is "
            f"{metrics['sbc_ratio_to_floor_ensemble']:.1f} times that of the truth."
        ),
        sections=[
            Section(
                "The question",
                "A posterior that fits but is wrong is worse than none: mean-field guides on these data cover a quarter of the truth "
                "with intervals that promise "
                "nine tenths. Here every member of an ensemble is pulled towards a draw of the prior and fitted to data with fresh "
                "errors. Where the data are "
                "silent, members stay where the prior put them.",
            ),
            Section(
                "Coverage",
                "Share of true values inside, against the promise; the diagonal is right. Informed: parameters whose standard deviation, at the truth and to "
                "first order, falls below half of the prior's. Parameters of one data set depend on each other, so the unit of evidence is the data set.",
                tables=("data_sets",),
                figures=("coverage",),
            ),
            Section(
                "Simulation-based calibration",
                "Truth drawn from the prior, data from the truth, posterior from the data: the rank of the truth among draws of the posterior must be "
                "uniform. One rank a data set for each of three numbers that were declared beforehand. A hump means too wide, a bowl too narrow, a slope "
                "biased. Two posteriors are asked. The learnt law of the three numbers has seen simulations only, never a likelihood; it is right about "
                "itself and wider than the exact posterior: the contraction says how much narrower than the prior it is. The members of ensembles are sets of "
                "all parameters, and many of them end on the wrong side of a minimum; a contraction below zero says that they scatter more than the prior.",
                tables=("posteriors",),
                figures=("ranks", "ranks_ensemble"),
            ),
            Section(
                "Prior against posterior",
                "One data set, the firms the data say most about first: prior (faint), posterior with its 90 % interval, truth.",
                figures=("firms",),
            ),
        ],
        tables={"data_sets": table, "posteriors": _compared(tests, tests_again, tests_ensembles, gained, gained_ensembles)},
        figures={
            "coverage": coverage_curves({name: (LEVELS, values) for name, values in nominal.items()}),
            "ranks": rank_histograms({name: test.counts.tolist() for name, test in tests.items()}),
            "ranks_ensemble": rank_histograms({name: test.counts.tolist() for name, test in tests_ensembles.items()}),
            "firms": prior_and_posterior(drawn_members, case.truth, contraction, labels={"stock": slice(0, firms), "recovery rate": slice(firms, 2 * firms)}),
        },
        learned={case.name: {"members": drawn_members, "truth": case.truth}},
    )


def laplace_at_truth(case: Case) -> Tensor:
    """`(2 M,)` standard deviation of the linearised posterior at the truth, read exactly."""
    count, sectors = len(case.observations.values), case.observations.values.shape[1]
    unit = torch.eye(count * sectors, dtype=case.truth.dtype).view(count, sectors, -1)
    batches = [pull_back(case.simulator(), case.truth, part, relax=Exact()) for part in unit.split(50, dim=-1)]
    return laplace_spread(torch.cat(batches, 1).mT / NOISE)


def _compared(
    learnt: Mapping[str, Uniformity], again: Mapping[str, Uniformity], ensembles: Mapping[str, Uniformity], gained: Tensor, gained_ensembles: Tensor
) -> pd.DataFrame:
    rows = [
        {
            "number": name,
            "learnt_p": learnt[name].p,
            "learnt_p_again": again[name].p,
            "learnt_contraction": float(gained[k]),
            "ensemble_p": ensembles[name].p,
            "ensemble_contraction": float(gained_ensembles[k]),
        }
        for k, name in enumerate(FUNCTIONALS)
    ]
    return pd.DataFrame(rows)


def _key(name: str) -> str:
    return name.replace(" ", "_")


def _check(case: Case, members: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        series = case.simulator()(members, relax=Exact())
    return predictive_check(series, case.observations.values, noise=NOISE)


__all__ = ["laplace_at_truth", "run"]
