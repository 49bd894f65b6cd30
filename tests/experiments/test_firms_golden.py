"""The stored trajectories: every way to compute a run, and BoARIO with and without the fused step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpsc.errors import DataNotFoundError
from dpsc.simulate.firms import native
from experiments import firms_golden

FOLDER = Path(__file__).parents[1] / "golden" / "firms"


def test_the_paper_s_step_and_its_gradients() -> None:
    rows = firms_golden.paper(FOLDER / "paper.npz")
    assert len(rows) == 3 * 2 * (2 + native.available())
    assert max(row["trajectory_error"] for row in rows) <= 1e-12
    assert max(row["gradient_error"] for row in rows) <= 1e-9


@pytest.mark.parametrize("fused", [False, *([True] if native.available() else [])])
def test_boario(fused: bool) -> None:
    stored = firms_golden.archive(FOLDER / "boario.npz")
    for name in firms_golden.SCENARIOS:
        off = firms_golden.relative(firms_golden.boario(name, stored, fused=fused), torch.from_numpy(stored[f"{name}_prod"])).amax(1)
        branch = firms_golden.BRANCH if name.startswith("B") else len(off)
        assert float(off[: branch + 1].max()) <= 1e-10
        assert float(off.max()) <= 5e-5


def test_a_folder_without_the_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"must lie in .*paper\.npz"):
        firms_golden.paper(tmp_path / "paper.npz")
