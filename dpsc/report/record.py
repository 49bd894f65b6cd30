"""The record of a run: what ran, where, with which versions, and what became of it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dpsc.errors import ConfigError
from dpsc.report.expected import check_rows, compare
from dpsc.report.files import plain, write_bytes, write_figures, write_json, write_tables
from dpsc.report.learned import save_learned
from dpsc.report.outcome import Outcome, plain_metrics, section_keys

PACKAGES = ("dpsc", "torch", "cvxpy", "cvxpylayers", "pyro-ppl", "numpy", "pandas", "hydra-core")
CHECKPOINTS = "checkpoint"  # the subfolder of a run folder in which flows keep what a long run needs to go on
PRODUCED = ("metrics.json", "expected.json", "report.html", "tables/*.csv", "figures/*.png", "learned/*.pt", "learned/manifest.json")


class RunRecord:
    """A run folder while its run goes on. `run.json` is there from the first moment; its status "finished" is the last thing written.

    Attributes:
        folder: the run folder.
        content: what `run.json` says: status ("running", "finished", "failed" or "interrupted"), versions, revision, seed, device ...
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        seed: int | None,
        device: str,
        threads: int,
        command: str,
        configuration: Mapping[str, Any],
    ) -> None:
        """Open the folder: make it, lock it against a second run, clear what an unfinished run left, and write `run.json`.

        Args:
            folder: made where it does not exist.
            name: of the experiment.
            seed: of the run.
            device: as asked for.
            threads: of torch.
            command: repeats the run.
            configuration: what decides the results, resolved; `already_finished` compares it.
        Raises: ConfigError for a folder that cannot be written, or in which another process runs.
        """
        self.folder = Path(folder)
        self._clock = time.perf_counter()
        self._lock = _lock(self.folder)
        if previous(self.folder) is not None:
            _clear(self.folder)
        self.content: dict[str, Any] = {
            "status": "running",
            "name": name,
            "start": datetime.now().astimezone().isoformat(timespec="seconds"),
            "duration_s": None,
            "exit_code": None,
            "seed": seed,
            "device": device,
            "threads": threads,
            "command": command,
            "command_line": list(sys.argv),
            "process": os.getpid(),
            "revision": revision(Path(__file__).resolve().parents[2]),
            "versions": versions(),
            "platform": platform.platform(),
            "configuration_hash": configuration_hash(configuration),
            "configuration": plain(configuration),
        }
        write_json(self.folder / "run.json", self.content)

    def write(
        self, outcome: Outcome, rows: Sequence[Mapping[str, Any]] = (), *, not_applicable: Sequence[str] = (), configuration: str = "", source: str = ""
    ) -> list[dict[str, Any]]:
        """Write what the flow returned, the most valuable first, and the page last.

        Args:
            outcome: of the flow.
            rows: expected rows, see `check_rows`.
            not_applicable: the overrides because of which the rows do not apply; empty when they do.
            configuration: the whole configuration as text, for the page; default: the recorded one.
            source: where the problem comes from, for the page.
        Returns: the rows of `expected.json`.
        Raises: InputError for an outcome that breaks the contract; ConfigError for rows that do, or a folder that cannot be written.
        """
        from dpsc.report.page import render

        rows = check_rows(rows)
        save_learned(self.folder, outcome.learned)
        write_tables(self.folder / "tables", outcome.tables)
        pictures = write_figures(self.folder / "figures", outcome.figures)
        metrics = plain_metrics(outcome.metrics)
        write_json(self.folder / "metrics.json", metrics)
        compared = compare(rows, metrics, not not_applicable)
        write_json(self.folder / "expected.json", compared)
        section_keys(outcome)
        facts = {key: value for key, value in self.content.items() if key not in ("configuration", "status", "exit_code")}
        facts["duration_s"] = self._seconds()
        page = render(
            outcome,
            metrics=metrics,
            compared=compared,
            not_applicable=not_applicable,
            pictures=pictures,
            facts=facts,
            command=self.content["command"],
            source=source,
            configuration=configuration or json.dumps(self.content["configuration"], indent=2, ensure_ascii=False),
        )
        write_bytes(self.folder / "report.html", page.encode())
        return compared

    def finish(self, exit_code: int) -> None:
        """The run is complete; nothing is written after this."""
        self._close("finished", exit_code)

    def fail(self, error: BaseException, exit_code: int) -> None:
        """The run ended with an error, or by an interruption (`KeyboardInterrupt`)."""
        self.content["error"] = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        self._close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", exit_code)

    def release(self) -> None:
        """Let another run use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close(self, status: str, exit_code: int) -> None:
        self.content.update(status=status, duration_s=self._seconds(), exit_code=exit_code)
        try:
            write_json(self.folder / "run.json", self.content)
        finally:
            self.release()

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._clock, 3)


def previous(folder: Path | str) -> dict[str, Any] | None:
    """What `run.json` of a folder says; None where there is none that can be read."""
    try:
        content = json.loads((Path(folder) / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "status" in content else None


def already_finished(folder: Path | str, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a finished run of the same configuration, or None where the folder is free to be used.

    Args:
        folder: the run folder.
        configuration: what decides the results, resolved.
    Raises: ConfigError where a run of a different configuration finished in the folder, or left checkpoints there from which this one would go
        on; it names the differences.
    """
    content = previous(folder)
    if content is None:
        return None
    finished = content["status"] == "finished"
    if content.get("configuration_hash") != configuration_hash(configuration):
        if not finished and not any((Path(folder) / CHECKPOINTS).glob("*")):
            return None
        there, here = _flat(content.get("configuration", {})), _flat(plain(configuration))
        changed = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
        listed = "; ".join(f"{key}: {there.get(key, '(absent)')} there, {here.get(key, '(absent)')} here" for key in changed[:5])
        more = f"; and {len(changed) - 5} more" if len(changed) > 5 else ""
        kind = "a finished run" if finished else "the checkpoints of a run"
        raise ConfigError(f"run folder must be new or hold a run of the same configuration, but {folder} holds {kind} that differs in {listed}{more}")
    return content if finished else None


def configuration_hash(configuration: Mapping[str, Any]) -> str:
    """sha256 of a configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain(configuration), sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide a result; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def revision(root: Path) -> dict[str, Any] | None:
    """The git commit of a checkout, and whether the files differ from it; None where `root` is no checkout."""
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *command: str) -> str:
    # Without optional locks, or asking for the status could get into the way of a commit that goes on at the same time.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10, check=True, env=environment).stdout


def _lock(folder: Path) -> int | None:
    """An exclusive lock on the folder, which ends with the process; None where the system has no such locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run folder must be a folder that can be written, but {folder} cannot be made: {error.strerror or error}") from error
    try:
        import fcntl
    except ImportError:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if handle is not None:
            os.close(handle)
        process = (previous(folder) or {}).get("process", "unknown")
        raise ConfigError(f"run folder must not be in use, but another run (process {process}) is going on in {folder}") from None
    except OSError:  # a network file system without locks on folders
        if handle is not None:
            os.close(handle)
        return None
    return handle


def _clear(folder: Path) -> None:
    """Remove what an earlier run produced, so that nothing of it is taken for the new one's; a flow's own files (checkpoints) stay."""
    for pattern in PRODUCED:
        for path in folder.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {key: leaf for name, entry in value.items() for key, leaf in _flat(entry, f"{path}.{name}" if path else str(name)).items()}
    return {path: json.dumps(value, ensure_ascii=False)}
