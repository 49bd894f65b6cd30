"""Belgium in 2020 and 2021: what was closed when, how hard sectors were hit, how much they keep in stock, and what was observed.

Source: Pichler, Pangallo, del Rio-Chanona, Lafond & Farmer (2022), doi:10.1016/j.jedc.2022.104527 (shocks, stocks, ratings; estimated for the United Kingdom in
55 sectors of WIOD), as prepared for Belgium by Alleman, Schoors & Baetens (2023), arXiv:2305.16377.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy
import pandas
import torch
from torch import Tensor

from dpsc.data import folder
from dpsc.errors import DataError

# First days of the phases of `policies_BE.csv`; Antwerp stands beside the phase in force.
PHASES = {
    "lockdown_1": date(2020, 3, 15),
    "lockdown_release_phaseI": date(2020, 5, 4),
    "lockdown_release_phaseII": date(2020, 5, 18),
    "lockdown_release_phaseIII": date(2020, 6, 8),
    "lockdown_release_phaseIV": date(2020, 7, 1),
    "lockdown_2_1": date(2020, 10, 19),
    "lockdown_2_2": date(2020, 11, 2),
    "lockdown_plateau": date(2020, 11, 27),
}
ANTWERP = (date(2020, 8, 3), date(2020, 8, 24))
ANTWERP_SHARE = 1_869_730 / 11_492_641  # of the population, 1 January 2020, Statbel


@dataclass(frozen=True)
class Covid:
    """By the sectors of the table of 2015, in its order; float64.

    Attributes:
        sectors: N names.
        supply_shock: `(N,)` share of labour that the first lockdown takes away, 0 to 1.
        household_shock: `(N,)` share of household demand that the first lockdown takes away, 0 to 1 (a rise in health is left out).
        other_shock: `(N,)` share of other demand that is lost.
        stock_days: `(N,)` desired stock, days.
        weight: `(N, N)` rating of input (row) for user (column): 1 critical, .5 important, 0.
        closed: phase -> `(N,)` share that is closed.
        gdp: month -> index, February 2020 = 1.
        employment: day -> share of employees at work.
    """

    sectors: tuple[str, ...]
    supply_shock: Tensor
    household_shock: Tensor
    other_shock: Tensor
    stock_days: Tensor
    weight: Tensor
    closed: dict[str, Tensor]
    gdp: dict[date, float]
    employment: dict[date, float]

    def measures(self, days: Sequence[date], *, known_until: date | None = None) -> Tensor:
        """Share closed by day and sector.

        Args:
            days: T days.
            known_until: later phases are unknown: the last one that had begun goes on; None for all of them.
        Returns: `(T, N)`.
        """
        rows = []
        for day in days:
            seen = day if known_until is None else min(day, known_until)
            begun = [name for name, first in PHASES.items() if first <= seen]
            closed = self.closed[begun[-1]] if begun else torch.zeros_like(self.supply_shock)
            if ANTWERP[0] <= day <= ANTWERP[1] and (known_until is None or known_until >= ANTWERP[0]):
                closed = closed + ANTWERP_SHARE * (self.closed["lockdown_Antwerp"] - closed).clamp_min(0)
            rows.append(closed)
        return torch.stack(rows)


def load(sectors: Sequence[str], root: str | None = None) -> Covid:
    """Read the shocks and the observations.

    Args:
        sectors: of the Belgian table, in its order.
        root: data folder; default `$DPSC_DATA`, then `./data`.
    Raises: DataNotFoundError; DataError where a file lists other sectors.
    """

    def read(name: str) -> pandas.DataFrame:
        frame = pandas.read_csv(folder.find("belgium", name, root=root), index_col=0)
        if list(frame.index) != list(sectors):
            raise DataError(f"belgium: {name} must list the sectors of the table in its order")
        return frame

    wide = pandas.read_csv(folder.find("belgium", "WIOD_shockdata.csv", root=root)).set_index("industry")
    origin = [_wiod_sector(sector, list(wide.index)) for sector in sectors]
    policies = read("policies_BE.csv")
    missing = [name for name in (*PHASES, "lockdown_Antwerp") if name not in policies.columns]
    if missing:
        raise DataError(f"belgium: policies_BE.csv must have the phases {', '.join(missing)}")
    ratings = read("IHS_critical_NACE64.csv")
    if list(ratings.columns) != list(sectors):
        raise DataError("belgium: IHS_critical_NACE64.csv must have the sectors of the table as columns, in its order")
    seen = pandas.read_csv(folder.find("belgium", "BE.csv", root=root), parse_dates=["date"])

    def series(column: str) -> dict[date, float]:
        kept = seen[["date", column]].dropna()
        return {day.date(): float(value) for day, value in zip(kept["date"], kept[column], strict=True)}

    return Covid(
        sectors=tuple(sectors),
        supply_shock=_tensor(-wide.loc[origin, "supply.shock"]),
        household_shock=_tensor(-wide.loc[origin, "demand.shock.household"]).clamp_min(0),
        other_shock=_tensor(read("other_demand_shock.csv")["f_demand"]),
        stock_days=_tensor(read("desired_stock_NACE64.csv")["Desired stock (days)"]),
        weight=_tensor(ratings),
        closed={name: _tensor(policies[name]) for name in (*PHASES, "lockdown_Antwerp")},
        gdp=series("GDP"),
        employment=series("employment"),
    )


def month_days(month: date) -> list[date]:
    """All days of the month that a date lies in."""
    first = month.replace(day=1)
    later = (first + timedelta(days=32)).replace(day=1)
    return [first + timedelta(days=k) for k in range((later - first).days)]


def _tensor(values: pandas.Series | pandas.DataFrame) -> Tensor:
    return torch.from_numpy(numpy.array(values, dtype=float))


def _wiod_sector(sector: str, known: list[str]) -> str:
    """The WIOD sector that a NACE-64 sector lies in: `N77` in `N`, `F41-43` in `F`, `R93` and `S94` in `R_S`, `C10-12` is `C10-C12`, `T97-98` is `T`."""
    letter, _, last = sector.partition("-")
    if last:
        for joined in (f"{letter}_{letter[0]}{last}", f"{letter}-{letter[0]}{last}"):
            if joined in known:
                return joined
    for name in (letter, letter[0], "R_S"):
        if name in known and (name != "R_S" or letter[0] in "RS"):
            return name
    raise DataError(f"belgium: sector {sector} must lie in one of the sectors of WIOD_shockdata.csv, got none of them")
