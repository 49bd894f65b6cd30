"""Run the experiments one after another and hold every published or promised number against what was measured.

    python scripts/reproduce.py                      every experiment but the slow ones
    python scripts/reproduce.py --slow               every experiment
    python scripts/reproduce.py seed_allocation      the named ones, slow or not
    python scripts/reproduce.py inventory --jobs 2   a group (decisions, integers, inventory, firms), slow ones too, two runs at a time
    python scripts/reproduce.py threads=2            key=value goes to every run

Each run is a process of its own, with its folder below `runs/reproduce/`. The table is printed and written to `runs/reproduce.csv`.
Exit code: 0 when every run finished and every number that applies is met, 3 when one is not, 1 when a run ended with an error.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("experiment", "name", "expected", "relation", "tolerance", "measured", "ok", "source", "exit_code", "duration_s")

Launch = Callable[[str, Path, Sequence[str]], int]


def launch(name: str, folder: Path, overrides: Sequence[str]) -> int:
    """Run one experiment in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", "experiments.run", f"experiment={name}", f"folder={folder}", *overrides]
    # The folder is absolute, and the checkout is where `experiments` is found.
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def chosen(names: Sequence[str], *, slow: bool, config_dir: Path) -> list[str]:
    """The named experiments and those of the named groups, each once; or all that are there, without the slow ones unless asked for.

    Raises: SystemExit, naming the near ones, for a name that is neither.
    """
    from omegaconf import OmegaConf

    from dpsc import checks

    there = {path.stem: OmegaConf.load(path) for path in sorted((config_dir / "experiment").glob("*.yaml"))}
    groups: dict[str, list[str]] = {}
    for name, config in there.items():
        groups.setdefault(str(OmegaConf.select(config, "group")), []).append(name)
    wanted: dict[str, None] = {}
    for name in names:
        if name not in there and name not in groups:
            known = f"{', '.join(there) or '(none)'}, or a group: {', '.join(sorted(groups)) or '(none)'}"
            raise SystemExit(f"error: experiment must be one of {known}; got {name!r}{checks.near(name, [*there, *groups])}")
        wanted |= dict.fromkeys([name] if name in there else groups[name])
    return list(wanted) or [name for name, config in there.items() if slow or not OmegaConf.select(config, "slow")]


def reproduce(names: Sequence[str], overrides: Sequence[str], *, folder: Path, run: Launch = launch, jobs: int = 1) -> list[dict[str, Any]]:
    """Run the experiments, `jobs` at a time; returns one row an expected number, and one for a run that ended without any, in the order of the names."""

    def one(position: int, name: str) -> list[dict[str, Any]]:
        print(f"[{position}/{len(names)}] {name}", flush=True)
        started = time.perf_counter()
        place = (folder / name).resolve()
        code = run(name, place, overrides)
        facts = {"experiment": name, "exit_code": code, "duration_s": round(time.perf_counter() - started, 1)}
        found = _json(place / "expected.json") if code in (0, 3) else []
        return [{**row, **facts} for row in found] or [dict.fromkeys(COLUMNS) | facts]

    with ThreadPoolExecutor(jobs) as pool:  # the threads only wait: each run is a process of its own
        return [row for rows in pool.map(one, range(1, len(names) + 1), names) for row in rows]


def exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """1 when a run ended with an error, else 3 when a number is not met, else 0."""
    if any(row["exit_code"] not in (0, 3) for row in rows):
        return 1
    return 3 if any(row["ok"] is False or row["exit_code"] == 3 for row in rows) else 0


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text, in columns."""
    lines = [("experiment", "number", "expected", "tolerance", "measured", "")]
    for row in rows:
        if row["name"] is None:
            verdict = "no expected numbers" if row["exit_code"] == 0 else f"failed with exit code {row['exit_code']}"
            lines.append((row["experiment"], "", "", "", "", verdict))
            continue
        verdict = {True: "ok", False: "NOT MET", None: "not applicable"}[row["ok"]]
        expected = f"{row['relation']} {row['expected']:.6g}"
        measured = "-" if row["measured"] is None else f"{row['measured']:.6g}"
        lines.append((row["experiment"], row["name"], expected, f"{row['tolerance']:.3g}", measured, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join("  ".join([*(f"{cell:<{width}}" for cell, width in zip(line[:5], widths, strict=True)), line[5]]).rstrip() for line in lines)


def written(folder: Path, names: Sequence[str]) -> list[str]:
    """A line for every run that left figures or tables, naming them."""
    lines = []
    for name in names:
        parts = [
            f"{kind} {', '.join(path.stem for path in found)}"
            for kind, ending in (("figures", "png"), ("tables", "csv"))
            if (found := sorted((folder / name / kind).glob(f"*.{ending}")))
        ]
        if parts:
            lines.append(f"{folder / name}: {'; '.join(parts)}")
    return lines


def main(arguments: Sequence[str] | None = None, *, run: Launch = launch, config_dir: Path = ROOT / "conf", runs: Path = Path("runs")) -> int:
    """See the module. Returns the exit code."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name | key=value", help="experiments or groups of them, and overrides for all runs")
    parser.add_argument("--slow", action="store_true", help="also the experiments that take minutes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1); more than one hides their progress bars")
    asked = parser.parse_intermixed_args(arguments)
    if asked.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {asked.jobs}")
    overrides = [word for word in asked.names if "=" in word]
    if asked.jobs > 1 and not any(word.startswith("progress=") for word in overrides):
        overrides.append("progress=false")
    names = chosen([word for word in asked.names if "=" not in word], slow=asked.slow, config_dir=config_dir)
    folder = runs / "reproduce" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    rows = reproduce(names, overrides, folder=folder, run=run, jobs=asked.jobs)
    runs.mkdir(parents=True, exist_ok=True)
    with open(runs / "reproduce.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))
    for line in written(folder, names):
        print(line)
    print(f"written to {runs / 'reproduce.csv'}")
    return exit_code(rows)


def _json(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


if __name__ == "__main__":
    sys.exit(main())
