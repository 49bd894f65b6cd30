"""The command line, the table and the JSON of `scripts/benchmark.py`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import cases as layers
from . import simulators
from .cases import Bench, Table
from .measure import Row
from .processes import WorkerError

LEAST = 20
CASES = {**layers.CASES, **simulators.CASES}


def main(arguments: Sequence[str] | None = None, *, cases: Mapping[str, Callable[[Bench], list[Table]]] = CASES, description: str | None = None) -> int:
    """Measure and tell. Returns 0, whether goals are met or not; 1 where a case could not be measured at all."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"{', '.join(cases)}; default all")
    parser.add_argument("--rival-python", nargs="+", action="extend", default=[], metavar="PYTHON", help="interpreters of environments that hold rivals")
    parser.add_argument("--repetitions", type=int, default=LEAST, help=f"of each timed call (default {LEAST})")
    parser.add_argument("--slow", action="store_true", help="also rivals that take minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.cases if name not in cases]
    if unknown:
        parser.error(f"case must be one of {', '.join(cases)}; got {unknown[0]!r}")
    if asked.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {asked.repetitions}")
    bench = Bench(asked.rival_python, asked.repetitions, asked.slow, say=lambda line: print(line, file=sys.stderr, flush=True))
    machine = about_the_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    tables, failed = [], False
    for name in asked.cases or cases:
        try:
            found = cases[name](bench)
        except WorkerError as error:
            print(f"\n{name}: not measured: {error}")
            failed = True
            continue
        tables += found
        for table in found:
            print("\n" + text(table), flush=True)
            failed = failed or any(row.ours and row.median_ms is None for row in table.rows)
    if not asked.rival_python:
        print("\nrivals were not measured: name the interpreters of their environments with --rival-python (docs/benchmarks.md says what to install)")
    if asked.repetitions < LEAST:
        print(f"\nmedians of {asked.repetitions} repetitions are a first look; numbers that are quoted need {LEAST} or more")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": machine, "tables": [plain(table) for table in tables]}, indent=1) + "\n")
    return int(failed)


def about_the_machine() -> dict[str, Any]:
    """What times depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count(), "cores used": cores, "python": platform.python_version()}


def text(table: Table) -> str:
    """A table for people: times, how many times as long as ours, errors, goals."""
    subject = next((row for row in table.rows if row.name == table.subject), None)
    lines = [("", "median", "min", "cpu", "n", "x ours", "errors", "")]
    for row in table.rows:
        ratio = row.median_ms / subject.median_ms if row.median_ms is not None and subject is not None and subject.median_ms else None
        off = {**row.errors, **row.true_errors}
        said = [f"{name} {value:.0e}" for name, value in off.items()] if len(off) <= 2 else [f"{max(off.values()):.0e}"]
        about = (
            ["WRONG"] * row.wrong
            + ["not timed" * (row.median_ms is None and not row.note)]
            + [row.note]
            + [", ".join(f"{k} {v}" for k, v in row.versions.items())]
        )
        if 0 < row.repetitions < max(other.repetitions for other in table.rows):
            about.insert(0, "fewer repetitions, a call takes more than 5 s")
        times = ["" if t is None else _digits(t / table.per) for t in (row.median_ms, row.min_ms, row.cpu_ms)]
        lines.append((row.name, *times, str(row.repetitions or ""), "" if ratio is None else f"{ratio:.3g}x", ", ".join(said), "; ".join(filter(None, about))))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    shown = [
        "  " + "  ".join([f"{line[0]:<{widths[0]}}", *(f"{line[c]:>{widths[c]}}" for c in range(1, 6)), f"{line[6]:<{widths[6]}}", line[7]]).rstrip()
        for line in lines
    ]
    goals = []
    for goal in table.goals:
        asked, value, met = goal.judge(table.rows, table.subject)
        if met is None:
            goals.append(f"  goal {asked}: not measured")
        else:
            goals.append(f"  goal {asked}: {'met' if met else 'MISSED'} ({_digits(value or 0.0)})")
    return "\n".join([f"{table.case} | {table.title}", *shown, *goals, *(f"  {note}" for note in table.notes)])


def plain(table: Table) -> dict[str, Any]:
    """A table for machines; milliseconds a call, of which `per` solves are made."""
    goals = [dict(zip(("goal", "measured", "met"), goal.judge(table.rows, table.subject), strict=True)) for goal in table.goals]
    return {
        "case": table.case,
        "title": table.title,
        "subject": table.subject,
        "per": table.per,
        "notes": list(table.notes),
        "goals": goals,
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    whole = asdict(row)
    for name in ("errors", "true_errors"):  # JSON has no infinity
        whole[name] = {key: value if abs(value) < float("inf") else None for key, value in whole[name].items()}
    return whole


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
