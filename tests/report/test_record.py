"""The record of a run, from the first moment to the last."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from dpsc.errors import ConfigError, InputError
from dpsc.report import Outcome, RunRecord, Section, load_learned
from dpsc.report import record as record_module
from dpsc.report.figures import curves
from dpsc.report.record import already_finished, configuration_hash, previous, revision, versions

CONFIGURATION = {"name": "sample", "seed": 7, "flow": {"epochs": 3, "rate": 0.1}}
ROWS = [{"name": "cost", "expected": 0.5, "tolerance": 0.1, "source": "a table"}]


def opened(folder: Path, **changes: Any) -> RunRecord:
    facts = {"name": "sample", "seed": 7, "device": "cpu", "threads": 1, "command": "python -m experiments.run", "configuration": CONFIGURATION}
    return RunRecord(folder, **{**facts, **changes})


def outcome(**changes: Any) -> Outcome:
    facts: dict[str, Any] = {
        "metrics": {"cost": torch.tensor(0.45), "rows": 12},
        "title": "A sample",
        "summary": "Nothing to see.",
        "sections": [Section("Training", "A line.", figures=("loss",), tables=("rows",))],
        "tables": {"rows": pandas.DataFrame({"a": [1, 2]})},
        "figures": {"loss": curves({"loss": [3.0, 2.0, 1.0]}, x_label="epoch", y_label="loss (cost units)")},
        "learned": {"predictor": {"weight": torch.eye(2)}},
    }
    return Outcome(**{**facts, **changes})


def saved(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


def test_run_json_is_there_from_the_start(tmp_path: Path) -> None:
    record = opened(tmp_path / "a" / "b")
    content = saved(record.folder)
    assert content["status"] == "running"
    assert {key: content[key] for key in ("name", "seed", "device", "threads", "exit_code", "duration_s")} == {
        "name": "sample",
        "seed": 7,
        "device": "cpu",
        "threads": 1,
        "exit_code": None,
        "duration_s": None,
    }
    assert content["configuration"] == CONFIGURATION
    assert content["start"][10] == "T"
    assert content["start"][-6] in "+-"  # with its time zone
    assert content["versions"]["torch"] == torch.__version__
    record.release()


def test_everything_is_written_and_finished_is_last(tmp_path: Path) -> None:
    record = opened(tmp_path)
    rows = record.write(outcome(), ROWS)
    assert saved(tmp_path)["status"] == "running"
    record.finish(0)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "run.json",
        "metrics.json",
        "expected.json",
        "report.html",
        "tables/rows.csv",
        "figures/loss.png",
        "learned/predictor.pt",
        "learned/manifest.json",
    }
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"cost": pytest.approx(0.45), "rows": 12}
    assert json.loads((tmp_path / "expected.json").read_text()) == rows
    assert rows[0]["ok"] is True
    assert (tmp_path / "figures" / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert torch.equal(load_learned(tmp_path, "predictor")["weight"], torch.eye(2))
    content = saved(tmp_path)
    assert (content["status"], content["exit_code"]) == ("finished", 0)
    assert content["duration_s"] > 0
    assert "error" not in content


def test_overrides_make_rows_not_applicable(tmp_path: Path) -> None:
    record = opened(tmp_path)
    assert record.write(outcome(metrics={"cost": 99.0}), ROWS, not_applicable=["seed=8"])[0]["ok"] is None
    assert "<code>seed=8</code>" in (tmp_path / "report.html").read_text()
    record.release()


@pytest.mark.parametrize(("error", "status"), [(InputError("features must be finite, got NaN"), "failed"), (KeyboardInterrupt(), "interrupted")])
def test_an_error_is_recorded(error: BaseException, status: str, tmp_path: Path) -> None:
    record = opened(tmp_path)
    try:
        raise error
    except BaseException as caught:
        record.fail(caught, 2)
    content = saved(tmp_path)
    assert (content["status"], content["exit_code"]) == (status, 2)
    assert content["error"]["message"] == str(error)
    assert content["error"]["type"].endswith(type(error).__name__)
    assert "test_an_error_is_recorded" in content["error"]["traceback"]


def test_a_metric_that_is_refused_loses_nothing_else(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with pytest.raises(InputError, match="metric 'cost' must be a finite number, got nan"):
        record.write(outcome(metrics={"cost": float("nan")}), ROWS)
    assert (tmp_path / "tables" / "rows.csv").exists()
    assert (tmp_path / "figures" / "loss.png").exists()
    assert torch.equal(load_learned(tmp_path, "predictor")["weight"], torch.eye(2))
    assert not (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "report.html").exists()
    record.release()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ConfigError, match=rf"run folder must be a folder that can be written, but {tmp_path / 'run'} cannot be made: File exists"):
        opened(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"cannot be made: Not a directory"):
        opened(tmp_path / "run" / "deeper")


@pytest.mark.skipif(os.name != "posix", reason="locks on folders are POSIX")
def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(ConfigError, match=rf"another run \(process {os.getpid()}\) is going on in {tmp_path}"):
        opened(tmp_path)
    first.finish(0)
    opened(tmp_path).release()


@pytest.mark.skipif(os.name != "posix", reason="locks on folders are POSIX")
def test_a_killed_run_leaves_the_folder_free(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal; from dpsc.report import RunRecord; "
        f"r = RunRecord(pathlib.Path({str(tmp_path)!r}), name='x', seed=0, device='cpu', threads=1, command='', configuration={{}}); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -9
    assert saved(tmp_path)["status"] == "running"
    assert already_finished(tmp_path, {}) is None
    opened(tmp_path).release()


def test_a_new_run_clears_what_the_unfinished_one_left_and_nothing_else(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write(outcome(), ROWS)
    first.fail(InputError("late"), 2)
    keep = [tmp_path / "checkpoint" / "epoch_3.pt", tmp_path / "figures" / "notes.txt", tmp_path / "mine.csv"]
    for path in keep:
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
    opened(tmp_path).release()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([*keep, tmp_path / "run.json"])


def test_a_folder_that_was_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "thesis.png").write_text("mine")
    opened(tmp_path).release()
    assert (tmp_path / "figures" / "thesis.png").read_text() == "mine"


def test_a_finished_run_is_recognised_by_its_configuration(tmp_path: Path) -> None:
    assert already_finished(tmp_path, CONFIGURATION) is None
    record = opened(tmp_path)
    assert already_finished(tmp_path, CONFIGURATION) is None
    record.finish(3)
    reordered = {key: CONFIGURATION[key] for key in reversed(CONFIGURATION)}
    earlier = already_finished(tmp_path, reordered)
    assert earlier is not None
    assert earlier["exit_code"] == 3
    with pytest.raises(
        ConfigError, match=rf"{tmp_path} holds a finished run that differs in flow.epochs: 3 there, 4 here; flow.more: \(absent\) there, null here$"
    ):
        already_finished(tmp_path, {**CONFIGURATION, "flow": {"epochs": 4, "rate": 0.1, "more": None}})


def test_checkpoints_of_another_configuration_are_not_continued(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.release()  # as after a kill
    other = {**CONFIGURATION, "seed": 8}
    assert already_finished(tmp_path, other) is None
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "training.pt").write_bytes(b"state")
    assert already_finished(tmp_path, CONFIGURATION) is None
    with pytest.raises(ConfigError, match=rf"{tmp_path} holds the checkpoints of a run that differs in seed: 7 there, 8 here$"):
        already_finished(tmp_path, other)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    opened(tmp_path, configuration={"flow": {f"k{i}": i for i in range(9)}}).finish(0)
    with pytest.raises(ConfigError, match=r"flow.k4: 4 there, -4 here; and 4 more"):
        already_finished(tmp_path, {"flow": {f"k{i}": -i if i else 100 for i in range(9)}})


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"name": "other program"}'])
def test_a_damaged_record_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    assert previous(tmp_path) is None
    assert already_finished(tmp_path, {}) is None


def test_the_hash_sees_values_and_not_their_order() -> None:
    assert configuration_hash({"a": 1, "b": {"c": [1, 2], "d": 0.1}}) == configuration_hash({"b": {"d": 0.1, "c": [1, 2]}, "a": 1})
    distinct = [{"a": [1, 2]}, {"a": [2, 1]}, {"a": "1"}, {"a": 1}, {"a": True}, {"a": None}, {"b": 1}, {"a": {"b": 1}}]
    assert len({configuration_hash(value) for value in distinct}) == len(distinct)


def test_versions_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "PACKAGES", ("numpy", "no-such-package-anywhere"))
    found = versions()
    assert found["no-such-package-anywhere"] is None
    assert found["numpy"] is not None
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_revision_of_a_checkout(tmp_path: Path) -> None:
    def git(*command: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True, capture_output=True, text=True).stdout

    assert revision(tmp_path) is None
    git("init", "-q")
    assert revision(tmp_path) is None  # no commit yet
    (tmp_path / "a.txt").write_text("1")
    git("add", "a.txt")
    git("commit", "-q", "--no-verify", "-m", "first")
    assert revision(tmp_path) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "a.txt").write_text("2")
    assert revision(tmp_path) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": True}
