"""Alternate the timed calls of contenders, judge their answers, keep score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .processes import MissingError, Process, WorkerError

BURST_S, MOST_CALLS = 0.02, 50
LONG_S, VERY_LONG_S = 5.0, 20.0
WRONG = {"decision": 1e-3, "gradient": 1e-2, "value": 1e-6, "default": 1e-3}
Answer = Mapping[str, Any]
Times = tuple[float, float]  # milliseconds a call: wall, processor


@dataclass(frozen=True)
class Entrant:
    """A contender as the parent knows it: what the table calls it, which function of which module of this package builds it, and what it stands on."""

    name: str
    module: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    distributions: Sequence[str] = ()
    folder: str | None = None


@dataclass
class Row:
    """What was found about one entrant; `errors` against our answer, `true_errors` against the referee's. `cpu_ms` is the median of the processor time, which
    other work on the machine stretches less than the wall."""

    name: str
    ours: bool
    versions: Mapping[str, str] = field(default_factory=dict)
    median_ms: float | None = None
    min_ms: float | None = None
    cpu_ms: float | None = None
    repetitions: int = 0
    calls: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    true_errors: Mapping[str, float] = field(default_factory=dict)
    wrong: bool = False
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether it was timed and is right."""
        return self.median_ms is not None and not self.wrong

    def set_times(self, found: Sequence[Times]) -> None:
        """From the repetitions."""
        wall, cpu = zip(*found, strict=True)
        self.median_ms, self.min_ms, self.cpu_ms, self.repetitions = median(wall), min(wall), median(cpu), len(found)


def errors(found: Answer, reference: Answer) -> dict[str, float]:
    """How far an answer is off, by name: a gradient relatively in the Frobenius norm, values relatively, anything else by its largest difference."""
    out = {}
    for name, expected in reference.items():
        a, b = np.asarray(found[name], dtype=float), np.asarray(expected, dtype=float)
        if a.shape != b.shape:
            out[name] = math.inf
            continue
        difference = float(np.linalg.norm(a - b) / np.linalg.norm(b)) if name == "gradient" else float(abs(a - b).max())
        difference = difference / float(abs(b).max()) if name == "value" else difference
        out[name] = difference if math.isfinite(difference) else math.inf
    return out


def is_wrong(off: Mapping[str, float], reference: Answer) -> bool:
    """Whether an answer is beyond what a loose tolerance of a sound solver explains; decisions are allowed an error of their own size."""
    scale = {name: 1 + float(abs(np.asarray(reference[name], dtype=float)).max()) if name == "decision" else 1.0 for name in off}
    return any(not value <= WRONG.get(name, WRONG["default"]) * scale[name] for name, value in off.items())


def plan(seconds: float, repetitions: int) -> tuple[int, int]:
    """Calls in a row and repetitions for a call of this length: bursts for short ones, fewer repetitions for those beyond five seconds."""
    calls = max(1, min(MOST_CALLS, math.ceil(BURST_S / max(seconds, 1e-9)))) if seconds < BURST_S / 4 else 1
    return calls, 1 if seconds > VERY_LONG_S else min(3, repetitions) if seconds > LONG_S else repetitions


def alternate(timed: Sequence[tuple[Callable[[int], Times], int, int]]) -> list[list[Times]]:
    """Milliseconds a call of every contender, repetition by repetition in turns, whoever begins changing from one to the next.

    Args:
        timed: for each contender `calls -> times`, the calls in a row and the repetitions.
    """
    found: list[list[Times]] = [[] for _ in timed]
    for turn in range(max((repetitions for _, _, repetitions in timed), default=0)):
        for k in range(len(timed)):
            position = (turn + k) % len(timed)
            time, calls, repetitions = timed[position]
            if turn < repetitions:
                found[position].append(time(calls))
    return found


def compare(
    ours: Sequence[Entrant],
    rivals: Sequence[Entrant],
    *,
    home: Process,
    away: Sequence[Process],
    repetitions: int,
    data: Path | None = None,
    referee: Answer | None = None,
) -> list[Row]:
    """Every entrant on one problem: answers first, then the alternating calls.

    A rival is tried in one environment after another until its answer is right; wrong ones are shown and marked.

    Args:
        ours: run at home; the first one's answer is what the others are held against.
        rivals: run away.
        home: our process.
        away: the processes of the rivals' environments.
        repetitions: of calls below five seconds.
        data: the problem's arrays.
        referee: the accurate answer, which decides who is wrong where there is one; else our first answer does.
    Returns: a row an entrant and environment, ours first; rivals that are not there have a note and no time.
    """
    rows: list[Row] = []
    started: list[tuple[Row, Callable[[int], Times], float]] = []
    reference: Answer | None = None
    for entrant, is_ours in [*((e, True) for e in ours), *((e, False) for e in rivals)]:
        places, absent = (home,) if is_ours else away, []
        for process in places:
            row, key = Row(entrant.name, is_ours), f"{entrant.name} on {data}"
            try:
                seconds, found = _first_answer(process, key, entrant, data, row)
                row.errors = errors(found, reference or {})
                row.true_errors = errors(found, referee or {})
                row.wrong = is_wrong(row.true_errors, referee) if referee is not None else is_wrong(row.errors, reference or {})
            except MissingError as error:
                absent.append(str(error))
                continue
            except (WorkerError, KeyError, TypeError, ValueError) as error:
                row.note = str(error)
                rows.append(row)
                continue
            rows.append(row)
            started.append((row, _timer(process, key), seconds))
            if row.ours and reference is None:
                reference = found
            if not row.wrong:
                break
        if len(absent) == len(places):
            rows.append(Row(entrant.name, is_ours, note=f"skipped, not installed: {absent[0]}" if absent else "skipped: no --rival-python"))
    _time(started, repetitions)
    return rows


def _first_answer(process: Process, key: str, entrant: Entrant, data: Path | None, row: Row) -> tuple[float, Answer]:
    details = {"module": entrant.module, "function": entrant.function, "arguments": dict(entrant.arguments), "folder": entrant.folder}
    process.ask("prepare", name=key, data=None if data is None else str(data), **details)
    row.versions = process.ask("about", distributions=list(entrant.distributions))["versions"]
    reply = process.ask("answer", name=key)
    return reply["seconds"], reply["answer"]


def _timer(process: Process, key: str) -> Callable[[int], Times]:
    def time(calls: int) -> Times:
        reply = process.ask("time", name=key, calls=calls)
        return reply["ms"], reply["cpu_ms"]

    return time


def _time(started: Sequence[tuple[Row, Callable[[int], Times], float]], repetitions: int) -> None:
    """Warm up, choose the length of the bursts, alternate, and write the results into the rows. An entrant that fails now leaves the others their times."""
    timed: list[tuple[Callable[[int], Times], int, int]] = []
    for row, timer, seconds in started:
        guarded = _guarded(row, timer)
        for _ in range(2 if seconds < LONG_S else 1 if seconds < VERY_LONG_S else 0):
            seconds = guarded(1)[0] / 1e3
        row.calls, count = plan(seconds, repetitions)
        if row.calls > 1:
            guarded(row.calls)
        timed.append((guarded, row.calls, count))
    for (row, _, _), found in zip(started, alternate(timed), strict=True):
        if not row.note and found:
            row.set_times(found)


def _guarded(row: Row, timer: Callable[[int], Times]) -> Callable[[int], Times]:
    def call(calls: int) -> Times:
        try:
            if not row.note:
                return timer(calls)
        except (WorkerError, MissingError) as error:
            row.note = str(error)
        return math.nan, math.nan

    return call
