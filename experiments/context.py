"""What a flow is told about its run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

Item = TypeVar("Item")


@dataclass(frozen=True)
class RunContext:
    """What a flow is told about its run; the global seeds are set before it is called.

    Attributes:
        folder: the run folder, for checkpoints; results are returned as an `Outcome` instead.
        seed: of the run.
        device: to compute on.
        data_root: where data files lie, or None for the usual places.
        progress: whether `track` shows a bar.
    """

    folder: Path
    seed: int
    device: torch.device
    data_root: str | None = None
    progress: bool = False

    def track(self, items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
        """The items as they come, with a progress bar on stderr unless the run has `progress=false`.

        Args:
            items: to go through.
            label: what the bar calls them.
            total: how many there are, where `items` cannot tell.
        """
        if not self.progress:
            return iter(items)
        from tqdm import tqdm

        return iter(tqdm(items, desc=label, total=total, file=sys.stderr, dynamic_ncols=True, mininterval=0.2))
