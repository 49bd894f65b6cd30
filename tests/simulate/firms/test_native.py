"""The C++ kernels are built on first use, and their absence is no error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dpsc.simulate import firms
from dpsc.simulate.firms import native

ROOT = Path(__file__).parents[3]
SCRIPT = """
import torch
from dpsc.simulate import firms
from dpsc.simulate.firms import native
assert native.library.cache_info().currsize == 0, "nothing is compiled on import"
network = firms.synthetic(20, degree=3, seed=0)
n = torch.full((20, 1), 1.3, dtype=torch.float64, requires_grad=True)
made = firms.rollout(network, firms.Parameters(n), productivity=torch.full((12, 20, 1), 0.5, dtype=torch.float64))
made.output.sum().backward()
print(native.available(), repr(native.library()[1]), float(made.output.detach().sum()), float(n.grad.sum()))
"""


def say(tmp_path: Path, **environment: str) -> tuple[str, float, float]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], env=variables, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *words, total, gradient = done.stdout.split()
    return " ".join(words), float(total), float(gradient)


def here() -> tuple[float, float]:
    network = firms.synthetic(20, degree=3, seed=0)
    n = torch.full((20, 1), 1.3, dtype=torch.float64, requires_grad=True)
    made = firms.rollout(network, firms.Parameters(n), productivity=torch.full((12, 20, 1), 0.5, dtype=torch.float64), kernels=firms.PLAIN)
    made.output.sum().backward()
    assert n.grad is not None
    return float(made.output.detach().sum()), float(n.grad.sum())


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"DPSC_NATIVE": "0"}, "DPSC_NATIVE is 0"),
        ({"CXX": "no-such-compiler"}, "no C++ compiler: no-such-compiler not found"),
        ({"CXX": "false", "DPSC_CACHE": "."}, "could not build"),
    ],
)
def test_without_a_compiler_a_run_is_the_same(tmp_path: Path, environment: dict[str, str], reason: str) -> None:
    words, total, gradient = say(tmp_path, **environment)
    assert words.startswith("False")
    assert reason in words
    expected = here()
    assert total == pytest.approx(expected[0], rel=1e-12)
    assert gradient == pytest.approx(expected[1], rel=1e-10)


@pytest.mark.skipif(not native.available(), reason=native.library()[1] or "the kernels are there")
def test_a_built_library_is_kept(tmp_path: Path) -> None:
    quick = tmp_path / "quick"  # the optimiser is not what is tested
    quick.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    quick.chmod(0o700)
    environment = {"DPSC_CACHE": str(tmp_path / "cache"), "CXX": str(quick)}
    words, total, gradient = say(tmp_path, **environment)
    assert words.startswith("True")
    assert (total, gradient) == (pytest.approx(here()[0], rel=1e-12), pytest.approx(here()[1], rel=1e-10))
    (kept,) = (tmp_path / "cache").glob("*")
    stamp = kept.stat().st_mtime_ns
    say(tmp_path, **environment)
    assert kept.stat().st_mtime_ns == stamp, "built once"


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")
def test_nothing_is_loaded_from_a_folder_that_everybody_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    words, _, _ = say(tmp_path, DPSC_CACHE=str(folder))
    assert words.startswith("False")
    assert "no folder for compiled kernels can be written safely" in words
    assert not list(folder.iterdir())
