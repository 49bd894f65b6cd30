"""Whole units of a share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsc.relax import Kernel
from dpsc.relax.operations import Soft
from dpsc.types import Relaxation


@dataclass(frozen=True, eq=False)
class _WholeUnits(Soft):
    """A share that is rounded at random; its mean over the uniform number is the share itself, and so is the soft value, whatever the kernel."""

    name: ClassVar[str] = "whole units of a share"

    def hard(self, share: Tensor, uniform: Tensor) -> Tensor:
        """floor(share + u)."""
        return torch.floor(share + uniform)

    def soft(self, kernel: Kernel, share: Tensor, uniform: Tensor) -> Tensor:
        """The share."""
        return share.clone()

    def slopes(self, kernel: Kernel, share: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """1 and 0."""
        return torch.ones_like(share), torch.zeros_like(share)


def whole_units(share: Tensor, uniform: Tensor | float, *, relax: Relaxation) -> Tensor:
    """floor(share + u): between the share and its neighbours, never more than there is to share out.

    Args:
        share: `(...)` units >= 0.
        uniform: in [0, 1), broadcasts; 0 rounds down.
        relax: the reading. Soft, it is the share itself: nothing is blurred, so that no unit leaves that is not there.
    Returns: `(...)`.
    Gradient: 1, or none when read exactly (raises).
    """
    like = torch.as_tensor(uniform, dtype=share.dtype, device=share.device)
    share, like = torch.broadcast_tensors(share, like)
    return relax.read(_WholeUnits(), share, like)
