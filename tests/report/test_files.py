"""Files of a run folder: whole or not at all, strict JSON, CSV that no spreadsheet runs."""

import csv
import io
import json
import math
import os
from pathlib import Path

import numpy
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpsc.errors import ConfigError, InputError
from dpsc.report.files import FORMULA, guarded, plain, write_bytes, write_figures, write_json, write_tables
from dpsc.report.outcome import Outcome, Section, plain_metrics, section_keys


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_bytes(path, b"old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigError, match=rf"metrics.json cannot be written to {tmp_path}: No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ConfigError, match=f"cannot be written to {tmp_path / 'run'}"):
        write_json(tmp_path / "run" / "metrics.json", {})


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    write_json(tmp_path / "ours.json", {"a": 1})
    assert (tmp_path / "ours.json").stat().st_mode == usual.stat().st_mode


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": math.nan})
    assert not (tmp_path / "x.json").exists()


def test_plain_configuration_is_strict_json() -> None:
    value = plain({"a": math.inf, 3: [Path("x"), (1, True, None)], "b": {"c": 0.5}})
    assert value == {"a": "inf", "3": ["x", [1, True, None]], "b": {"c": 0.5}}
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "-1 ", "=-1"])
def test_formulas_are_guarded(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-1.5", "+3e-4", "two-stage", "", "a=b", -1.5, None, "-inf"])
def test_numbers_and_other_text_stay(cell: object) -> None:
    assert guarded(cell) == cell


@given(st.text(max_size=12))
def test_no_guarded_cell_begins_a_formula_unless_it_is_a_number(cell: str) -> None:
    safe = guarded(cell)
    assert isinstance(safe, str)
    if safe.startswith(FORMULA):
        float(safe)
    assert safe.removeprefix("'") == cell.removeprefix("'")


def test_tables_are_guarded_in_cells_headers_and_index(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"=name": ["@x", "plain"], "number": [-1.5, 2.0], "mixed": numpy.array([-3, "-x"], dtype=object), "kind": pandas.Categorical(["+a", "b"])},
        index=pandas.Index(["-row", "row"], name="=index"),
    )
    before = frame.copy()
    write_tables(tmp_path, {"t": frame})
    assert list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text()))) == [
        ["'=index", "'=name", "number", "mixed", "kind"],
        ["'-row", "'@x", "-1.5", "-3", "'+a"],
        ["row", "plain", "2.0", "'-x", "b"],
    ]
    pandas.testing.assert_frame_equal(frame, before)


def test_tables_keep_every_digit(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"x": numpy.random.default_rng(0).normal(size=50), "n": range(50)})
    write_tables(tmp_path, {"t": frame})
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path / "t.csv"), frame, check_exact=True)


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "x" * 101, "a b", "con\x00"])
def test_names_that_are_no_file_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a table must be named with letters"):
        write_tables(tmp_path, {name: pandas.DataFrame()})
    assert not list(tmp_path.iterdir())


def test_tables_and_figures_of_the_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table 't' must be a pandas.DataFrame, got list"):
        write_tables(tmp_path, {"t": [1, 2]})
    with pytest.raises(InputError, match=r"figure 'f' must be a matplotlib.figure.Figure, got str"):
        write_figures(tmp_path, {"f": "picture"})


def test_metrics_become_plain_numbers() -> None:
    metrics = plain_metrics({"a": torch.tensor(0.5), "b": numpy.float32(2.0), "c": 3, "d": numpy.int64(4), "e": 1.5, "f": numpy.array(6.0)})
    assert metrics == {"a": 0.5, "b": 2.0, "c": 3, "d": 4, "e": 1.5, "f": 6.0}
    assert {type(value) for value in metrics.values()} == {int, float}


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan), "1.0", None, True, torch.ones(2), 1j, numpy.bool_(True)])
def test_metrics_that_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="metric 'regret' must be a finite number, got"):
        plain_metrics({"regret": value})


def test_a_section_shows_only_what_is_there() -> None:
    outcome = Outcome(metrics={}, title="t", summary="s", sections=[Section("Regret", figures=("spraed",))], figures={"spread": object()})
    with pytest.raises(InputError, match=r"section 'Regret' shows the figure 'spraed', expected one of spread \(did you mean spread\?\)"):
        section_keys(outcome)
