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
        flow = firms_golden.boario(name, stored, fused=fused)
        off = firms_golden.boario_errors(name, flow, stored)
        branch = firms_golden.BRANCH if name.startswith("B") else len(flow.output)
        assert float(off["output"][: branch + 1].max()) <= 1e-10
        assert float(off["output"].max()) <= 5e-5
        assert float(off["unmet"].max()) <= 1e-10, "also after the branch: nobody goes short there"
        assert float(off["capacity"][: branch + 1].max()) <= 1e-10
        assert stored[f"{name}_fd_unmet"].max() > 1e4, "somebody does go short"


def test_unmet_demand_is_booked_where_it_is_felt() -> None:
    flow = firms_golden.boario("A_arbitrary_noalt", firms_golden.archive(FOLDER / "boario.npz"))
    felt, asked = firms_golden.unmet_where_felt(flow)
    made, _ = firms_golden.economy()
    assert torch.allclose(felt.sum(1), flow.unmet[..., 0].sum(1), rtol=1e-12), "nothing is lost on the way from supplier to consumer"
    assert torch.allclose(asked.sum(), made.final_demand.sum(), rtol=1e-12)
    assert float((felt - flow.unmet[..., 0]).abs().max()) > 1, "and the two are not the same"


def test_a_folder_without_the_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"must lie in .*paper\.npz"):
        firms_golden.paper(tmp_path / "paper.npz")
