"""Experiments for tests, in a second configuration folder beside the shipped one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from experiments import build
from experiments.run import main

TINY = """\
# @package _global_
# Source: nowhere
# Command: none
name: tiny
source: a test
group: decisions
seed: 42
expected:
  - {name: cost, expected: 4.0, tolerance: 1.0e-9, source: a test}
flow:
  _target_: tests.experiments.tiny_flow.run
  training: {_target_: tests.experiments.tiny_flow.Training, epochs: 4}
"""
MISSED = TINY.replace("name: tiny", "name: missed").replace("expected: 4.0", "expected: 5.0")


@dataclass(frozen=True)
class Said:
    """What a run left on the terminal."""

    code: int
    out: str
    err: str


Go = Callable[..., Said]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A working directory of its own; threads as before."""
    monkeypatch.chdir(tmp_path)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """The second configuration folder."""
    folder = tmp_path / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "missed.yaml").write_text(MISSED)
    return folder.parent


@pytest.fixture
def go(more: Path, capsys: pytest.CaptureFixture[str]) -> Go:
    """`python -m experiments.run`, in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = main(["--config-dir", str(more), *arguments], allowed=(*build.ALLOWED, "tests.experiments.tiny_flow"))
        shown = capsys.readouterr()
        return Said(code, shown.out, shown.err)

    return call
