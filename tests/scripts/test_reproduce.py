"""The table of expected against measured over many runs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import reproduce


def row(name: str, measured: float | None, ok: bool | None, **changes: Any) -> dict[str, Any]:
    return {"name": name, "expected": 1.0, "measured": measured, "tolerance": 0.1, "relation": "=", "ok": ok, "source": "a, table", **changes}


class Runs:
    """Stands in for the processes: writes what a run would, and remembers what was asked."""

    def __init__(self, results: dict[str, tuple[int, list[dict[str, Any]]]]) -> None:
        self.results = results
        self.asked: list[tuple[str, Path, list[str]]] = []

    def __call__(self, name: str, folder: Path, overrides: Sequence[str]) -> int:
        self.asked.append((name, folder, list(overrides)))
        code, rows = self.results[name]
        folder.mkdir(parents=True)
        (folder / "expected.json").write_text(json.dumps(rows))
        if name == "good":
            for kind, file in (("figures", "map.png"), ("figures", "curves.png"), ("tables", "rows.csv")):
                (folder / kind).mkdir(exist_ok=True)
                (folder / kind / file).touch()
        return code


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name, text in {
        "good": "group: firms",
        "missed": "group: inventory",
        "plain": "group: firms",
        "long": "group: inventory\nslow: true",
        "broken": "group: inventory\nslow: true",
    }.items():
        (folder / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    return folder.parent


RESULTS: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "good": (0, [row("cost", 1.05, True), row("share", 1.0, True, relation=">=")]),
    "missed": (3, [row("cost", 2.0, False), row("gone", None, False)]),
    "plain": (0, []),
    "long": (0, [row("cost", 5.0, None)]),
    "broken": (2, [row("stale", 1.0, True)]),
}


def go(conf: Path, *arguments: str) -> tuple[int, Runs, list[dict[str, str]]]:
    runs = Runs(RESULTS)
    code = reproduce.main(arguments, run=runs, config_dir=conf, runs=conf.parent / "runs")
    with open(conf.parent / "runs" / "reproduce.csv", newline="") as file:
        return code, runs, list(csv.DictReader(file))


def test_every_row_of_every_run_is_in_the_table_and_in_the_file(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, runs, rows = go(conf)
    assert code == 3
    assert [name for name, _, _ in runs.asked] == ["good", "missed", "plain"]
    assert [(r["experiment"], r["name"], r["measured"], r["ok"], r["source"]) for r in rows] == [
        ("good", "cost", "1.05", "True", "a, table"),
        ("good", "share", "1.0", "True", "a, table"),
        ("missed", "cost", "2.0", "False", "a, table"),
        ("missed", "gone", "", "False", "a, table"),
        ("plain", "", "", "", ""),
    ]
    lines = capsys.readouterr().out.splitlines()
    table = [" ".join(line.split()) for line in lines]
    assert "good cost = 1 0.1 1.05 ok" in table
    assert "good share >= 1 0.1 1 ok" in table
    assert "missed gone = 1 0.1 - NOT MET" in table
    assert "plain no expected numbers" in table
    left = [line for line in lines if "figures" in line]
    assert len(left) == 1, "the others left none"
    assert left[0].endswith("good: figures curves, map; tables rows")


def test_runs_have_folders_of_their_own(conf: Path) -> None:
    first, second = go(conf, "good")[1], go(conf, "good")[1]
    folders = [asked[1] for asked in first.asked + second.asked]
    assert len(set(folders)) == 2
    assert all(folder.is_absolute() and folder.is_relative_to(conf.parent / "runs" / "reproduce") for folder in folders)


@pytest.mark.parametrize(
    ("arguments", "names", "code"),
    [
        (["good"], ["good"], 0),
        (["good", "plain"], ["good", "plain"], 0),
        (["long"], ["long"], 0),
        (["--slow"], ["broken", "good", "long", "missed", "plain"], 1),
        (["broken", "missed"], ["broken", "missed"], 1),
        (["firms"], ["good", "plain"], 0),
        (["inventory"], ["broken", "long", "missed"], 1),
        (["plain", "firms"], ["plain", "good"], 0),
    ],
)
def test_what_is_run_and_the_exit_code(arguments: list[str], names: list[str], code: int, conf: Path) -> None:
    got, runs, _ = go(conf, *arguments)
    assert [name for name, _, _ in runs.asked] == names
    assert got == code


def test_a_run_that_failed_shows_no_rows_of_an_earlier_one(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, rows = go(conf, "broken")
    assert code == 1
    assert [(r["experiment"], r["name"], r["exit_code"]) for r in rows] == [("broken", "", "2")]
    assert "failed with exit code 2" in capsys.readouterr().out


def test_runs_side_by_side_give_the_same_table(conf: Path) -> None:
    one, two = go(conf, "firms", "missed"), go(conf, "firms", "missed", "--jobs", "2")
    assert one[0] == two[0] == 3
    assert [{**row, "duration_s": ""} for row in one[2]] == [{**row, "duration_s": ""} for row in two[2]]
    assert [overrides for _, _, overrides in two[1].asked] == [["progress=false"]] * 3


def test_overrides_go_to_every_run(conf: Path) -> None:
    _, runs, _ = go(conf, "threads=2", "good", "missed", "data.root=/x")
    assert [overrides for _, _, overrides in runs.asked] == [["threads=2", "data.root=/x"]] * 2


def test_an_unknown_name_names_the_near_ones(conf: Path) -> None:
    with pytest.raises(SystemExit, match=r"one of broken, good, long, missed, plain, or a group: firms, inventory; got 'god' \(did you mean good"):
        go(conf, "god")


def test_a_run_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(reproduce.subprocess, "run", lambda command, **more: asked.append((command, more)) or type("Ended", (), {"returncode": 3}))
    assert reproduce.launch("good", tmp_path, ["threads=2"]) == 3
    ((command, more),) = asked
    assert command[1:] == ["-m", "experiments.run", "experiment=good", f"folder={tmp_path}", "threads=2"]
    assert more["cwd"] == Path(reproduce.__file__).resolve().parents[1]
