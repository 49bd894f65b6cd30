"""Simulators: compiled against eager, how cost grows, a million articles, and OR-Gym's setting."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .cases import OURS, Bench, Goal, Table
from .measure import Entrant, Row
from .processes import Process
from .worlds import STAGES

TORCH = OURS[:2]
ARTICLES, FUTURES, WEEKS = 1000, 256, 12
OR_GYM_RECORDED = "skipped: no --rival-python has or-gym; recorded at 9.8e4 node-periods/s on another machine, 8e4 on this project's"


def replenishment(bench: Bench) -> list[Table]:
    """The extended (R, s, Q) world: 1000 articles on 256 futures, eager and compiled."""
    cells, tables = ARTICLES * FUTURES * WEEKS, []
    for backward, rate in ((False, 1e8), (True, 5e7)):
        what = "forward and backward, straight-through" if backward else "forward, read exactly"
        title = f"extended (R, s, Q), {ARTICLES} articles x {FUTURES} futures x {WEEKS} weeks, {what}: ms a call, float32"
        shared = {"articles": ARTICLES, "futures": FUTURES, "weeks": WEEKS, "backward": backward}
        ours = [
            Entrant(name, "benchmarks.worlds", "replenishment", {**shared, "compiled": compiled}, TORCH)
            for name, compiled in (("dpsc compiled", True), ("dpsc eager", False))
        ]
        rows = bench.compare(title, ours, [])
        notes = [f"{row.name}: {_rate(row, cells)} article-path-weeks/s" for row in rows if row.counts]
        notes.append("errors of eager against compiled: costs must agree to the bit, gradients to rounding" if backward else "errors: to the bit")
        goals = (Goal("times", 2, of="dpsc eager"), Goal("cpu", 1e3 * cells / rate))
        tables.append(Table("replenishment", title, "dpsc compiled", rows, goals, notes=notes))
    return tables


def growth(bench: Bench) -> list[Table]:
    """How the cost of a simulation grows with articles, futures and weeks: the exponent of a fitted power."""
    size = {"articles": 400, "futures": 128, "weeks": WEEKS}
    series: dict[str, Sequence[int]] = {"articles": (400, 800, 1600, 3200), "futures": (128, 256, 512, 1024), "weeks": (3, 6, 12)}
    title = "extended (R, s, Q), forward and backward, straight-through: ms a call, float32, eager"
    tables = []
    for name, values in series.items():
        ours = [
            Entrant(f"{value} {name}", "benchmarks.worlds", "replenishment", {**size, name: value, "compiled": False, "backward": True}, TORCH)
            for value in values
        ]
        rows = bench.compare(f"{title}, growing {name}", ours, [])
        for row in rows:  # sizes differ, so answers cannot be held against each other
            row.errors, row.true_errors, row.wrong = {}, {}, False
        measured = [(value, row.cpu_ms) for value, row in zip(values, rows, strict=True) if row.cpu_ms]
        notes = [f"fitted exponent of processor time in {name}: {exponent(measured):.2f} (1 is linear)"] if len(measured) > 1 else []
        tables.append(Table("growth", f"{title}, growing {name}", ours[0].name, rows, notes=notes))
    return tables


def exponent(measured: Sequence[tuple[float, float]]) -> float:
    """b of the least-squares fit log time = a + b log size."""
    x, y = np.log(np.array(measured, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def million(bench: Bench) -> list[Table]:
    """Articles in shards, 4 parameters each, 32 futures, 20 steps with sampling: a million with --slow, else a fiftieth."""
    count = 1_000_000 if bench.slow else 20_000
    title = f"{count:,} articles x 32 futures x 12 weeks, {4 * count:,} parameters, 20 steps with sampling: ms"
    bench.say(f"{title} ...")
    row = Row("dpsc, shards of 2048", True, calls=1)
    with Process(sys.executable, timeout_s=7200) as home:
        arguments = {"count": count, "shard": 2048, "other_shard": 1024, "checked": 8192}
        home.ask("prepare", name="x", module="benchmarks.worlds", function="many_articles", arguments=arguments)
        row.versions = home.ask("about", distributions=list(TORCH))["versions"]
        found = home.ask("answer", name="x")["answer"]
    row.set_times([(1e3 * found["wall_s"], 1e3 * found["cpu_s"])])
    row.wrong = found["differ"] > 0
    row.note = f"peak {found['peak_gib']:.2f} GiB"
    notes = [
        "compiling included; processor time in the column cpu",
        f"shards of 1024 instead of 2048: {found['differ']} of the first 8192 articles differ in a bit",
        f"measured cost of all articles: {found['start']:.6g} at the start, {found['end']:.6g} after 20 steps",
        f"memory: {found['peak_gib']:.2f} GiB at the peak, goal <= 4: {'met' if found['peak_gib'] <= 4 else 'MISSED'}",
    ]
    goals = (Goal("cpu", 600_000),) if bench.slow else ()
    return [Table("million", title, row.name, [row], goals, notes=notes)]


def four_stages(bench: Bench) -> list[Table]:
    """OR-Gym's InvManagement-v1 by both: the same demand, the same echelon base-stock levels, the same stocks at the end; per million node-periods."""
    ours_paths, their_paths = 8192, 32
    nodes = (len(STAGES["lead_time"]) + 1) * STAGES["periods"]  # type: ignore[arg-type, operator]
    title = "OR-Gym's four stages, 30 periods, lost sales: ms per million node-periods"
    arrays = {"demand": np.random.default_rng(0).poisson(STAGES["mean"], (ours_paths, STAGES["periods"])).astype(float)}  # type: ignore[arg-type]
    ours = [
        Entrant(name, "benchmarks.worlds", "four_stages", {"compiled": compiled, "paths": ours_paths}, TORCH)
        for name, compiled in (("dpsc compiled", True), ("dpsc eager", False))
    ]
    rivals = [Entrant("or-gym", "benchmarks.worlds", "or_gym", {"paths": their_paths}, ("or-gym", "gym", "numpy"))]
    rows = bench.compare(title, ours, rivals, arrays)
    for row in rows:
        size = (ours_paths if row.ours else their_paths) * nodes / 1e6
        for name in ("median_ms", "min_ms", "cpu_ms"):
            value = getattr(row, name)
            setattr(row, name, None if value is None else value / size)
        if not row.ours and row.note.startswith("skipped"):
            row.note = OR_GYM_RECORDED
    notes = [f"{row.name}: {_rate(row, 1e6)} node-periods/s" for row in rows if row.counts]
    notes.append(f"dpsc plays {ours_paths} paths a call, OR-Gym {their_paths} one after another; sales and final stocks agree to the unit")
    return [Table("four_stages", title, "dpsc compiled", rows, (Goal("ratio", 1000),), notes=notes)]


def _rate(row: Row, cells: float) -> str:
    """Per second of processor time, which other work on the machine does not stretch."""
    assert row.cpu_ms is not None
    return f"{cells / max(row.cpu_ms, 1e-9) * 1e3:.3g}" if math.isfinite(row.cpu_ms) else "?"


CASES: Mapping[str, Callable[[Bench], list[Table]]] = {
    "replenishment": replenishment,
    "growth": growth,
    "million": million,
    "four_stages": four_stages,
}
