"""The benchmark: what parent and worker say to each other, who takes turns with whom, who is marked wrong. No promise about time."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.benchmarks import discopt_seed, ours, problems, referee, rivals, simulators, worlds
from scripts.benchmarks.cases import Bench, Goal, Table, best_rival
from scripts.benchmarks.command import main
from scripts.benchmarks.measure import Entrant, Row, alternate, compare, errors, is_wrong, plan
from scripts.benchmarks.processes import MissingError, Process, WorkerError, environment

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
FAKES = """
import os, time

def right(arrays, name="", log=None, seconds=0.0, off=0.0):
    def call():
        time.sleep(seconds)
        if log:
            with open(log, "a") as file:
                file.write(name)
        return arrays["theta"] + off
    return call, lambda x: {"decision": x, "gradient": x}

def wrong_at_first(arrays, marker):
    first = not os.path.exists(marker)
    open(marker, "w").close()
    return right(arrays, off=0.5 if first else 1e-6)

def chatty(arrays):
    print("a library that prints on stdout")
    os.system("echo and a program as well")
    return right(arrays)

def absent(arrays):
    import a_library_that_nobody_has

def breaks(arrays):
    return (lambda: 1 / 0), None

def dies(arrays):
    os.write(2, b"out of cheese\\n")
    os._exit(3)

def never_ends(arrays):
    return (lambda: time.sleep(60)), None
"""


@pytest.fixture
def fake(tmp_path: Path) -> Any:
    """Makes entrants of the module above; the problem's arrays lie beside it."""
    (tmp_path / "fakes.py").write_text(FAKES)
    np.savez(tmp_path / "problem.npz", theta=np.array([[1 / 3, -2.5], [1e150, 5e-324]]))

    def make(function: str, name: str = "", /, **arguments: Any) -> Entrant:
        return Entrant(name or function, "fakes", function, arguments, ("numpy", "no-such-distribution"), folder=str(tmp_path))

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "problem.npz"


@pytest.fixture
def worker() -> Iterator[Process]:
    with Process(sys.executable) as process:
        yield process


def prepared(worker: Process, entrant: Entrant, data: Path) -> Process:
    worker.ask("prepare", name="x", module=entrant.module, function=entrant.function, arguments=dict(entrant.arguments), data=str(data), folder=entrant.folder)
    return worker


def test_numbers_come_back_as_they_were_and_prints_do_not_disturb(worker: Process, fake: Any, data: Path) -> None:
    reply = prepared(worker, fake("chatty"), data).ask("answer", name="x")
    assert reply["answer"]["decision"] == [[1 / 3, -2.5], [1e150, 5e-324]]
    times = worker.ask("time", name="x", calls=3)
    assert times["ms"] >= 0
    assert times["cpu_ms"] >= 0


def test_a_worker_says_what_is_installed(worker: Process) -> None:
    assert worker.ask("about", distributions=["numpy", "no-such-distribution"])["versions"] == {"numpy": np.__version__}


def test_a_missing_library_is_told_from_one_that_fails(worker: Process, fake: Any, data: Path) -> None:
    with pytest.raises(MissingError, match="a_library_that_nobody_has"):
        prepared(worker, fake("absent"), data)
    with pytest.raises(WorkerError, match="ZeroDivisionError: division by zero"):
        prepared(worker, fake("breaks"), data).ask("answer", name="x")
    with pytest.raises(WorkerError, match="no_such_function"):
        prepared(worker, fake("no_such_function"), data)
    assert prepared(worker, fake("right"), data).ask("answer", name="x")["ok"]


def test_a_worker_that_dies_leaves_its_last_words(worker: Process, fake: Any, data: Path) -> None:
    with pytest.raises(WorkerError, match="the process ended during 'prepare': out of cheese"):
        prepared(worker, fake("dies"), data)
    with pytest.raises(WorkerError, match="the process ended during 'about'"):
        worker.ask("about", distributions=[])


def test_a_call_that_never_ends_is_given_up(fake: Any, data: Path) -> None:
    with Process(sys.executable, timeout_s=2.0) as process, pytest.raises(WorkerError, match="no reply to 'answer' within 2 s"):
        prepared(process, fake("never_ends"), data).ask("answer", name="x")


def test_an_interpreter_that_is_not_there() -> None:
    with pytest.raises(WorkerError, match="/no/python cannot be started: No such file"):
        Process("/no/python")


def test_workers_get_one_thread_and_none_of_our_paths() -> None:
    there = environment({"PYTHONPATH": "/ours", "PATH": "/bin", "OMP_NUM_THREADS": "8"})
    assert "PYTHONPATH" not in there
    assert (there["PATH"], there["OMP_NUM_THREADS"], there["RAYON_NUM_THREADS"]) == ("/bin", "1", "1")


def test_calls_take_turns_and_the_first_place_rotates() -> None:
    heard: list[str] = []

    def timer(name: str) -> Any:
        def time(calls: int) -> tuple[float, float]:
            heard.append(f"{name}{calls}")
            return float(len(heard)), 0.0

        return time

    found = alternate([(timer("a"), 5, 3), (timer("b"), 1, 3), (timer("c"), 1, 1)])
    assert heard == ["a5", "b1", "c1", "b1", "a5", "a5", "b1"]
    assert [[ms for ms, _ in times] for times in found] == [[1, 5, 6], [2, 4, 7], [3]]


def test_processes_take_turns(fake: Any, data: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    entrants = [fake("right", name, name=name, log=str(log), seconds=0.006) for name in "ab"]
    with Process(sys.executable) as home, Process(sys.executable) as away:
        rows = compare([entrants[0]], [entrants[1]], home=home, away=[away], repetitions=3, data=data)
    assert log.read_text()[-6:] == "abbaab"  # after the warm-up
    assert [(row.repetitions, row.calls) for row in rows] == [(3, 1), (3, 1)]
    assert all(row.median_ms is not None and row.min_ms is not None and 6 <= row.min_ms <= row.median_ms for row in rows)


def test_who_is_wrong_missing_or_broken_is_said_and_never_the_best(fake: Any, data: Path) -> None:
    competitors = [fake("right", "slow", seconds=0.01, off=1e-9), fake("right", "off", off=0.1), fake("absent"), fake("breaks"), fake("dies")]
    small = {"theta": np.array([[0.5, 0.5]])}
    np.savez(data, **small)
    with Process(sys.executable) as home, Process(sys.executable) as away:
        rows = compare([fake("right", "ours")], competitors, home=home, away=[away], repetitions=2, data=data)
    by_name = {row.name: row for row in rows}
    assert [row.wrong for row in rows] == [False, False, True, False, False, False]
    assert by_name["off"].errors["decision"] == pytest.approx(0.1)
    assert by_name["off"].errors["gradient"] == pytest.approx(0.2)
    assert by_name["absent"].note.startswith("skipped, not installed: No module named 'a_library")
    assert by_name["breaks"].note == "ZeroDivisionError: division by zero"
    assert "out of cheese" in by_name["dies"].note
    assert by_name["ours"].versions == {"numpy": np.__version__}
    # the process died last, and with it the times of those that were in it
    assert best_rival(rows) is None


def test_the_best_rival_is_the_fastest_that_is_right(fake: Any, data: Path) -> None:
    competitors = [fake("right", "slow", seconds=0.03), fake("right", "fast and wrong", off=0.1), fake("right", "fast", seconds=0.01)]
    np.savez(data, theta=np.array([[0.5, 0.5]]))
    with Process(sys.executable) as home, Process(sys.executable) as away:
        rows = compare([fake("right", "ours")], competitors, home=home, away=[away], repetitions=2, data=data)
    best = best_rival(rows)
    assert best is not None
    assert best.name == "fast"
    value = Goal("ratio", 1.0).judge(rows, "ours")[1]
    assert value is not None
    assert value > 1
    assert Goal("ms", 1e-9).judge(rows, "ours")[2] is False


def test_a_rival_that_is_wrong_in_one_environment_is_tried_in_the_next(fake: Any, data: Path, tmp_path: Path) -> None:
    np.savez(data, theta=np.array([[0.5, 0.5]]))
    with Process(sys.executable) as home, Process(sys.executable) as one, Process(sys.executable) as two, Process(sys.executable) as three:
        rows = compare(
            [fake("right", "ours")],
            [fake("wrong_at_first", "rival", marker=str(tmp_path / "marker"))],
            home=home,
            away=[one, two, three],
            repetitions=1,
            data=data,
            referee={"decision": np.array([[0.5, 0.5]])},
        )
    assert [(row.name, row.wrong) for row in rows] == [("ours", False), ("rival", True), ("rival", False)]
    assert rows[2].true_errors == {"decision": pytest.approx(1e-6)}


def test_errors_and_what_counts_as_wrong() -> None:
    true = {"decision": [[3.0, 4.0]], "gradient": [[3.0, 4.0]], "value": [10.0, 20.0]}
    off = errors({"decision": [[3.0, 4.1]], "gradient": [[3.0, 4.1]], "value": [10.0, 20.2]}, true)
    assert off == {"decision": pytest.approx(0.1), "gradient": pytest.approx(0.02), "value": pytest.approx(0.01)}
    assert is_wrong(off, true)
    assert not is_wrong({"decision": 4e-3, "gradient": 9e-3, "value": 1e-7}, true)
    assert errors({**true, "decision": [[math.nan, 4.0]]}, true)["decision"] == math.inf
    assert errors({**true, "decision": [3.0, 4.0]}, true)["decision"] == math.inf
    assert is_wrong({"decision": math.inf}, true)


@pytest.mark.parametrize(("seconds", "expected"), [(1e-6, (50, 20)), (1e-3, (20, 20)), (6e-3, (1, 20)), (1.0, (1, 20)), (7.0, (1, 3)), (30.0, (1, 1))])
def test_short_calls_come_in_bursts_and_long_ones_less_often(seconds: float, expected: tuple[int, int]) -> None:
    assert plan(seconds, 20) == expected


def fake_case(fake: Any, competitors: list[Entrant]) -> Any:
    def case(bench: Bench) -> list[Table]:
        rows = bench.compare("a fake problem", [fake("right", "ours")], competitors, {"theta": np.array([[0.5, 0.5]])})
        return [Table("fake", "a fake problem", "ours", rows, (Goal("ms", 1e-9), Goal("ratio", 1e9), Goal("gradient", 1e-6)), notes=["a note"])]

    return case


def test_a_missed_goal_is_reported_and_no_error(fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {"fake": fake_case(fake, [fake("right", "rival", seconds=0.006), fake("absent")])}
    file = tmp_path / "out.json"
    arguments = ["fake", "--rival-python", sys.executable, "/no/python", "--repetitions", "2", "--json", str(file)]
    assert main(arguments, cases=cases) == 0
    out, said = capsys.readouterr()
    assert "/no/python cannot be started" in said
    assert "goal <= 1e-09 ms: MISSED" in out
    assert "goal >= 1e+09x the best rival that is right: MISSED" in out
    assert "goal gradient error <= 1e-06: not measured" in out
    assert "medians of 2 repetitions are a first look" in out
    assert "skipped, not installed: No module named 'a_library_that_nobody_has'" in out
    (table,) = json.loads(file.read_text())["tables"]
    assert [row["name"] for row in table["rows"]] == ["ours", "rival", "absent"]
    assert [goal["met"] for goal in table["goals"]] == [False, False, None]
    assert table["rows"][1]["errors"] == {"decision": 0.0, "gradient": 0.0}


def test_without_rivals_ours_is_measured_and_what_is_missing_is_said(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repetitions", "1"], cases={"fake": fake_case(fake, [fake("right", "rival")])}) == 0
    out = capsys.readouterr().out
    assert "skipped: no --rival-python" in out
    assert "rivals were not measured" in out
    assert "goal >= 1e+09x the best rival that is right: not measured" in out


def test_when_we_fail_ourselves_it_is_an_error(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def case(bench: Bench) -> list[Table]:
        return [Table("fake", "a fake problem", "breaks", bench.compare("a fake problem", [fake("breaks")], []), (Goal("ms", 1.0),))]

    assert main([], cases={"fake": case}) == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError" in out
    assert "goal <= 1 ms: not measured" in out


def test_the_script_refuses_an_unknown_case() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "alocation"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    cases = "allocation, convex, knapsack, seed_allocation, firms, import, replenishment, growth, million, four_stages"
    assert f"case must be one of {cases}; got 'alocation'" in done.stderr


@pytest.mark.parametrize(("form", "batch"), [("allocation", 128), ("replenishment", 32)])
def test_the_referee_has_the_check_values(form: str, batch: int) -> None:
    assert problems.check(form, batch, referee.solve(getattr(problems, form)(batch))) < 1e-8


@pytest.mark.parametrize("build", [ours.closed_form, ours.convex_program, rivals.cvxpylayers], ids=lambda f: f.__name__)
def test_contenders_solve_the_problem(build: Any) -> None:
    arrays = problems.allocation(32)
    call, answer = build(arrays, **({} if build is ours.closed_form else {"form": "allocation"}))
    off = errors(answer(call()), referee.solve(arrays))
    assert not is_wrong(off, referee.solve(arrays))
    assert build is rivals.cvxpylayers or max(off.values()) < 1e-9


def test_our_knapsack_and_our_seed_experiment() -> None:
    arrays = {"value": np.array([[3.0, 5.0, 4.0], [9.0, 1.0, 1.0]]), "weights": np.array([2.0, 3.0, 2.0])}
    call, answer = ours.knapsack(arrays, capacity=5)
    assert answer(call())["value"].tolist() == [9.0, 10.0]
    call, answer = ours.seed_experiment({}, experiment="seed_allocation")
    first, again = answer(call()), answer(call())
    assert first == again  # no call continues where another stopped
    assert [round(first[name], 4) for name in ("oracle_cost", "two_stage_cost", "dfl_cost")] == [0.5058, 0.6545, 0.6010]


def test_the_replay_needs_its_library() -> None:
    with pytest.raises(ImportError):
        discopt_seed.replay({}, seed=42, rows={}, epochs=0, batch=1, rate=0.0, instance={"weights": [[1.0]]})


def test_a_goal_of_so_many_times_as_fast() -> None:
    rows = [Row("fast", True), Row("slow", True)]
    goal = Goal("times", 2.0, of="slow")
    assert goal.judge(rows, "fast") == (">= 2x as fast as slow", None, None)
    rows[0].set_times([(9.0, 2.0)])
    rows[1].set_times([(9.0, 5.0)])
    assert goal.judge(rows, "fast") == (">= 2x as fast as slow", 2.5, True)
    assert Goal("times", 3.0, of="slow").judge(rows, "fast")[2] is False
    assert Goal("cpu", 3.0).judge(rows, "fast") == ("<= 3 ms of processor time", 2.0, True)
    assert Goal("ms", 3.0).judge(rows, "fast") == ("<= 3 ms", 9.0, False)


def test_the_exponent_of_a_power() -> None:
    assert simulators.exponent([(n, 3 * n**1.5) for n in (10, 20, 40)]) == pytest.approx(1.5)


def test_our_simulators_answer() -> None:
    settings = {"articles": 3, "futures": 8, "weeks": 4, "compiled": False}
    call, answer = worlds.replenishment({}, **settings, backward=False)
    cost = answer(call())["value"]
    call, answer = worlds.replenishment({}, **settings, backward=True)
    found = answer(call())
    assert (found["value"] == cost).all()
    assert found["gradient"].shape == (4, 3)
    assert (abs(found["gradient"]).max(1) > 0).all()


def test_the_four_stages_are_played_as_their_rules_say() -> None:
    """The first periods by hand: stock 100, 100, 200, orders up to echelon levels 130, 260, 500, capacities, demand 20; nothing arrives before period 3."""
    demand = np.full((2, 30), 20.0)
    call, answer = worlds.four_stages({"demand": demand}, compiled=False, paths=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(worlds.STAGES, "periods", 2)
        first = answer(call())["value"]
    # period 0: echelon positions 100, 200, 400 -> orders 30, 60, 80 (of 100, capacity 80); stocks 80, 70, 140 after 20 are sold
    # period 1: positions 110, 240, 460 -> orders 20, 20, 40; stocks 60, 50, 120
    assert first.tolist() == [[40.0, 60.0, 50.0, 120.0]] * 2
    with pytest.raises(ImportError):
        worlds.or_gym({"demand": demand}, paths=1)
