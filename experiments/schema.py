"""The keys of a run, typed, so that a misspelt key or a value of the wrong kind fails at once; and where a run puts its folder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from dpsc.errors import ConfigError

# These change where and how a run works, never what it finds: the expected rows still hold, and a finished run need not be run again.
NEUTRAL = ("device", "threads", "progress", "folder", "data.root")
GROUPS = ("decisions", "integers", "inventory", "firms")  # `scripts/reproduce.py inventory` runs those of a group
LONGEST_NAME = 120  # bytes; file systems take 255, and the name shares that with what tools append


@dataclass
class Data:
    """Where data files lie; null: `$DPSC_DATA`, else `./data`."""

    root: str | None = None


@dataclass
class Run:
    """Root of every configuration; `conf/run.yaml` says what each key means."""

    name: str = MISSING
    title: str | None = None
    source: str = MISSING
    group: str = MISSING
    slow: bool = False
    seed: int = MISSING
    device: str = MISSING
    threads: int = MISSING
    progress: bool = MISSING
    folder: str | None = None
    data: Data = field(default_factory=Data)
    table: dict[str, Any] = field(default_factory=dict)
    expected: list[Any] = field(default_factory=list)
    flow: dict[str, Any] = field(default_factory=dict)


KEYS = (*Run.__dataclass_fields__, *(f"data.{key}" for key in Data.__dataclass_fields__))


def run_name(name: object) -> str:
    """The name of an experiment, which becomes a folder name.

    Raises: ConfigError.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        raise ConfigError(f"name must be letters, digits, '_' and '-' (it names a folder), got {name!r}")
    return name


def folder_name(overrides: str) -> str:
    """Overrides as a folder name: short, safe on every file system, and different for different overrides."""
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "-", overrides)
    if not overrides:
        return "as_shipped"
    if safe == overrides and len(safe) <= LONGEST_NAME and not safe.startswith("."):  # neither . nor .. nor a hidden folder
        return safe
    return f"{safe[: LONGEST_NAME - 11]}-{hashlib.sha256(overrides.encode()).hexdigest()[:10]}"


def register() -> None:
    """Tell hydra the schema, and OmegaConf the resolvers that `conf/run.yaml` uses; doing it again changes nothing."""
    ConfigStore.instance().store(name="schema", node=Run)
    OmegaConf.register_new_resolver("either", lambda first, second: second if first is None else first, replace=True)
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


register()
