"""Every firm observed: are its parameters found? And what could be found at all, by what is observed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc.calibrate import (
    Counted,
    Observations,
    PeriodRows,
    Simulator,
    Sweep,
    effective_by_period,
    effective_from_jacobian,
    hold_then_decay,
    laplace_spread,
    maximum_posterior,
    pull_back,
    silent,
)
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, figures
from dpsc.report.calibration import identifiability_map
from experiments.context import RunContext
from experiments.firm_cases import FITTED, NOISE, ONSET, Case, annealed, simulator, stored


def run(
    *,
    context: RunContext,
    case: list[int],
    evaluations: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    hold: float,
    power: float,
    sharpness: list[float],
    sharpen_until: float,
    identify: list[list[int]],
    sweep: int,
) -> Outcome:
    """Fit a firm-level data set, and count what several data sets can tell.

    Args:
        context: of the run.
        case: (firms, firms, seed) of a stored data set in which every firm is observed.
        evaluations: value-and-gradient evaluations.
        optimizer: partial of torch.optim.
        hold: see `hold_then_decay`.
        power: see `hold_then_decay`.
        sharpness: first and last sharpness of the soft minima in the backward pass.
        sharpen_until: share of the fit after which the last sharpness holds.
        identify: (firms, sectors, seed) of stored data sets whose effective number of parameters is counted at the truth.
        sweep: periods after the onset from which that number is extrapolated, beside the exact one.
    """
    data = stored(*case)
    firms = data.network.firms
    counted, begin = Counted(data.simulator()), time.process_time()
    found = maximum_posterior(
        counted,
        data.observations,
        torch.zeros(data.prior.dimension, 1),
        steps=evaluations,
        optimizer=optimizer,
        reading=annealed(sharpness, sharpen_until),
        rate=hold_then_decay(hold, power),
        save_to=context.folder / f"last_good_{data.name}.pt",
    )
    spent = time.process_time() - begin
    best, truth = found.members[:, 0], data.truth
    stocks, rates = (best[:firms], truth[:firms]), (best[firms:], truth[firms:])
    rows: list[dict[str, Any]] = []
    maps: dict[str, tuple[Tensor, Tensor]] = {}
    told = pd.DataFrame()
    shown = "m{}_ns{}".format(*identify[len(identify) // 2])
    metrics: dict[str, float] = {}
    for spec in context.track(identify, "identifiability", len(identify)):
        other = stored(*spec, dtype=torch.float64)
        jacobian, products = jacobian_at_truth(other)
        spread, quiet, count = laplace_spread(jacobian), silent(jacobian), other.network.firms
        known = 1 - spread
        label = f"m{spec[0]}_ns{spec[1]}"
        short, share = swept_at_truth(other, sweep)
        metrics |= {
            f"effective_{label}": effective_from_jacobian(jacobian),
            f"effective_swept_{label}": short.number,
            f"sweep_share_of_columns_{label}": share / (2 * count),
            f"sweep_share_of_rows_{label}": share / len(jacobian),
        }
        rows.append(
            {
                "data set": other.name,
                "parameters": 2 * count,
                "observations": len(jacobian),
                "effective": metrics[f"effective_{label}"],
                "swept": short.number,
                "swept_standard_error": short.standard_error,
                "swept_runs": share,
                "stocks_without_gradient": float(quiet[:count].double().mean()),
                "rates_of_hit_firms_without_gradient": float(quiet[count:][other.hit].double().mean()),
                "stocks_known": int((known[:count] > 0.5).sum()),
                "rates_known": int((known[count:] > 0.5).sum()),
                "products": products,
            }
        )
        if label == shown:
            told = _told(other, known, quiet)
            maps = {"stock": (known[:count], other.network.output), "recovery rate of hit firms": (known[count:][other.hit], other.network.output[other.hit])}
    quiet_stocks = silent_at_truth(data)[:firms]
    loss = data.losses(found.members)[:, 0]
    metrics |= {
        "corr_lambda_hit": correlation(rates[0][data.hit], rates[1][data.hit]),
        "corr_n_identifiable": correlation(stocks[0][~quiet_stocks], stocks[1][~quiet_stocks]),
        "corr_n_all": correlation(*stocks),
        "identifiable_stocks": float((~quiet_stocks).sum()),
        "evaluations": float(counted.evaluations),
        "ratio_to_floor": float(loss[0]) / data.floor,
        "cpu_s": spent,
    }
    return Outcome(
        metrics=metrics,
        title="Parameters found again",
        summary=(
            f"With every firm observed, {counted.evaluations} gradients find the recovery rates of the firms that were hit (correlation with the truth "
            f"{metrics['corr_lambda_hit']:.3f}) and the stocks of those whose stock matters at all ({metrics['corr_n_identifiable']:.3f}; all stocks "
            f"{metrics['corr_n_all']:.2f})."
        ),
        sections=[
            Section(
                "The question",
                "A fit that reproduces the data need not have found the parameters. Here the truth is known. A stock that never binds "
                "leaves no trace in any series: "
                "no method can find it, and it is left out of corr_n_identifiable (its column of the Jacobian at the truth is exactly zero).",
                figures=("rates", "stocks"),
            ),
            Section(
                "What the data can tell",
                "Effective number of parameters: directions in parameter space that the data fix better than the prior does, at the "
                "truth and to first order. Known: "
                "more than half of the prior's standard deviation removed. The maps show the data set in the middle of the table. "
                f"Swept: the same number from the first {sweep} periods after the onset, continued to the end; swept_runs is what that costs in runs of "
                f"{FITTED} periods.",
                tables=("identifiability",),
                figures=("map_0", "map_1"),
            ),
            Section(
                "Firms that the data say nothing about",
                "Firm by firm for the same data set, the least known first: the share of the prior's standard deviation that the data remove, and whether the "
                "data depend on the number at all. A rate means something only for a firm that was hit.",
                tables=("firms",),
            ),
        ],
        tables={"identifiability": pd.DataFrame(rows), "firms": told},
        figures={
            "rates": figures.scatter_pairs(rates[1][data.hit], rates[0][data.hit], x_label="true coordinate of the rate", y_label="found"),
            "stocks": figures.scatter_pairs(
                stocks[1][~quiet_stocks], stocks[0][~quiet_stocks], x_label="true coordinate of the stock, where it matters", y_label="found"
            ),
            **{
                f"map_{i}": identifiability_map({name: values}, output, size_label="baseline output") for i, (name, (values, output)) in enumerate(maps.items())
            },
        },
        learned={data.name: {"coordinates": found.members, "truth": truth}},
    )


def _told(case: Case, known: Tensor, quiet: Tensor) -> pd.DataFrame:
    """What the data say about each firm, from `(2 M,)` shares of prior uncertainty removed and silent columns."""
    count = case.network.firms
    frame = pd.DataFrame(
        {
            "firm": range(count),
            "sector": case.sector.numpy(),
            "output_at_rest": case.network.output.numpy(),
            "hit": case.hit.numpy(),
            "stock_known": known[:count].numpy(),
            "stock_silent": quiet[:count].numpy(),
            "rate_known": known[count:].numpy(),
            "rate_silent": quiet[count:].numpy(),
        }
    )
    return frame.sort_values(["stock_known", "rate_known", "firm"], ignore_index=True)


def jacobian_at_truth(case: Case) -> tuple[Tensor, int]:
    """J in standard deviations `(observations, 2 M)`, read exactly at the truth, by one product a row; and how many products that took.

    Rows before the onset are zero (a shock cannot act before it comes) and are not asked for.
    """
    periods, series = case.observations.values.shape
    rows = periods * series
    late = torch.arange(rows).view(periods, series)[ONSET:].reshape(-1)
    jacobian = torch.zeros(rows, len(case.truth), dtype=case.truth.dtype)
    simulate = case.simulator()
    for part in late.split(50):
        unit = torch.zeros(rows, len(part), dtype=case.truth.dtype)
        unit[part, torch.arange(len(part))] = 1
        jacobian[part] = pull_back(simulate, case.truth, unit.view(periods, series, -1), relax=Exact()).mT / NOISE
    return jacobian, len(late)


def swept_at_truth(case: Case, periods: int) -> tuple[Sweep, float]:
    """Effective number of parameters at the truth from the first periods after the onset, and what that costs in runs of all fitted periods.

    Nothing happens before the onset, so the runs begin there.
    """
    after = FITTED - ONSET
    seen = Observations(case.series[ONSET:FITTED], NOISE)

    def short(length: int) -> Simulator:
        return simulator(case.network, case.sector, case.size, length, onset=0)

    rows = PeriodRows(short, seen, case.truth, relax=Exact(), begin=1)  # in its first period a shock has its full size, whatever its rate
    return effective_by_period(rows, periods=after, until=periods), rows.evaluations * after / FITTED


def silent_at_truth(case: Case) -> Tensor:
    """`(2 M,)` bool: parameters whose column of the Jacobian at the truth is zero, without the Jacobian.

    A product of J' with random numbers is zero where the column is, and nowhere else but by chance of probability zero; three are taken against rounding.
    """
    series = case.observations.values
    probes = torch.randn(*series.shape, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(series)
    return (pull_back(case.simulator(), case.truth, probes, relax=Exact()) == 0).all(1)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's."""
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])
