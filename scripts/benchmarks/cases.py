"""What is measured, against whom, and the goals."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from . import problems, referee
from .firm_tables import firms
from .measure import Entrant, Row, Times, alternate, compare
from .processes import Process, WorkerError, run_once

LAYERS = {"allocation": "P1", "replenishment": "P2", "dense": "P3"}
OURS = ("torch", "numpy", "cvxpy", "cvxpylayers", "clarabel")
RECORDED = (
    "not measured (--slow measures it, about two minutes): recorded 27 to 36 s for discopt 0.8.0, the notebook replayed on one x86-64 core at another time"
)
IMPORTS = ("import dpsc", "import dpsc.decision, dpsc.objective, dpsc.training")


@dataclass(frozen=True)
class Goal:
    """For the table's subject, or the row named `of`: `ms` (`cpu`: of processor time) and `gradient` (error against the referee) at most, `ratio` to the best
    rival at least `limit`; `times`: the row named `of` takes at least `limit` times the subject's processor time."""

    measure: str
    limit: float
    of: str | None = None

    def judge(self, rows: Sequence[Row], subject: str) -> tuple[str, float | None, bool | None]:
        """What was asked, what was measured, and whether that is enough; None where it was not measured."""
        row = next((r for r in rows if r.name == (self.of or subject)), None)
        if self.measure == "times":
            first = next((r for r in rows if r.name == subject), None)
            value = row.cpu_ms / first.cpu_ms if row and first and row.counts and first.counts and row.cpu_ms and first.cpu_ms else None
            return self.text(), value, None if value is None else value >= self.limit
        if row is None or not row.counts:
            return self.text(), None, None
        if self.measure == "ratio":
            best = best_rival(rows)
            value = None if best is None else best.median_ms / row.median_ms  # type: ignore[operator]
            return self.text(), value, None if value is None else value >= self.limit
        value = {"ms": row.median_ms, "cpu": row.cpu_ms}.get(self.measure, row.true_errors.get("gradient"))
        return self.text(), value, None if value is None else value <= self.limit

    def text(self) -> str:
        """In words."""
        if self.measure == "times":
            return f">= {self.limit:g}x as fast as {self.of}"
        what = {
            "ms": f"<= {self.limit:g} ms",
            "cpu": f"<= {self.limit:g} ms of processor time",
            "gradient": f"gradient error <= {self.limit:g}",
            "ratio": f">= {self.limit:g}x the best rival that is right",
        }[self.measure]
        return what if self.of is None else f"{what} for {self.of}"


@dataclass
class Table:
    """One problem: rows in the order of the entrants, ratios to the row named `subject`."""

    case: str
    title: str
    subject: str
    rows: Sequence[Row]
    goals: Sequence[Goal] = ()
    per: int = 1
    notes: Sequence[str] = field(default_factory=list)


@dataclass
class Bench:
    """Processes and settings of one call of the script."""

    rival_pythons: Sequence[str]
    repetitions: int
    slow: bool = False
    say: Callable[[str], None] = print
    measured: dict[tuple[str, int], list[Row]] = field(default_factory=dict)

    def compare(
        self, title: str, ours: Sequence[Entrant], rivals: Sequence[Entrant], arrays: problems.Arrays | None = None, true: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """`measure.compare` in fresh processes: libraries that clash must not meet in one."""
        self.say(f"{title} ...")
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            data = None
            if arrays is not None:
                data = Path(folder) / "problem.npz"
                np.savez(data, **arrays)
            away = []
            for python in self.rival_pythons:
                try:
                    away.append(stack.enter_context(Process(python)))
                except WorkerError as error:
                    self.say(f"  {error}")
            home = stack.enter_context(Process(sys.executable))
            return compare(ours, rivals, home=home, away=away, repetitions=self.repetitions, data=data, referee=true)


def best_rival(rows: Sequence[Row]) -> Row | None:
    """The fastest one whose answer is right."""
    return min((r for r in rows if not r.ours and r.counts), key=lambda r: r.median_ms, default=None)  # type: ignore[arg-type, return-value]


def allocation(bench: Bench) -> list[Table]:
    """The closed-form allocation layer."""
    goals = {1024: (Goal("ms", 0.4), Goal("ratio", 30))}
    return [_layer(bench, "allocation", "allocation", batch, "dpsc Allocation", goals.get(batch, ())) for batch in (32, 128, 1024)]


def convex(bench: Bench) -> list[Table]:
    """The general convex layer."""
    cells = (("replenishment", 32), ("replenishment", 128), ("dense", 32), ("allocation", 1024))
    return [_layer(bench, "convex", form, batch, "dpsc ConvexProgram", (Goal("gradient", 1e-6),)) for form, batch in cells]


def _layer(bench: Bench, case: str, form: str, batch: int, subject: str, goals: Sequence[Goal]) -> Table:
    title, notes = (
        f"{LAYERS[form]} ({form}), B = {batch}: forward + backward, ms a batch, float64",
        ["errors against an independent referee: decision absolute, gradient relative"],
    )
    if (form, batch) not in bench.measured:
        arrays, true = _drawn(form, batch)
        named = {"form": form}
        ours = [Entrant("dpsc ConvexProgram", "benchmarks.ours", "convex_program", named, OURS)]
        if form == "allocation":
            ours.insert(0, Entrant("dpsc Allocation", "benchmarks.ours", "closed_form", {}, OURS))
        rivals = [
            Entrant("cvxpylayers + MOREAU", "benchmarks.rivals", "cvxpylayers_moreau", named, ("cvxpylayers", "cvxpy", "moreau")),
            Entrant("cvxpylayers (DIFFCP)", "benchmarks.rivals", "cvxpylayers", named, ("cvxpylayers", "cvxpy", "diffcp", "scs")),
            Entrant("qpth", "benchmarks.rivals", "qpth", named, ("qpth", "torch")),
            Entrant("proxsuite", "benchmarks.rivals", "proxsuite", named, ("proxsuite", "torch")),
            Entrant("pounce.torch", "benchmarks.rivals", "pounce", named, ("pounce-solver", "torch")),
        ]
        bench.measured[form, batch] = bench.compare(title, ours, rivals, arrays, true)
    rows = bench.measured[form, batch]
    return Table(case, title, subject, sorted(rows, key=lambda r: r.name != subject), goals, notes=notes)


@cache
def _drawn(form: str, batch: int) -> tuple[problems.Arrays, Mapping[str, Any]]:
    arrays: problems.Arrays = getattr(problems, form)(batch)
    true = referee.solve(arrays)
    off = problems.check(form, batch, true)
    if off > 1e-7:
        raise WorkerError(
            f"{LAYERS[form]} with B = {batch} is off its check values by {off:.1g}: this torch or numpy draws other numbers, or the referee is wrong"
        )
    return arrays, true


def knapsack(bench: Bench) -> list[Table]:
    """The exact knapsack oracle, a solve."""
    arrays, source = problems.knapsack()
    days, tables = len(arrays["value"]), []
    for capacity in (60, 120, 180):
        title, named = f"0/1 knapsack, 48 items, capacity {capacity}: ms a solve, {days} days", {"capacity": capacity}
        ours = [Entrant("dpsc Knapsack", "benchmarks.ours", "knapsack", named, OURS[:2])]
        rivals = [Entrant("PyEPO + OR-Tools SCIP", "benchmarks.rivals", "pyepo_scip", named, ("pyepo", "ortools"))]
        rows = bench.compare(title, ours, rivals, arrays)
        tables.append(
            Table("knapsack", title, ours[0].name, rows, (Goal("ratio", 20),), per=days, notes=[source, "errors: largest relative difference of the value"])
        )
    return tables


def seed_allocation(bench: Bench) -> list[Table]:
    """The seed experiment, data to metrics, without imports and report."""
    from dpsc.instances.notebook import ALLOCATION

    title = "seed_allocation: data, two-stage fit, 10 epochs of decision-focused training, evaluation; ms, without imports and report"
    ours = [Entrant("dpsc", "benchmarks.ours", "seed_experiment", {"experiment": "seed_allocation"}, OURS[:2])]
    protocol = {"seed": 42, "rows": {"train": 30, "test": 15}, "epochs": 10, "batch": 10, "rate": 0.05, "instance": dict(ALLOCATION.parameters)}
    rivals = [Entrant("discopt", "benchmarks.discopt_seed", "replay", protocol, ("discopt", "jax"))] if bench.slow else []
    rows = bench.compare(title, ours, rivals)
    if not bench.slow:
        rows.append(Row("discopt", False, note=RECORDED))
    return [
        Table(
            "seed_allocation",
            title,
            "dpsc",
            rows,
            (Goal("ms", 500),),
            notes=["errors: largest difference of oracle, two-stage and decision-focused cost and error"],
        )
    ]


def imports(bench: Bench) -> list[Table]:
    """What a fresh process waits for."""
    title, statements = "import, wall time of `python -c` in fresh processes, ms", (*IMPORTS, "import torch")
    bench.say(f"{title} ...")
    root = Path(__file__).resolve().parents[2]

    def timer(statement: str) -> Callable[[int], Times]:
        def once(_: int) -> Times:
            start, before = perf_counter(), os.times()
            run_once(sys.executable, ["-c", statement], cwd=root)
            after = os.times()
            return 1e3 * (perf_counter() - start), 1e3 * (after.children_user - before.children_user + after.children_system - before.children_system)

        once(1)  # byte code and file cache
        return once

    rows = [Row(statement, True, calls=1) for statement in statements]
    for row, found in zip(rows, alternate([(timer(s), 1, bench.repetitions) for s in statements]), strict=True):
        row.set_times(found)
    rows[-1].note = "the part that is not ours"
    return [Table("import", title, IMPORTS[1], rows, [Goal("ms", 2500, of=statement) for statement in IMPORTS])]


CASES: dict[str, Callable[[Bench], list[Table]]] = {
    "allocation": allocation,
    "convex": convex,
    "knapsack": knapsack,
    "seed_allocation": seed_allocation,
    "firms": firms,
    "import": imports,
}
