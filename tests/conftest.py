"""What every test shares: one thread, steady hypothesis draws, the public data where they are at hand, and skipping without a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)  # sums differ in the last digit between thread counts

hypothesis.settings.register_profile("dpsc", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("dpsc")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is no CUDA device."""
    if any("gpu" in item.keywords for item in items) and not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")  # before any fixture that changes the environment
def data_root() -> Path:
    """The folder of the public data sets; a test that asks for it is marked `data`, and skipped where DPSC_DATA is unset."""
    named = os.environ.get("DPSC_DATA")
    if not named:
        pytest.skip("DPSC_DATA is unset: it names the folder of the public data sets (python scripts/fetch_data.py lists them)")
    return Path(named).expanduser().absolute()
