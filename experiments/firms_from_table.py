"""A user's own input-output table: checked, split into firms, shocked many times, with the firms that matter most."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.data import tables
from dpsc.errors import ConfigError, DataError
from dpsc.report import Outcome, Section, economy, figures
from dpsc.scenarios import systemic_risk
from dpsc.simulate import firms
from experiments.context import RunContext

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "economy.csv"
CELLS = 4_000_000  # links times columns that are run at once
READERS = ("csv", "belgium", "wiod_2008", "test", "wiod", "exiobase1", "exiobase2", "exiobase3", "oecd", "eora26", "saved")

WITH_YEARS = ("wiod", "oecd", "eora26")


def run(
    *,
    context: RunContext,
    table: Mapping[str, Any],
    split: Mapping[str, Any],
    most_links: float,
    periods_a_year: float,
    horizon: int,
    onset: int,
    scenarios: int,
    shock: Mapping[str, Any],
    stock: Mapping[str, float],
    adjustment_time: float,
    capacity: float,
    importance: Mapping[str, float],
    switching: float,
    removals: int,
    sharpness: Sequence[float],
    level: float,
) -> Outcome:
    """Read, check, split, shock, rank.

    Args:
        context: of the run.
        table: path, format, and how to read it; see conf/experiment/firms_from_table.yaml.
        split: arguments of `split_into_firms`.
        most_links: between firms; a table that would make more is refused before the split.
        periods_a_year: steps in one period of the table.
        horizon: steps.
        onset: step of the shock.
        scenarios: random shocks.
        shock: sectors (null: all), hit (probability of a firm), smallest, largest (share lost), recovery (mean rate a step).
        stock: median and spread (standard deviation of the logarithm) of the firms' stocks, in steps of their own use.
        adjustment_time: tau, steps.
        capacity: over the output at rest.
        importance: smallest input coefficient that is critical, and that is important, for its buyer.
        switching: sensitivity of orders to how well suppliers of one sector serve; 0: as in the table.
        removals: at most so many firms are removed one by one, the largest first; every third of them chooses the sharpness.
        sharpness: of the straight-through minimum, those tried.
        level: of the bands.
    """
    begin = time.process_time()
    if not 0 <= onset < checks.at_least("flow.horizon", horizon, 2):
        raise ConfigError(f"flow.onset must be a step of the run, 0 <= onset < horizon = {horizon}, got {onset}")
    if not 0 < level < 1:
        raise ConfigError(f"flow.level must lie in (0, 1), got {level}")
    for name, value in (("periods_a_year", periods_a_year), ("stock.median", stock["median"])):
        checks.positive(f"flow.{name}", value)
    source = _read(table, context.data_root)
    expected = tables.links(source, **split)
    if expected > most_links:
        raise ConfigError(
            f"the firms of this table would have {expected:,} links, more than flow.most_links = {most_links:,.0f}: make fewer firms (flow.split.firms=1, now "
            f"{split['firms']}) or suppliers (flow.split.suppliers=1, now {split['suppliers']}), leave out small inputs "
            f"(flow.split.smallest_coefficient=0.001, now {split['smallest_coefficient']:g}), or allow more"
        )
    made = tables.split_into_firms(source, **split)
    network = firms.Network.of(made.supplier, made.buyer, made.coefficient, made.final_demand / periods_a_year, sector=made.sector, product=made.sector)
    count = len(source.sectors)
    rest = network.by_sector(network.output[:, None], count)[:, 0]
    back = float((rest * periods_a_year / source.output - 1).abs().max())

    everyone = torch.arange(network.firms)
    inventory = stock["median"] * torch.exp(stock["spread"] * noise.normal(context.seed, "stock", everyone))
    parameters = firms.Parameters(inventory=inventory.clamp_min(1.0), adjustment_time=adjustment_time, capacity=capacity)
    size, rate = _shock(shock, source, made.sector, scenarios, context.seed)
    rules = firms.Rules(production=firms.partly_binding(_importance(importance, network.recipe)), ordering=firms.Switching(switching))
    together = max(1, CELLS // max(network.edges, 1))  # columns of a batch, so that large tables fit into memory
    made_of = []
    with torch.no_grad():
        batches = list(zip(size.split(together, 1), rate.split(together, 1), strict=True))
        for part, speed in context.track(batches, "scenarios", len(batches)):
            shocked = 1 - firms.exponential(horizon, onset=onset, size=part, rate=speed)
            made_of.append(firms.rollout(network, parameters, productivity=shocked, rules=rules).output)
    output = torch.cat(made_of, 2)
    by_sector = network.by_sector(output, count) / rest[:, None]
    total = output.sum(1) / network.output.sum()
    lost = (1 - by_sector).mean(0)

    largest = network.output.argsort(descending=True)[: checks.at_least("removals", removals, 2)]
    with torch.no_grad():
        parts = largest.split(together)
        removed = torch.cat(
            [
                systemic_risk.removal(network, parameters, horizon=horizon, onset=onset, chosen=part, together=together, rules=rules)
                for part in context.track(parts, "removals", len(parts))
            ]
        )
    sample = torch.arange(len(largest)) % 3 == 0
    scored = []
    for sharp in sharpness:
        slope = systemic_risk.by_gradient(network, parameters, horizon=horizon, onset=onset, rules=rules, relax=systemic_risk.straight_through(sharp))
        scored.append((systemic_risk.rank_correlation(slope[largest][sample], removed[sample]), sharp, slope))
    _, sharp, slope = max(scored, key=lambda row: row[0])
    others = largest[~sample]
    everything = horizon * network.final_demand.sum()
    findings = source.findings
    metrics = {
        "sectors": count,
        "firms": network.firms,
        "edges": network.edges,
        "masked_sectors": len(findings.masked),
        "negative_final_demand": len(findings.negative_final_demand),
        "spectral_radius": findings.spectral_radius,
        "balance_error": findings.leontief_error,
        "sector_total_error": back,
        "worst_total_pct": 100 * float(1 - total.min(0).values.mean()),
        "lost_output_pct": 100 * float(1 - total.mean()),
        "lost_output_pct_low": 100 * float((1 - total.mean(0)).quantile((1 - level) / 2)),
        "lost_output_pct_high": 100 * float((1 - total.mean(0)).quantile((1 + level) / 2)),
        "removals": len(largest),
        "sharpness": sharp,
        "rank_correlation": systemic_risk.rank_correlation(slope[others], removed[~sample]),
        "rank_correlation_size": systemic_risk.rank_correlation(network.output[others], removed[~sample]),
        "cpu_s": time.process_time() - begin,
    }
    names = made.firm_names()
    order = removed.argsort(descending=True)
    ranking = pd.DataFrame(
        {
            "firm": [names[i] for i in largest[order].tolist()],
            "lost_if_removed_pct": (100 * removed[order] / everything).numpy(),
            "output_share_pct": (100 * network.output[largest[order]] / network.output.sum()).numpy(),
            "rank_by_gradient": (slope[largest][order].argsort(descending=True).argsort() + 1).numpy(),
        }
    )
    low, middle, high = (lost.quantile(q, 1) for q in ((1 - level) / 2, 0.5, (1 + level) / 2))
    sectors = pd.DataFrame(
        {"sector": source.sectors, "output": source.output.numpy(), "lost_low_pct": (100 * low).numpy(), "lost_median_pct": (100 * middle).numpy()}
        | {"lost_high_pct": (100 * high).numpy(), "lost_mean_pct": (100 * lost.mean(1)).numpy()}
    ).sort_values("lost_mean_pct", ascending=False, ignore_index=True)
    panels = {"All sectors": {"scenarios": economy.band(total, level)}}
    for i in lost.mean(1).argsort(descending=True).tolist()[:11]:
        panels[source.sectors[i]] = {"scenarios": economy.band(by_sector[:, i], level)}
    flow = network.coefficient * network.output[network.buyer]
    return Outcome(
        metrics=metrics,
        title=f"Firms from the table {_name(table)}",
        summary=(
            f"{count} sectors, {network.firms} firms, {network.edges} links. Over {scenarios} random shocks the economy loses "
            f"{metrics['lost_output_pct']:.2f} % of its output in {horizon} steps ({metrics['lost_output_pct_low']:.2f} to "
            f"{metrics['lost_output_pct_high']:.2f} % in {level:.0%} of them). The firm that would be missed most is {ranking['firm'][0]}."
        ),
        sections=[
            Section(
                "The table",
                "\n\n".join(
                    [
                        f"Final demand is the sum of the columns {', '.join(source.categories)}."
                        if len(source.categories) > 1
                        else "Final demand is one column.",
                        *findings.lines(),
                        f"Below: output of the sectors in the table's unit, and what they lose of it over the horizon in the shocks, per cent: mean, median, "
                        f"and the ends of a {level:.0%} interval over scenarios. In the map every dot is a firm beside its sector's name.",
                    ]
                ),
                tables=("sectors",),
                figures=("map",),
            ),
            Section(
                "Cascades",
                f"In every scenario each firm of the shocked sectors is hit with probability {shock['hit']:g}, loses a share of its productivity at step "
                f"{onset} and recovers. Lines are medians over scenarios of a sector's output, bands {level:.0%} intervals.",
                figures=("cascades",),
            ),
            Section(
                "Which firms matter most",
                "The share of final demand that is not met over the horizon when a firm stops for good, by removing firms one by one; beside it the rank that "
                "one gradient gives. The sharpness of its minimum was chosen on every third of these firms; on the others the rank correlation is "
                f"{metrics['rank_correlation']:.3f}, that of size alone {metrics['rank_correlation_size']:.3f}.",
                tables=("ranking",),
                figures=("ranks",),
            ),
        ],
        tables={"sectors": sectors, "ranking": ranking},
        figures={
            "cascades": economy.cascades(panels, x=torch.arange(horizon), x_label="step", y_label="output, share of the usual"),
            "map": economy.network_map(
                network.supplier,
                network.buyer,
                flow,
                sector=made.sector,
                sector_names=source.sectors,
                size=network.output,
                value=100 * (1 - output.mean((0, 2)) / network.output),
                value_label="mean output lost, %",
            ),
            "ranks": figures.scatter_pairs(
                systemic_risk.percent_rank(slope[largest]), systemic_risk.percent_rank(removed), x_label="rank by gradient, %", y_label="rank by removal, %"
            ),
        },
        learned={"network": {"supplier": made.supplier, "buyer": made.buyer, "coefficient": made.coefficient, "final_demand": made.final_demand}}
        | {"ranking": {"firm": largest, "lost_if_removed": removed, "gradient": slope}},
    )


def _name(table: Mapping[str, Any]) -> str:
    """What the report calls the table."""
    if table["path"] is not None:
        return Path(str(table["path"])).name
    return "of the example" if table["format"] == "csv" else f"{table['format']}, a public one"


def _read(table: Mapping[str, Any], root: str | None) -> tables.Table:
    """The table that the configuration names."""
    checks.one_of("table.format", table["format"], READERS)
    how = {"balance": table["balance"], "negative_final_demand": table["negative_final_demand"]}
    path = EXAMPLE if table["path"] is None else Path(str(table["path"])).expanduser()
    if table["format"] == "csv":
        own = {name: table[name] for name in ("output", "final_demand", "other_rows", "other_columns", "separator", "decimal")}
        try:
            return tables.read_csv(path, **own, **how)
        except DataError as error:  # what it says to a caller, in the words of the command line
            raise type(error)(re.sub(rf"\b({'|'.join([*own, *how])})=", r"table.\1=", str(error))) from error
    if table["format"] in ("belgium", "wiod_2008"):
        source = tables.belgium(root)[0] if table["format"] == "belgium" else tables.wiod_2008(root)
        return tables.checked_table(
            source.sectors,
            source.flow,
            source.final_demand,
            categories=source.categories,
            source=table["format"],
            negative_final_demand=how["negative_final_demand"],
        )
    if table["year"] is not None:
        checks.one_of("table.format of a table.year", table["format"], WITH_YEARS)
        how["year"] = table["year"]
    return tables.read_pymrio(None if table["path"] is None else path, table["format"], **how)


def _shock(shock: Mapping[str, Any], source: tables.Table, sector: Tensor, scenarios: int, seed: int) -> tuple[Tensor, Tensor]:
    """Share lost and rate of recovery, `(M, B)` each."""
    smallest, largest, hit = float(shock["smallest"]), float(shock["largest"]), float(shock["hit"])
    if not 0 <= smallest <= largest <= 1 or not 0 < hit <= 1:
        raise ConfigError(f"flow.shock must have 0 <= smallest <= largest <= 1 and 0 < hit <= 1, got {smallest}, {largest} and {hit}")
    named: Sequence[str] = source.sectors if shock["sectors"] is None else [shock["sectors"]] if isinstance(shock["sectors"], str) else shock["sectors"]
    struck = torch.zeros(len(source.sectors), dtype=torch.bool)
    for name in named:
        struck[source.index(name)] = True
    address = torch.arange(len(sector))[:, None], torch.arange(checks.at_least("scenarios", scenarios, 1))
    lost = smallest + (largest - smallest) * noise.uniform(seed, "shock: share lost", *address)
    there = struck[sector][:, None] & (noise.uniform(seed, "shock: who", *address) < hit)
    rate = checks.positive("flow.shock.recovery", shock["recovery"]) * torch.exp(0.5 * noise.normal(seed, "shock: recovery", *address))
    return torch.where(there, lost, torch.zeros_like(lost)), rate


def _importance(importance: Mapping[str, float], recipe: Tensor) -> Tensor:
    """1 for critical inputs, 1/2 for important ones, 0 else, `(K,)`."""
    critical, important = float(importance["critical"]), float(importance["important"])
    if not 0 <= important <= critical:
        raise ConfigError(f"flow.importance must have 0 <= important <= critical, got {important} and {critical}")
    return torch.where(recipe >= critical, 1.0, torch.where(recipe >= important, 0.5, 0.0)).to(recipe)
