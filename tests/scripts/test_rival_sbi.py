"""scripts/rival_sbi.py without sbi: what it counts, prints, reads from a run, and says where sbi is missing. sbi itself is measured in docs/benchmarks.md."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.relax import Exact
from experiments.firm_cases import NOISE, stored
from scripts import rival_sbi

SCRIPT = Path(rival_sbi.__file__)
CASE = "m300_ns1_s1"


def truthful(coordinates: Tensor, series: Tensor, seen: Tensor, count: int, settings: rival_sbi.Settings) -> tuple[Tensor, dict[str, Any]]:
    """An estimator that knows the answer, with a spread of .001 where it is needed."""
    assert coordinates.shape == (200, 600)
    assert series.shape == (200, 40)
    assert torch.equal(seen, stored(300, 1, 1).series[:40, 0])
    generator = torch.Generator().manual_seed(settings.seed)
    return stored(300, 1, 1).truth + 0.001 * torch.randn(count, 600, generator=generator), {"epochs": 7}


def test_simulations_are_noisy_runs_of_draws_of_the_prior_and_are_counted() -> None:
    case = stored(300, 10, 1)
    coordinates, series, evaluations, _ = rival_sbi.simulated(case, 300, 4)
    assert evaluations == 300
    clean = case.simulator()(coordinates.mT, relax=Exact()).flatten(0, 1).mT
    error = (series - clean) / NOISE
    assert abs(float(error.std()) - 1) < 0.01
    assert abs(float(error.mean())) < 0.02
    assert abs(float(coordinates.std()) - 1) < 0.01
    assert torch.equal(coordinates[:5], rival_sbi.simulated(case, 5, 4)[0]), "a draw does not depend on how many are asked for"


def test_a_perfect_estimator_has_the_loss_of_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "out.json"
    assert rival_sbi.main([CASE, "--simulations", "200", "--draws", "4", "--json", str(where)], estimator=truthful) == 0
    found = json.loads(where.read_text())
    assert found["settings"]["transforms"] == 2
    row = found["cases"][CASE]
    assert row["loss"] == pytest.approx(row["floor"], rel=0.02)
    assert row["coverage_all"] > 0.99
    assert row["narrower_than_half"] == 600
    assert row["evaluations"] == 200
    assert "epochs 7" in capsys.readouterr().out


def test_a_run_of_svi_vs_abc_stands_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "metrics.json").write_text(json.dumps({f"loss_{CASE}": 0.5}))
    (tmp_path / "tables" / "methods.csv").write_text(
        "data set,method,evaluations,fitted_x1e4,later_x1e4,shock_x1e4,floor_x1e4,cpu_s,coverage_n,coverage_lambda_hit\n"
        "M300_NS1_s1,variational,300,0.5,0.25,0.75,0.05,3.5,0.4,0.3\nM300_NS1_s1,rejection,30000,1.5,1.25,1.75,0.05,60,,\nM300_NS10_s1,variational,300,9,9,9,9,9,9,9\n"
    )
    assert rival_sbi.main([CASE, "--simulations", "200", "--run", str(tmp_path)], estimator=truthful) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["variational", "0.5", "0.25", "0.75", "0.4", "0.3", "300", "3.5"]
    assert lines[4].split() == ["rejection", "1.5", "1.25", "1.75", "3e+04", "60"]
    assert len(lines) == 6, "the other case stays out"
    assert rival_sbi.main(["m300_ns10_s1", "--run", str(tmp_path)], estimator=truthful) == 1
    assert "must hold a run of svi_vs_abc with the case m300_ns10_s1, got one without loss_m300_ns10_s1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["m300"], "case must look like m300_ns10_s1, got 'm300'"),
        (["--simulations", "10"], "--simulations must be at least 100, got 10"),
        (["--interval-draws", "5"], "--interval-draws must be at least 19, got 5"),
        (["--epochs", "many"], "invalid int value: 'many'"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        rival_sbi.main(arguments, estimator=truthful)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_a_case_that_is_not_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert rival_sbi.main(["m300_ns10_s9"], estimator=truthful) == 1
    assert "case must be one of M1000_NS20_s1" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("sbi") is not None, reason="sbi is installed here")
def test_without_sbi_the_script_says_how_to_get_it() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), CASE, "--simulations", "100"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sbi is not installed for" in done.stderr
    assert "It is no dependency of dpsc: give it an environment of its own" in done.stderr
    assert "Traceback" not in done.stderr
