"""Belgium in the pandemic: the calendar of the measures, what may not be known, and the world at rest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import torch

from dpsc.data import covid, tables
from dpsc.errors import DataError, ShapeError
from dpsc.scenarios import belgium_2020 as scenario
from dpsc.simulate import sectors

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def world(data_root: Path) -> scenario.Belgium:
    return scenario.belgium(str(data_root))


def test_the_measures_by_the_calendar(world: scenario.Belgium) -> None:
    days = [date(2020, 3, 14), date(2020, 3, 15), date(2020, 7, 31), date(2020, 8, 10), date(2020, 8, 25), date(2020, 11, 3), date(2021, 1, 1)]
    hotels = world.covid.sectors.index("I55-56")
    share = covid.ANTWERP_SHARE
    assert torch.allclose(world.covid.measures(days)[:, hotels], torch.tensor([0, 1, 0, share, 0, 1, 1], dtype=torch.float64))
    blind = world.covid.measures(days, known_until=date(2020, 8, 31))
    assert blind[-2:, hotels].tolist() == [0, 0]
    assert torch.equal(blind[:5], world.covid.measures(days[:5]))
    assert not bool(world.covid.measures(days[:1]).any())


def test_a_shock_of_a_joined_sector_is_that_of_the_whole(world: scenario.Belgium) -> None:
    shock = dict(zip(world.covid.sectors, world.covid.supply_shock.tolist(), strict=True))
    assert shock["N77"] == shock["N80-82"] == pytest.approx(0.348779871694549)
    assert shock["R93"] == shock["S96"] == pytest.approx(0.344583889992007)
    assert shock["C31-32"] == pytest.approx(0.366139490032262)
    assert world.covid.household_shock[world.covid.sectors.index("Q86")] == 0
    with pytest.raises(DataError, match=r"sector X99 must lie in one of the sectors"):
        covid._wiod_sector("X99", ["A01", "R_S"])


def test_at_rest_before_the_lockdown_and_blind_until_told(world: scenario.Belgium) -> None:
    u = torch.zeros(len(scenario.PRIORS), 1, dtype=torch.float64)
    known = scenario.run(world, u, 260, inputs=sectors.critical, keep_output=True)
    assert known.output is not None
    assert float((known.output[:14] - 1).abs().max()) < 1e-12
    assert float(known.gdp[60, 0]) < 0.9
    blind = scenario.run(world, u, 260, inputs=sectors.critical, known_until=date(2020, 8, 31))
    first = (date(2020, 10, 19) - scenario.FIRST_DAY).days
    assert torch.equal(known.gdp[:first], blind.gdp[:first])
    assert float(known.gdp[-1, 0]) < float(blind.gdp[-1, 0])


def test_a_month_is_the_mean_of_its_days() -> None:
    path = torch.arange(400.0)[:, None]
    assert scenario.monthly(path, [date(2020, 3, 15), date(2020, 4, 15)])[:, 0].tolist() == [15.0, 45.5]
    assert scenario.days_to(date(2020, 4, 15)) == 61
    with pytest.raises(ShapeError, match=r"u must have shape \(P, B\) = \(8, B\), got \(1, 8\)"):
        scenario.parameters(torch.zeros(1, 8))


def test_sectors_must_agree(data_root: Path) -> None:
    with pytest.raises(DataError, match=r"must list the sectors of the table in its order"):
        covid.load(tables.belgium(str(data_root))[0].sectors[::-1], str(data_root))
