"""The naive forecasts of the Belgian experiment against their published values, and nothing after August in the fit."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest
import torch

from dpsc.data import covid, nace
from dpsc.scenarios import belgium_2020 as scenario
from dpsc.scenarios import posterior
from dpsc.simulate import sectors
from experiments import belgium_2020 as experiment

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def world(data_root: Path) -> scenario.Belgium:
    return scenario.belgium(str(data_root))


def test_the_naive_forecasts(world: scenario.Belgium) -> None:
    seen, test = (torch.tensor([world.covid.gdp[m] for m in months], dtype=torch.float64) for months in (experiment.FIT, experiment.TEST))
    naive = experiment._naive(seen)
    assert {name: round(experiment._rmse(value - test), 4) for name, value in naive.items()} == {
        "persistence": 0.0315,
        "recovered": 0.0717,
        "exponential": 0.0306,
    }


def test_every_sector_has_a_name(world: scenario.Belgium) -> None:
    assert list(nace.BRANCHES) == list(world.covid.sectors)
    assert nace.described("I55-56") == "I55-56 hotels, restaurants"
    assert nace.described("Z1") == "Z1"


def test_the_fit_cannot_see_past_august(world: scenario.Belgium) -> None:
    model = experiment._model(world, sectors.critical, False, experiment.FIT)
    seen = torch.tensor([world.covid.gdp[m] for m in experiment.FIT], dtype=torch.float64)
    found = posterior.mode(model, seen, noise_prior=posterior.Noise(3.0, 3e-4), start=torch.zeros(8, dtype=torch.float64), steps=3)
    assert float(found.residual.abs().max()) < 0.03
    later = {phase: closed + 0.5 if covid.PHASES.get(phase, date(2020, 1, 1)) > experiment.ORIGIN else closed for phase, closed in world.covid.closed.items()}
    assert sum(not torch.equal(later[phase], world.covid.closed[phase]) for phase in later) == 3
    other = dataclasses.replace(world, covid=dataclasses.replace(world.covid, closed=later))
    assert torch.equal(experiment._model(other, sectors.critical, False, experiment.FIT)(found.u[:, None]), model(found.u[:, None]))
    days = scenario.days_to(experiment.TEST[-1])
    blind = [scenario.run(w, found.u[:, None], days, inputs=sectors.critical, known_until=experiment.ORIGIN).gdp for w in (world, other)]
    assert torch.equal(*blind)
