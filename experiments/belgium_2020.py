"""Belgium in the pandemic: fitted on GDP to August 2020, forecast to January 2021 without and with the later measures, employment never seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import calibrate, noise
from dpsc.data import nace
from dpsc.relax import Exact
from dpsc.report import Outcome, Section, economy, figures
from dpsc.scenarios import belgium_2020 as scenario
from dpsc.scenarios import posterior
from dpsc.simulate.sectors import Inputs
from experiments.context import RunContext

FIT = [date(2020, month, 15) for month in range(3, 9)]
TEST = [*(date(2020, month, 15) for month in range(9, 13)), date(2021, 1, 15)]
ORIGIN = date(2020, 8, 31)


def run(
    *,
    context: RunContext,
    rules: Mapping[str, Inputs],
    first_origin: int,
    noise_shape: float,
    noise_scale: float,
    proposals: int,
    draws: int,
    steps: int,
    particles: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    level: float,
) -> Outcome:
    """Choose the variant of the model on data to August, fit it there, forecast.

    Args:
        context: of the run.
        rules: name -> rule of production; each is tried with and without slow hiring and firing.
        first_origin: how many months the first fit of the rolling validation sees.
        noise_shape: of the inverse gamma prior of the variance of the observations.
        noise_scale: of the same.
        proposals: weighted draws around the mode.
        draws: of the posterior.
        steps: of variational inference, a second opinion on the posterior.
        particles: a step of it.
        optimizer: of it.
        level: of intervals.
    """
    begin = time.process_time()
    world = scenario.belgium(context.data_root)
    gdp = torch.tensor([world.covid.gdp[month] for month in [*FIT, *TEST]], dtype=torch.float64)
    seen, test = gdp[: len(FIT)], gdp[len(FIT) :]
    prior = posterior.Noise(noise_shape, noise_scale)

    variants = [(name, rule, slow) for name, rule in rules.items() for slow in (False, True)]
    validation, metrics = [], {}
    for name, rule, slow in context.track(variants, "rolling validation", len(variants)):
        errors, at_mode = _rolling(world, rule, slow, seen, prior, first_origin)
        label = name + ("_slow_labour" if slow else "")
        metrics[f"rolling_rmse_{label}"] = float(errors.square().mean().sqrt())
        validation.append((metrics[f"rolling_rmse_{label}"], label, rule, slow, _rmse(at_mode - test)))
    best_error, chosen, rule, slow, _ = min(validation, key=lambda row: row[0])  # the last column has no say in it
    metrics["rmse_blind_best_variant"], metrics["rmse_blind_worst_variant"] = (f(row[4] for row in validation) for f in (min, max))

    model = _model(world, rule, slow, FIT)
    found = posterior.mode(model, seen, noise_prior=prior, start=seen.new_zeros(len(scenario.PRIORS)))
    sample = posterior.draw(model, seen, found, noise_prior=prior, proposals=proposals, draws=draws, seed=context.seed)

    guide = calibrate.LowRank(found.u[:, None], scale=0.4, rank=4)
    calibrate.infer(
        lambda u, *, relax: model(u)[:, None],
        posterior.Seen(seen, prior),
        guide,
        steps=steps,
        optimizer=optimizer,
        reading=lambda _: Exact(),
        rate=lambda done: min(1.0, 2 * (1 - done)),
        particles=particles,
        seed=context.seed,
    )
    other = guide.sample(draws, seed=context.seed)

    days = scenario.days_to(TEST[-1])
    runs = {}
    with torch.no_grad():
        for name, known in (("blind", ORIGIN), ("conditional", None)):
            runs[name] = scenario.run(world, sample.u, days, inputs=rule, hire_and_fire=slow, known_until=known, keep_output=name == "conditional")
    error = noise.normal(context.seed, "observation", torch.arange(len(gdp))[:, None], torch.arange(draws)) * sample.sigma
    rows = {"month": [f"{month:%Y-%m}" for month in TEST], "observed": test.numpy()}
    for name, path in runs.items():
        predicted = scenario.monthly(path.gdp, [*FIT, *TEST])[len(FIT) :]
        low, high = _interval(predicted + error[len(FIT) :], level)
        metrics[f"rmse_{name}"] = _rmse(predicted.mean(1) - test)
        metrics[f"covered_{name}"] = int(((test >= low) & (test <= high)).sum())
        rows |= {f"{name}_low": low.numpy(), name: predicted.mean(1).numpy(), f"{name}_high": high.numpy()}
    with torch.no_grad():
        second = scenario.run(world, other, days, inputs=rule, hire_and_fire=slow, known_until=ORIGIN)
    metrics |= {
        "rmse_blind_variational": _rmse(scenario.monthly(second.gdp, TEST).mean(1) - test),
        "variational_mean_gap_sd": float(((other.mean(1) - sample.u.mean(1)).abs() / sample.u.std(1)).max()),
        "variational_sd_ratio": float((other.std(1) / sample.u.std(1)).log().mean().exp()),
    }
    fitted = scenario.monthly(runs["conditional"].gdp, FIT)
    metrics["rmse_fit"] = _rmse(fitted.mean(1) - seen)
    naive = _naive(seen)
    metrics |= {f"rmse_naive_{name}": _rmse(value - test) for name, value in naive.items()}
    metrics |= _employment(world, runs)
    metrics |= {
        "effective_draws": sample.effective,
        "evaluations": found.evaluations + sample.evaluations + steps * particles,
        "cpu_s": time.process_time() - begin,
    }

    p = scenario.parameters(sample.u)
    calendar = [scenario.FIRST_DAY + timedelta(days=k) for k in range(days)]
    return Outcome(
        metrics=metrics,
        title="Belgium 2020: output under measures, from the input-output table",
        summary=(
            f"Fitted on six months of GDP, the model forecasts September 2020 to January 2021 with a root mean square error of {metrics['rmse_blind']:.4f} "
            f"without knowing the second wave (best naive forecast {min(metrics[f'rmse_naive_{name}'] for name in naive):.4f}), and "
            f"{metrics['rmse_conditional']:.4f} when it is given the later measures. Intervals of {level:.0%} cover {metrics['covered_blind']} and "
            f"{metrics['covered_conditional']} of the five months."
        ),
        sections=[
            Section(
                "The question",
                "63 sectors of the Belgian table of 2015 buy from and sell to each other every day. In March 2020 the measures take away labour and demand; "
                "which sectors, and by how much at most, comes from tables that were published in spring 2020. Eight numbers (how strongly, how fast in, how "
                "fast out) are fitted to monthly GDP from March to August. Nothing after 31 August 2020 enters the fit, the choice of the model or the blind "
                "forecast, which lets the measures of August go on.",
            ),
            Section(
                "Which model",
                "Which rule of production, and whether firms hire and fire slowly, was chosen by rolling validation inside the months of the fit: fitted to "
                f"the first {first_origin} months and scored on the rest, then one month more, and so on. The smallest error, {best_error:.4f}, is that of "
                f"{chosen}. The column of blind errors was not used; it shows what the choice is worth: forecasts of the modes of all variants have errors "
                f"from {metrics['rmse_blind_best_variant']:.4f} to {metrics['rmse_blind_worst_variant']:.4f}.",
                tables=("validation",),
            ),
            Section(
                "Forecast",
                f"Bands are {level:.0%} intervals of the posterior of the model's own path; the table adds the error of observation, estimated with the fit. "
                "The dotted line is the last day of the data used. Employment was never seen.",
                tables=("forecast",),
                figures=("fit",),
            ),
            Section(
                "Sectors",
                f"Output of the sectors that add most to the loss of value added, given all measures: posterior medians and {level:.0%} bands. In the map: "
                "what each sector lost in April 2020; the letters are sections of the European classification of activities (A farming, B to E industry, F "
                "building, G trade, H transport, I hotels and restaurants, J information, K finance, L housing, M and N services to firms, O to T the rest).",
                figures=("cascades", "map"),
            ),
            Section(
                "What was learned",
                "Posterior of the parameters beside their priors. Where the two are alike, the months of the fit say nothing. Variational inference with a "
                f"low-rank normal family finds means within {metrics['variational_mean_gap_sd']:.2f} standard deviations of these, standard deviations "
                f"{metrics['variational_sd_ratio']:.2f} times as large, and forecasts with an error of {metrics['rmse_blind_variational']:.4f}.",
                tables=("parameters",),
                figures=("learned",),
            ),
        ],
        tables={
            "forecast": pd.DataFrame(rows),
            "validation": pd.DataFrame(
                [
                    {"variant": label, "rolling_rmse": value, "blind_rmse_at_mode": blind}
                    for value, label, _, _, blind in sorted(validation, key=lambda row: row[0])
                ]
            ),
            "parameters": _parameters(p, level),
        },
        figures={
            "fit": _fit_figure(world, runs, calendar, level),
            "cascades": _cascades(world, runs["conditional"], calendar, level),
            "map": _map(world, runs["conditional"], calendar),
            "learned": _learned(sample.u, level),
        },
        learned={"posterior": {"u": sample.u, "sigma": sample.sigma, "mode": found.u}},
    )


def _model(world: scenario.Belgium, rule: Inputs, slow: bool, months: list[date]) -> Callable[[Tensor], Tensor]:
    days = scenario.days_to(months[-1])
    return lambda u: scenario.monthly(scenario.run(world, u, days, inputs=rule, hire_and_fire=slow).gdp, months)


def _rolling(world: scenario.Belgium, rule: Inputs, slow: bool, seen: Tensor, prior: posterior.Noise, first: int) -> tuple[Tensor, Tensor]:
    """Errors of the forecasts of later months of the fit from ever more of them, by the mode; and the blind forecast of the mode of all of them."""
    start, errors = seen.new_zeros(len(scenario.PRIORS)), []
    whole = _model(world, rule, slow, FIT)
    for count in range(first, len(FIT)):
        start = posterior.mode(_model(world, rule, slow, FIT[:count]), seen[:count], noise_prior=prior, start=start).u
        with torch.no_grad():
            errors.append((whole(start[:, None])[:, 0] - seen)[count:])
    start = posterior.mode(whole, seen, noise_prior=prior, start=start).u
    with torch.no_grad():
        path = scenario.run(world, start[:, None], scenario.days_to(TEST[-1]), inputs=rule, hire_and_fire=slow, known_until=ORIGIN)
    return torch.cat(errors), scenario.monthly(path.gdp, TEST)[:, 0]


def _naive(seen: Tensor) -> dict[str, Tensor]:
    """The last value for ever; all well again; 1 - size exp(-rate t), least squares from April on."""
    at = torch.tensor([(month - FIT[1]).days / 30.4 for month in [*FIT[1:], *TEST]], dtype=seen.dtype)
    loss, later = 1 - seen[1:], at[len(FIT) - 1 :]
    basis = torch.exp(-torch.linspace(0, 2, 2001, dtype=seen.dtype)[:, None] * at[: len(FIT) - 1])
    size = (basis @ loss) / basis.square().sum(1)
    best = int((loss - size[:, None] * basis).square().sum(1).argmin())
    rate = 2 * best / 2000
    return {"persistence": seen[-1].expand(len(TEST)), "recovered": seen.new_ones(len(TEST)), "exponential": 1 - size[best] * torch.exp(-rate * later)}


def _employment(world: scenario.Belgium, runs: Mapping[str, scenario.Path]) -> dict[str, float]:
    days = len(runs["blind"].employment)
    seen = {day: value for day, value in world.covid.employment.items() if (day - scenario.FIRST_DAY).days < days}
    found = {}
    for period, wanted, path in (
        ("to_august", [day for day in seen if day <= ORIGIN], runs["blind"]),
        ("blind", [day for day in seen if day > ORIGIN], runs["blind"]),
        ("conditional", [day for day in seen if day > ORIGIN], runs["conditional"]),
    ):
        predicted = torch.stack([path.employment[(day - scenario.FIRST_DAY).days].mean() for day in wanted])
        found[f"rmse_employment_{period}"] = _rmse(predicted - torch.tensor([seen[day] for day in wanted], dtype=predicted.dtype))
    last = [value for day, value in seen.items() if day <= ORIGIN][-1]
    found["rmse_employment_persistence"] = _rmse(torch.tensor([last - value for day, value in seen.items() if day > ORIGIN], dtype=torch.float64))
    return found


def _parameters(p: Mapping[str, Tensor], level: float) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, values in p.items():
        median, deviation, unit = scenario.PRIORS[name]
        low, high = _interval(values[None], level)
        rows.append({"parameter": name, "unit": unit, "prior median": median, "prior sd of log": deviation})
        rows[-1] |= {"median": float(values.median()), "low": float(low), "high": float(high), "posterior sd of log": float(values.log().std())}
    return pd.DataFrame(rows)


def _learned(u: Tensor, level: float) -> Any:
    """Where the posterior stands, in standard deviations of the prior; the first line is the prior itself."""
    half = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=u.dtype)))
    rows = {"prior of each": (0.0, -half, half)}
    for k, name in enumerate(scenario.PRIORS):
        low, high = _interval(u[k][None], level)
        rows[name] = (float(u[k].median()), float(low), float(high))
    return figures.intervals(rows, label=f"standard deviations of the prior from its median, {level:.0%} intervals")


def _fit_figure(world: scenario.Belgium, runs: Mapping[str, scenario.Path], calendar: list[date], level: float) -> Any:
    names = {"blind": "measures of August go on", "conditional": "given the later measures"}
    jobs = {day: value for day, value in world.covid.employment.items() if day <= calendar[-1]}
    gdp = {"used in the fit": FIT, "not seen": TEST}
    return economy.forecast(
        {
            "Gross domestic product": {names[name]: economy.band(path.gdp, level) for name, path in runs.items()},
            "Employment, never seen": {names[name]: economy.band(path.employment, level) for name, path in runs.items()},
        },
        days=calendar,
        points={
            "Gross domestic product": {name: (months, [world.covid.gdp[month] for month in months]) for name, months in gdp.items()},
            "Employment, never seen": {"survey": (list(jobs), list(jobs.values()))},
        },
        origin=ORIGIN,
        y_label="share of February 2020",
    )


def _cascades(world: scenario.Belgium, path: scenario.Path, calendar: list[date], level: float) -> Any:
    assert path.output is not None
    lost = world.value_added * (1 - path.output.mean(2)).sum(0)
    worst = lost.argsort(descending=True)[:12].tolist()
    return economy.cascades(
        {nace.described(world.covid.sectors[i]): {"posterior": economy.band(path.output[:, i], level)} for i in worst},
        x=calendar,
        x_label="",
        y_label="output, share of the usual",
    )


def _map(world: scenario.Belgium, path: scenario.Path, calendar: list[date]) -> Any:
    assert path.output is not None
    april = [k for k, day in enumerate(calendar) if (day.year, day.month) == (2020, 4)]
    count = len(world.covid.sectors)
    return economy.network_map(
        torch.arange(count).repeat_interleave(count),
        torch.arange(count).repeat(count),
        world.economy.use.reshape(-1),
        sector=torch.arange(count),
        sector_names=world.covid.sectors,
        size=world.economy.output,
        value=1 - path.output[april].mean((0, 2)),
        value_label="share of output lost in April 2020",
    )


def _interval(draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    return draws.quantile((1 - level) / 2, 1), draws.quantile((1 + level) / 2, 1)


def _rmse(error: Tensor) -> float:
    return float(error.square().mean().sqrt())
