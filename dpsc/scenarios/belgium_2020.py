"""Belgium in the pandemic: measures and fear in, output and employment by sector and day out, with few parameters that have priors.

A parameter is exp(location + scale u) with u ~ N(0, 1). Everything below is written for B values of them at once, `(P, B)`.

    m_i   share of sector i that is closed (a table of the measures)
    p_i   moves towards m_i by 1 - exp(-1 / onset) of the gap a day where it rises, by 1 - exp(-1 / reopening) where it falls
    labour_i     = (1 - supply_shock_i) ^ (labour_strength p_i)
    q_i   like p_i, with `caution` where it falls; households_i = (1 - household_shock_i) ^ (household_strength q_i)
    g     like p for the first lockdown, with `recovery` where it falls; others_i = (1 - other_shock_i) ^ (other_strength g)

The economy is `dpsc.simulate.sectors`; gross domestic product is value added in proportion to output, employment the share of employees that firms
want and may have at work. Source: see `dpsc.simulate.sectors`; the lags and the powers are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc.data import covid, tables
from dpsc.data.tables.public import EMPLOYEES
from dpsc.errors import ShapeError
from dpsc.simulate import sectors
from dpsc.simulate.sectors import Behaviour, Day, Economy, Inputs

FIRST_DAY = date(2020, 3, 1)

# name -> (median, standard deviation of its logarithm, unit)
PRIORS = {
    "labour_strength": (1.0, 0.4, "1"),
    "household_strength": (1.0, 0.4, "1"),
    "other_strength": (1.0, 0.4, "1"),
    "onset": (7.0, 0.5, "days"),
    "reopening": (21.0, 0.7, "days"),
    "caution": (60.0, 0.7, "days"),
    "recovery": (180.0, 0.7, "days"),
    "restocking": (10.0, 0.5, "days"),
}


class Path(NamedTuple):
    """A run: gdp `(T, B)` and employment `(T, B)` as shares of the usual; output `(T, N, B)` of sectors, if kept, as a share of the usual."""

    gdp: Tensor
    employment: Tensor
    output: Tensor | None


@dataclass(frozen=True)
class Belgium:
    """The economy, the shocks and the weights of what is observed; made by `belgium`.

    Attributes:
        economy: 63 sectors, million euro a day.
        covid: shocks, measures, observations.
        value_added: `(N,)` shares, sum 1.
        employees: `(N,)` shares, sum 1.
    """

    economy: Economy
    covid: covid.Covid
    value_added: Tensor
    employees: Tensor


def belgium(root: str | None = None) -> Belgium:
    """Read the table of 2015 and everything about 2020. Raises: DataNotFoundError; DataError."""
    table, accounts = tables.belgium(root)
    pandemic = covid.load(table.sectors, root)
    economy = Economy(
        coefficients=table.coefficients,
        output=table.output / 365,
        households=table.final_demand[:, 0] / 365,
        others=table.final_demand[:, 1] / 365,
        stock_days=pandemic.stock_days.clamp_min(1.0),
        weight=pandemic.weight,
    )
    employees = torch.from_numpy(accounts[EMPLOYEES].to_numpy(dtype=float, copy=True))
    return Belgium(economy, pandemic, table.value_added / table.value_added.sum(), employees / employees.sum())


def parameters(u: Tensor) -> dict[str, Tensor]:
    """Unit-normal coordinates `(P, B)` -> name -> `(B,)`. Raises: ShapeError."""
    if u.dim() != 2 or len(u) != len(PRIORS):
        raise ShapeError(f"u must have shape (P, B) = ({len(PRIORS)}, B), got {tuple(u.shape)}")
    return {name: median * torch.exp(deviation * u[k]) for k, (name, (median, deviation, _)) in enumerate(PRIORS.items())}


def run(
    world: Belgium, u: Tensor, days: int, *, inputs: Inputs, hire_and_fire: bool = True, known_until: date | None = None, keep_output: bool = False
) -> Path:
    """Play the economy from 1 March 2020.

    Args:
        world: of `belgium`.
        u: `(P, B)` unit-normal coordinates of the parameters.
        days: T.
        inputs: rule of production.
        hire_and_fire: whether labour lags behind; otherwise it follows at once.
        known_until: see `Covid.measures`.
        keep_output: whether to return output by sector.
    Gradient: in `u`, exact sub-gradients; forward mode works.
    """
    p = parameters(u)
    calendar = [FIRST_DAY + timedelta(days=k) for k in range(days)]
    closed = world.covid.measures(calendar, known_until=known_until)
    lockdown = [float(covid.PHASES["lockdown_1"] <= day < covid.PHASES["lockdown_release_phaseI"]) for day in calendar]
    behaviour = Behaviour(p["restocking"]) if hire_and_fire else Behaviour(p["restocking"], hiring=1.0, firing=1.0)
    rise = 1 - torch.exp(-1 / p["onset"])
    supply, household, other = (
        torch.log1p(-x.clamp_max(0.999))[:, None] for x in (world.covid.supply_shock, world.covid.household_shock, world.covid.other_shock)
    )
    fall = {name: 1 - torch.exp(-1 / p[name]) for name in ("reopening", "caution", "recovery")}
    x0 = world.economy.output[:, None]
    state = sectors.start(world.economy, u.shape[-1])
    work = torch.zeros_like(state.labour)
    caution, abroad = torch.zeros_like(work), torch.zeros_like(u[0])
    gdp, employment, output = [], [], []
    for t in range(days):
        work = _towards(work, closed[t][:, None], rise, fall["reopening"])
        caution = _towards(caution, closed[t][:, None], rise, fall["caution"])
        abroad = _towards(abroad, abroad.new_full((), lockdown[t]), rise, fall["recovery"])
        day = Day(
            labour=torch.exp(supply * p["labour_strength"] * work),
            households=torch.exp(household * p["household_strength"] * caution),
            others=torch.exp(other * p["other_strength"] * abroad),
        )
        state, flow = sectors.step(state, world.economy, day, inputs=inputs, behaviour=behaviour)
        share = flow.output / x0
        gdp.append(world.value_added @ share)
        employment.append(world.employees @ torch.minimum(state.labour, day.labour))
        if keep_output:
            output.append(share)
    return Path(torch.stack(gdp), torch.stack(employment), torch.stack(output) if keep_output else None)


def monthly(path: Tensor, months: Sequence[date]) -> Tensor:
    """Means over calendar months, `(T, B)` -> `(months, B)`."""
    rows = []
    for month in months:
        wanted = [(day - FIRST_DAY).days for day in covid.month_days(month)]
        rows.append(path[wanted[0] : wanted[-1] + 1].mean(0))
    return torch.stack(rows)


def days_to(last: date) -> int:
    """Days from the first of March 2020 to the end of the month of a date."""
    return (covid.month_days(last)[-1] - FIRST_DAY).days + 1


def _towards(value: Tensor, target: Tensor, rise: Tensor, fall: Tensor) -> Tensor:
    gap = target - value
    return value + rise * gap.clamp_min(0) - fall * (-gap).clamp_min(0)
