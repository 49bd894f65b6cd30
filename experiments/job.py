"""One job: from a composed configuration to a run folder and an exit code."""

from __future__ import annotations

import dataclasses
import random
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dpsc import checks
from dpsc.errors import ConfigError, DpscError, InputError
from dpsc.report.expected import all_ok, check_rows
from dpsc.report.outcome import Outcome
from dpsc.report.page import number
from dpsc.report.record import RunRecord, already_finished
from experiments import build, compose
from experiments.context import RunContext

OK, UNEXPECTED, MISTAKE, NOT_MET, INTERRUPTED = 0, 1, 2, 3, 130


def job(config: DictConfig, *, allowed: Sequence[str] = build.ALLOWED) -> int:
    """Run one job, unless its folder holds the finished run of the same configuration. Never raises but for an interruption.

    Args:
        config: the whole configuration, without hydra's node; the folder and the overrides come from hydra.
        allowed: see `build`.
    Returns: the exit code.
    """
    folder, overrides = Path(HydraConfig.get().runtime.output_dir), OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    command = repeat(HydraConfig.get().runtime.choices.get("experiment"), overrides)
    try:
        try:
            settings, incomplete = compose.plain(config), None
        except ConfigError as error:  # reported below, once it can be recorded
            settings, incomplete = _unresolved(config), error
        earlier = already_finished(folder, compose.results_only(settings))
        if earlier is not None:
            code = int(earlier["exit_code"])
            print(f"{settings.get('name')}: finished on {earlier['start']} already, exit code {code}, not run again: {folder / 'report.html'}")
            print("delete the folder, or give another, to run it again")
            return code
        record = RunRecord(
            folder,
            name=str(settings.get("name")),
            seed=settings.get("seed"),
            device=str(settings.get("device")),
            threads=settings.get("threads", 0),
            command=command,
            configuration=compose.results_only(settings),
        )
    except DpscError as error:
        _complain(error)
        return MISTAKE
    try:
        if incomplete is not None:
            raise incomplete
        _save_hydra(folder / ".hydra", config, overrides)
        outcome, compared = _run(config, settings, record, overrides, allowed)
        code = OK if all_ok(compared) else NOT_MET
        record.finish(code)
    except KeyboardInterrupt as error:
        record.fail(error, INTERRUPTED)
        print(f"record: {folder / 'run.json'}", file=sys.stderr)
        raise
    except BaseException as error:  # an exit as well, which would end a whole sweep
        code = MISTAKE if isinstance(error, DpscError) else UNEXPECTED
        _complain(error, folder)
        try:
            record.fail(error, code)
        except DpscError as second:
            _complain(second)
        return code
    print("\n".join(summary(str(settings["name"]), outcome, compared, record, tick=_tick())))
    return code


def repeat(experiment: str | None, overrides: Sequence[str]) -> str:
    """The command that repeats a run, in a folder of its own."""
    kept = [line for line in overrides if compose.override_key(line) not in ("experiment", "folder")]
    first = [f"experiment={experiment}"] if experiment else []
    return " ".join(["python -m experiments.run", *map(shlex.quote, [*first, *kept])])


def summary(name: str, outcome: Outcome, compared: Sequence[Mapping[str, Any]], record: RunRecord, *, tick: Mapping[Any, str]) -> list[str]:
    """What the terminal says at the end of a run: expected rows, the other metrics, the place of the report."""
    lines = [f"{name}: {record.content['status']} in {record.content['duration_s']:.1f} s"]
    width = max((len(key) for key in [*outcome.metrics, *(row["name"] for row in compared)]), default=0)
    for row in compared:
        tolerance = f" +- {number(row['tolerance'])}" if row["tolerance"] else ""
        lines.append(
            f"  {tick[row['ok']]} {row['name']:<{width}}  {number(row['measured']):>12}   expected {row['relation']} {number(row['expected'])}{tolerance}"
        )
    others = [key for key in outcome.metrics if all(key != row["name"] for row in compared)]
    lines += [f"  {tick['other']} {key:<{width}}  {number(_plain(outcome.metrics[key])):>12}" for key in others]
    if any(row["ok"] is None for row in compared):
        lines.append("  the expected numbers hold for the configuration as shipped and do not apply to this run")
    return [*lines, f"report: {record.folder / 'report.html'}"]


def _run(
    config: DictConfig, settings: Mapping[str, Any], record: RunRecord, overrides: Sequence[str], allowed: Sequence[str]
) -> tuple[Outcome, list[dict[str, Any]]]:
    rows = check_rows(settings["expected"])  # before the work, not after it
    context = RunContext(record.folder, _seeded(settings["seed"]), _device(settings["device"]), settings["data"]["root"], settings["progress"])
    torch.set_num_threads(checks.at_least("threads", settings["threads"], 1))
    flow = build.flow(settings["flow"], allowed=allowed)
    outcome = flow(context=context)
    if not isinstance(outcome, Outcome):
        raise InputError(f"flow {settings['flow']['_target_']} must return an Outcome, got {type(outcome).__name__}")
    if settings["title"] is not None:
        outcome = dataclasses.replace(outcome, title=settings["title"])
    text = OmegaConf.to_yaml(OmegaConf.create(dict(settings)))
    compared = record.write(outcome, rows, not_applicable=compose.changes(overrides), configuration=text, source=settings["source"])
    return outcome, compared


def _seeded(seed: int) -> int:
    if checks.at_least("seed", seed, 0) >= 2**63:
        raise InputError(f"seed must be an integer below 2^63, got {seed}")
    random.seed(seed)
    numpy.random.seed(seed % 2**32)  # noqa: NPY002 - for code that is not ours; our own draws come from dpsc.noise
    torch.manual_seed(seed)
    return seed


def _device(name: str) -> torch.device:
    """The device of a run, if it is there. Raises: ConfigError."""
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0))]
    if name not in there and not (name == "cuda" and len(there) > 1):
        why = "" if len(there) > 1 else "; torch finds no CUDA device" if torch.version.cuda else "; this torch was built without CUDA"
        raise ConfigError(f"device must be one that is there, {', '.join(there)}; got {name!r}{why if name.startswith('cuda') else ''}")
    return torch.device(name)


def _save_hydra(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    try:
        folder.mkdir(exist_ok=True)
        OmegaConf.save(config, folder / "config.yaml")
        OmegaConf.save(OmegaConf.create({"hydra": HydraConfig.get()}), folder / "hydra.yaml")
        OmegaConf.save(OmegaConf.create(list(overrides)), folder / "overrides.yaml")
    except OSError as error:
        raise ConfigError(f"run folder must be writable, but {folder} cannot be written: {error.strerror or error}") from error


def _unresolved(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in container.items()} if isinstance(container, dict) else {}


def _complain(error: BaseException, folder: Path | None = None) -> None:
    """One readable message for a mistake; the whole traceback for what nobody foresaw."""
    sys.stdout.flush()
    if not isinstance(error, DpscError):
        traceback.print_exception(error, file=sys.stderr)
    name = "" if isinstance(error, DpscError) else f"{type(error).__name__}: "
    print(f"error: {name}{error}", file=sys.stderr)
    if folder is not None:
        print(f"record: {folder / 'run.json'}", file=sys.stderr)


def _tick() -> dict[Any, str]:
    """Marks that the terminal can show."""
    marks: dict[Any, str] = {True: "✓", False: "✗", None: "○", "other": " "}
    try:
        "".join(marks.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        marks = {True: "ok  ", False: "FAIL", None: "n/a ", "other": "    "}
    return marks


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 else value
