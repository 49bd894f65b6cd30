"""The contract of a run: files, exit codes, messages, and what is done when things go wrong."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from dpsc.errors import ConfigError
from dpsc.report import load_learned
from dpsc.report.record import RunRecord
from experiments import compose
from experiments.context import RunContext
from experiments.run import worst
from experiments.schema import LONGEST_NAME, folder_name, run_name
from tests.experiments.conftest import TINY, Go

ROOT = Path(__file__).resolve().parents[2]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------------------------------------------------------- a run


def test_a_run_leaves_everything_the_contract_promises(go: Go, tmp_path: Path) -> None:
    said = go("experiment=tiny", "folder=out")
    assert said.code == 0
    out = tmp_path / "out"
    assert set(snapshot(out)) == {
        "run.json",
        "metrics.json",
        "expected.json",
        "report.html",
        "learned/predictor.pt",
        "learned/manifest.json",
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
    }
    metrics = read(out / "metrics.json")
    assert metrics["cost"] == 4.0
    assert read(out / "expected.json") == [
        {"name": "cost", "expected": 4.0, "measured": 4.0, "tolerance": 1e-9, "relation": "=", "ok": True, "source": "a test"}
    ]
    record = read(out / "run.json")
    assert {key: record[key] for key in ("status", "exit_code", "name", "seed", "device", "threads")} == {
        "status": "finished",
        "exit_code": 0,
        "name": "tiny",
        "seed": 42,
        "device": "cpu",
        "threads": 1,
    }
    config = yaml.safe_load((out / ".hydra" / "config.yaml").read_text())
    assert config["flow"]["training"]["epochs"] == 4
    assert yaml.safe_load((out / ".hydra" / "overrides.yaml").read_text()) == ["experiment=tiny", "folder=out"]
    assert load_learned(out, "predictor")["weight"].shape == (1, 2)
    assert "A tiny run" in (out / "report.html").read_text()


def test_the_terminal_shows_metrics_rows_and_the_report(go: Go) -> None:
    said = go("experiment=tiny", "folder=out", "progress=false")
    assert "✓ cost" in said.out
    assert "expected = 4 +- 1e-09" in said.out
    assert "torch_draw" in said.out
    assert said.out.splitlines()[-1].endswith("out/report.html")
    assert said.err == ""


def test_without_a_folder_runs_stay_apart_and_the_working_directory_stays(go: Go, tmp_path: Path) -> None:
    assert go("experiment=tiny", f"+flow.log={tmp_path / 'log'}").code == 0
    assert go("experiment=tiny").code == 0
    assert len(list((tmp_path / "runs" / "tiny").iterdir())) == 2
    assert (tmp_path / "log").read_text() == f"42 - {tmp_path}\n"
    assert not list(tmp_path.glob("*.log"))


def test_a_number_that_is_not_met_is_code_3(go: Go) -> None:
    said = go("experiment=missed", "folder=out", "progress=false")
    assert said.code == 3
    assert "✗ cost" in said.out
    assert read(Path("out/run.json"))["status"] == "finished"
    assert read(Path("out/run.json"))["exit_code"] == 3
    assert read(Path("out/expected.json"))[0]["ok"] is False


def test_the_seed_seeds_every_generator(go: Go) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert go("experiment=tiny", f"folder={folder}", f"seed={seed}").code == 0
    a, b, c = (read(Path(folder) / "metrics.json") for folder in "abc")
    assert a == b
    assert a["torch_draw"] != c["torch_draw"]
    assert a["numpy_draw"] != c["numpy_draw"]


def test_threads_are_set(go: Go) -> None:
    assert go("experiment=tiny", "folder=out", "threads=2").code == 0
    assert read(Path("out/metrics.json"))["threads"] == 2


def test_a_title_of_the_experiment_wins(go: Go) -> None:
    assert go("experiment=tiny", "folder=out", "title='Of my own: <b>'").code == 0
    assert "<h1>Of my own: &lt;b&gt;</h1>" in Path("out/report.html").read_text()


@pytest.mark.parametrize("override", ["device=cpu", "threads=2", "progress=false", "data.root=somewhere", "hydra.run.dir=elsewhere", "++threads=1"])
def test_neutral_overrides_keep_the_rows_applicable(override: str, go: Go) -> None:
    assert go("experiment=missed", "folder=out", override).code == 3


@pytest.mark.parametrize("override", ["seed=42", "++seed=42", "+flow.fail=''", "flow.training.epochs=4", "~flow.training.epochs", "title=x", "expected=[]"])
def test_any_other_override_makes_them_not_applicable(override: str, go: Go) -> None:
    assert go("experiment=missed", "folder=out", override).code == 0
    assert {row["ok"] for row in read(Path("out/expected.json"))} <= {None}
    if override != "expected=[]":
        assert override.replace("'", "&#39;") in Path("out/report.html").read_text()


def test_the_recorded_command_repeats_the_run(go: Go) -> None:
    assert go("experiment=tiny", "folder=out", "seed=7", "title='two words; $HOME'").code == 0
    first = read(Path("out/run.json"))
    words = shlex.split(first["command"])
    assert words[:3] == ["python", "-m", "experiments.run"]
    assert go(*words[3:], "folder=again").code == 0
    again = read(Path("again/run.json"))
    assert again["configuration_hash"] == first["configuration_hash"]
    assert read(Path("again/metrics.json")) == read(Path("out/metrics.json"))


def test_progress_can_be_silenced(go: Go) -> None:
    assert "epochs: 100%" in go("experiment=tiny").err
    assert go("experiment=tiny", "progress=false").err == ""


def test_track_passes_items_through(capsys: pytest.CaptureFixture[str]) -> None:
    quiet, loud = (RunContext(Path("."), 0, torch.device("cpu"), progress=progress) for progress in (False, True))
    assert list(quiet.track(iter("abc"), "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    assert list(loud.track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert "letters: 100%" in capsys.readouterr().err


def test_the_configuration_can_be_shown(go: Go) -> None:
    said = go("--cfg", "job", "experiment=tiny", "seed=3")
    assert said.code == 0
    assert yaml.safe_load(said.out)["seed"] == 3
    assert not Path("runs").exists()


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=tniy"], r"experiment must be one of .*tiny.*; got 'tniy' (did you mean tiny?)"),
        (["experiment=tiny", "sed=3"], "configuration has no key 'sed' (did you mean seed?)"),
        (["experiment=tiny", "+sed=3"], "configuration has no key 'sed' (did you mean seed?)"),
        (["experiment=tiny", "flow.training.epocs=3"], "configuration has no key 'flow.training.epocs' (did you mean flow.training.epochs?)"),
        (["experiment=tiny", "epochs=3"], "configuration has no key 'epochs' (did you mean flow.training.epochs?)"),
        (["experiment=tiny", "flow.training.rate=3"], "an argument that flow.training leaves at its default is set with +flow.training.rate=..."),
        (["experiment=tiny", "data.rot=x"], "configuration has no key 'data.rot' (did you mean data.root?)"),
        (["experiment=tiny", "+data.rot=x"], "configuration has no key 'data.rot' (did you mean data.root?)"),
        (["experiment=tiny", "flow.training={_target_: x.y, epocs: 3}"], "configuration has no key 'flow.training.epocs' (did you mean flow.training.epochs?)"),
        (["experiment=tiny", "folder=${nothing}"], "configuration cannot be used: Interpolation key 'nothing' not found"),
        (["tiny"], "an argument must be key=value, got 'tiny' (did you mean experiment=tiny?)"),
        (["experiment=tiny", "seed=abc"], "Value 'abc' of type 'str' could not be converted to Integer"),
        (["experiment=tiny", "seed=[1"], "an argument must be key=value, got 'seed=[1', which cannot be read"),
        (["experiment=tiny", "seed=1,2"], "To sweep over it, add --multirun"),
        (["experiment=tiny", "folder="], "folder must be the path of a folder or null"),
        (["experiment=tiny", "name=../../out"], "name must be letters, digits, '_' and '-'"),
        (["--config-dir", "nowhere", "experiment=tiny"], "configuration folder must exist, got nowhere"),
        (["-m", "experiment=tiny,tniy"], "got 'tniy' (did you mean tiny?)"),
        (["-m", "experiment=tiny", "sed=1,2"], "configuration has no key 'sed' (did you mean seed?)"),
        (["-m", "experiment=tiny", "seed=1,b"], "could not be converted to Integer"),
    ],
)
def test_what_cannot_be_composed_is_code_2_and_one_message(arguments: list[str], message: str, go: Go) -> None:
    said = go(*arguments)
    assert said.code == 2
    assert all(part in said.err for part in message.split(".*"))
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert not list(Path(".").rglob("run.json"))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("table.separator=;", 'table.separator=";"'),
        ("table.decimal=,", 'table.decimal=","'),
        ("table.rows=[Löhne,Own wages]", 'table.rows=["Löhne",Own wages]'),
        ('table.rows=[Löhne, "a, b"]', 'table.rows=["Löhne","a, b"]'),
        ("folder=/home/Müller/a b", 'folder="/home/Müller/a b"'),
        *[(line, line) for line in ("seed=1,2", "seed=[1", "x={a: b", "seed=3", "x=[]", "folder=", "tiny", "x=é,ü", "x=${é}", 'x="Löhne"', "~x")],
    ],
)
def test_text_is_put_in_quotes_where_hydra_reads_it_only_so(given: str, read: str) -> None:
    assert compose.readable(given) == read


def test_a_file_that_is_no_yaml_is_code_2_and_one_message(go: Go, more: Path) -> None:
    (more / "experiment" / "broken.yaml").write_text("# @package _global_\nname: {a: ${seed}}\n")
    said = go("experiment=broken", "folder=out")
    assert said.code == 2
    assert said.err.startswith("error: configuration cannot be read: while parsing a flow mapping")
    assert "broken.yaml" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_misspelt_root_key_of_an_experiment_file_is_refused(go: Go, more: Path) -> None:
    (more / "experiment" / "bad.yaml").write_text(TINY.replace("seed: 42", "sed: 42"))
    said = go("experiment=bad")
    assert said.code == 2
    assert "experiment/bad.yaml: configuration has no key 'sed' (did you mean seed?)" in said.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+flow.fail=input"], "features must be finite, got NaN"),
        (["+flow.fail=outcome"], "must return an Outcome, got dict"),
        (["+flow.cost=nan"], "metric 'cost' must be a finite number, got nan"),
        (["+flow.training.epocs=3"], "flow.training.epocs is no argument of tests.experiments.tiny_flow.Training"),
        (["flow._target_=os.system"], "flow._target_ must lie in one of"),
        (["+flow.layer={_target_: os.system, command: 'touch ran'}"], "flow.layer._target_ must lie in one of"),
        (["~flow.training"], "flow must give training"),
        (["+flow.layer={_target_: tests.experiments.tiny_flow.Layer, budget: -1}"], "flow.layer: budget must be positive, got -1"),
        (["expected=[{name: cost, expected: 1}]"], "expected row 'cost': source must say where the number comes from"),
        (["device=cuda:99"], "device must be one that is there"),
        (["device=tpu"], "device must be one that is there"),
        (["threads=0"], "threads must be an integer >= 1, got 0"),
        (["seed=-1"], "seed must be an integer >= 0, got -1"),
        (["seed=9223372036854775808"], "seed must be an integer below 2^63"),
        (["title=${nothing}"], "configuration must be complete"),
        (["source=???"], "configuration must be complete"),
    ],
)
def test_a_mistake_inside_a_run_is_code_2_and_recorded(overrides: list[str], message: str, go: Go) -> None:
    said = go("experiment=tiny", "folder=out", "progress=false", *overrides)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    record = read(Path("out/run.json"))
    assert (record["status"], record["exit_code"]) == ("failed", 2)
    assert message in record["error"]["message"]
    assert "Traceback" in record["error"]["traceback"]
    assert not Path("out/report.html").exists()
    assert not Path("ran").exists()


def test_no_work_is_done_before_the_rows_are_checked(go: Go, tmp_path: Path) -> None:
    assert go("experiment=tiny", f"+flow.log={tmp_path / 'log'}", "expected=[{name: cost}]").code == 2
    assert not (tmp_path / "log").exists()


def test_an_absent_gpu_says_why(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = go("experiment=tiny", "device=cuda")
    assert said.code == 2
    assert "device must be one that is there, cpu; got 'cuda'; " in said.err
    assert "CUDA" in said.err.split("got 'cuda'")[1]


@pytest.mark.parametrize(("fail", "kind"), [("bug", "builtins.ZeroDivisionError"), ("exit", "builtins.SystemExit")])
def test_what_nobody_foresaw_is_code_1_with_a_traceback(fail: str, kind: str, go: Go) -> None:
    said = go("experiment=tiny", "folder=out", f"+flow.fail={fail}")
    assert said.code == 1
    assert "Traceback" in said.err
    assert read(Path("out/run.json"))["error"]["type"] == kind


def test_an_interruption_is_code_130(go: Go) -> None:
    said = go("experiment=tiny", "folder=out", "+flow.fail=interrupt")
    assert said.code == 130
    assert "Traceback" not in said.err
    assert read(Path("out/run.json"))["status"] == "interrupted"
    assert go("experiment=tiny", "folder=out").code == 0


@pytest.mark.parametrize("folder", ["in_the_way", "in_the_way/deeper", "/dev/null/deeper"])
def test_a_folder_that_cannot_be_written(folder: str, go: Go, tmp_path: Path) -> None:
    Path("in_the_way").write_text("mine")
    said = go("experiment=tiny", f"folder={folder}", f"+flow.log={tmp_path / 'log'}")
    assert said.code == 2
    assert "run folder must be a folder that can be written, but " in said.err
    assert folder in said.err
    assert "Traceback" not in said.err
    assert Path("in_the_way").read_text() == "mine"
    assert not (tmp_path / "log").exists()


def test_a_folder_in_use_is_refused(go: Go) -> None:
    record = RunRecord(Path("out"), name="other", seed=0, device="cpu", threads=1, command="", configuration={})
    said = go("experiment=tiny", "folder=out")
    record.release()
    assert said.code == 2
    assert f"another run (process {os.getpid()}) is going on in" in said.err
    assert read(Path("out/run.json"))["name"] == "other"


# --------------------------------------------------------------------------------------------------------- again, sweeps


@pytest.mark.parametrize(("experiment", "code"), [("tiny", 0), ("missed", 3)])
def test_a_finished_run_is_not_run_again_but_counted(experiment: str, code: int, go: Go, tmp_path: Path) -> None:
    arguments = [f"experiment={experiment}", "folder=out", "hydra.verbose=false"]
    log = f"+flow.log={tmp_path / 'log'}"
    assert go(*arguments).code == code
    before = snapshot(tmp_path / "out")
    assert go(*arguments, "threads=2", "progress=false", "data.root=elsewhere").code == code
    assert snapshot(tmp_path / "out") == before
    said = go(*arguments, log)  # another configuration
    assert said.code == 2
    assert "flow.log" in said.err
    assert snapshot(tmp_path / "out") == before
    assert not (tmp_path / "log").exists()


def test_a_different_configuration_in_a_finished_folder_names_the_difference(go: Go) -> None:
    assert go("experiment=tiny", "folder=out").code == 0
    said = go("experiment=tiny", "folder=out", "seed=7")
    assert said.code == 2
    assert said.err.strip().endswith("out holds a finished run that differs in seed: 42 there, 7 here")
    assert "name: " in go("experiment=missed", "folder=out").err


def test_an_unfinished_run_is_run_again(go: Go) -> None:
    assert go("experiment=tiny", "folder=out", "+flow.fail=bug").code == 1
    assert go("experiment=tiny", "folder=out").code == 0
    assert "error" not in read(Path("out/run.json"))


def test_a_sweep_runs_every_job_and_returns_the_worst_code(go: Go, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["-m", "experiment=tiny", "progress=false", f"+flow.log={log}", "+flow.fail='',input,exit", "seed=1,2"]
    said = go(*arguments)
    assert said.code == 1
    assert sorted(line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()) == ["1 -", "1 exit", "1 input", "2 -", "2 exit", "2 input"]
    records = [read(path) for path in (tmp_path / "runs" / "tiny" / "sweep").glob("*/run.json")]
    assert sorted(record["exit_code"] for record in records) == [0, 0, 1, 1, 2, 2]
    assert "sweep of 6 jobs:" in said.out

    log.unlink()  # what is finished is not run again, and what is not, is
    assert go(*arguments).code == 1
    assert sorted(line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()) == ["1 exit", "1 input", "2 exit", "2 input"]


def test_a_sweep_over_experiments_keeps_their_folders_and_codes(go: Go, tmp_path: Path) -> None:
    assert go("-m", "experiment=tiny,missed").code == 3
    assert read(tmp_path / "runs/tiny/sweep/experiment=tiny/run.json")["exit_code"] == 0
    assert read(tmp_path / "runs/missed/sweep/experiment=missed/run.json")["exit_code"] == 3
    assert go("-m", "experiment=tiny,missed", "folder=all").code == 3
    assert {path.parent.name for path in Path("all").glob("*/run.json")} == {"experiment=tiny", "experiment=missed"}


def test_rows_of_a_sweep_hold_where_nothing_was_changed(go: Go) -> None:
    assert go("-m", "experiment=tiny", "folder=s", "seed=42,7").code == 0
    assert go("-m", "experiment=missed", "folder=t", "threads=1").code == 3
    assert {row["ok"] for path in Path("s").glob("*/expected.json") for row in read(path)} == {None}


def test_one_refused_folder_does_not_stop_a_sweep(go: Go) -> None:
    assert go("-m", "experiment=tiny", "folder=s", "seed=1").code == 0
    finished = Path("s/experiment=tiny,seed=1")
    finished.rename("s/experiment=tiny,seed=2")
    said = go("-m", "experiment=tiny", "folder=s", "seed=1,2,3")
    assert said.code == 2
    assert "differs in seed: 1 there, 2 here" in said.err
    assert [read(Path(f"s/experiment=tiny,seed={seed}/run.json"))["seed"] for seed in (1, 2, 3)] == [1, 1, 3]


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_sweep_continues_where_it_stopped(go: Go, more: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["-m", "experiment=tiny", "progress=false", "folder=s", f"+flow.log={log}", "seed=1,2,3"]
    # The second job hangs.
    code = f"""
import sys, time
from pathlib import Path
from experiments import build
from experiments.run import main
from tests.experiments import tiny_flow

class Time:
    def sleep(seconds):
        time.sleep(0 if len(Path({str(log)!r}).read_text().splitlines()) == 1 else 60)

tiny_flow.time = Time
sys.exit(main(sys.argv[1:], allowed=(*build.ALLOWED, "tests.experiments.tiny_flow")))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    sweep = subprocess.Popen([sys.executable, "-c", code, "--config-dir", str(more), *arguments], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and len(log.read_text().splitlines()) == 2):
        time.sleep(0.05)
    sweep.send_signal(signal.SIGKILL)
    assert sweep.wait() == -signal.SIGKILL
    assert sorted(read(path)["status"] for path in Path("s").glob("*/run.json")) == ["finished", "running"]
    said = go(*arguments)
    assert said.code == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["1", "2", "2", "3"]
    assert {read(path)["status"] for path in Path("s").glob("*/run.json")} == {"finished"}


@pytest.mark.parametrize(("codes", "code"), [([], 0), ([0, 0], 0), ([0, 3, 0], 3), ([3, 2, 0], 2), ([2, 1, 3], 1), ([1, 130], 130), ([0, 77], 77)])
def test_worst(codes: list[int], code: int) -> None:
    assert worst(codes) == code


# --------------------------------------------------------------------------------------------------------- names, hydra


@given(st.text(max_size=300), st.text(max_size=300))
@example("", ".")
@example("..", "as_shipped")
def test_folder_names_are_safe_short_and_distinct(first: str, second: str) -> None:
    names = [folder_name(first), folder_name(second)]
    assert (names[0] == names[1]) == (first == second) or "as_shipped" in (first, second)
    for name in names:
        assert 0 < len(name.encode()) <= LONGEST_NAME
        assert "/" not in name
        assert name not in (".", "..")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", None, 3, "x" * 101, "a\n"])
def test_names_that_are_no_folder_names(name: object) -> None:
    with pytest.raises(ConfigError, match="name must be letters"):
        run_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {callbacks: {evil: {_target_: os.system, command: touch ran}}}",
        "hydra: {callbacks: {evil: {_target_: tests.experiments.tiny_flow.run}}}",
        "hydra: {job_logging: {formatters: {evil: {(): os.system, command: touch ran}}}}",
        "hydra: {hydra_logging: {handlers: {evil: {class: subprocess.Popen, args: [touch, ran]}}}}",
    ],
)
@pytest.mark.parametrize("mode", [[], ["-m"]])
def test_an_experiment_cannot_have_hydra_call_for_it(text: str, mode: list[str], go: Go, more: Path) -> None:
    (more / "experiment" / "evil.yaml").write_text(TINY + text + "\n")
    said = go(*mode, "experiment=evil,tiny" if mode else "experiment=evil")
    assert said.code == 2
    assert "must begin with one of hydra., hydra_plugins., logging., colorlog." in said.err
    assert not Path("ran").exists()
    assert not list(Path(".").rglob("run.json"))


def test_changes_are_told_from_neutral_overrides() -> None:
    overrides = ["experiment=x", "device=cuda", "+threads=2", "~folder", "data.root=/x", "seed=1", "++flow.a.b=c", "~title"]
    assert compose.changes(overrides) == ["seed=1", "++flow.a.b=c", "~title"]


def test_the_command_line_from_outside(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "experiments.run", "experiment=no_such_thing"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "experiment must be one of " in ended.stderr
    assert "got 'no_such_thing'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
