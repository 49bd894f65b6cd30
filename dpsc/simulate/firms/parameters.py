"""What a firm is like beyond its recipe: how much stock it aims at, how fast it refills, how much it can make."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.simulate.firms.network import Network

Level = float | Tensor


@dataclass(frozen=True, eq=False)
class Parameters:
    """Numbers, `(M,)` or `(M, B)`; values are checked here, shapes where a network is known.

    Attributes:
        inventory: n >= 0, target stock in steps of own use at rest. Below 1 a firm starts with less than a step needs.
        adjustment_time: tau > 0 steps over which a gap is refilled.
        capacity: >= 0, largest output in units of the output at rest.
        needed: > 0, steps of stock that full production needs; 1 for the paper, psi n for ARIO-psi (Hallegatte 2014).
    """

    inventory: Level
    adjustment_time: Level = 10.0
    capacity: Level = 1.2
    needed: Level = 1.0

    def __post_init__(self) -> None:
        for name, strict in (("inventory", False), ("adjustment_time", True), ("capacity", False), ("needed", True)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                if not value.is_floating_point():
                    raise DtypeError(f"{name} must be a floating-point tensor or a number, got dtype {value.dtype}")
                if value.dim() > 2:
                    raise ShapeError(f"{name} must be a number, (M,) or (M, B), got {tuple(value.shape)}")
                low = float(value.detach().min()) if value.numel() else 1.0
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                raise DtypeError(f"{name} must be a number or a floating-point tensor, got {value!r}")
            else:
                low = float(value)
            if not (low > 0 if strict else low >= 0):
                raise InputError(f"{name} must be {'> 0' if strict else '>= 0'}, got {low}")

    def wide(self, name: str, network: Network) -> Tensor:
        """The named level as `(M or 1, B or 1)` in the dtype and on the device of the network."""
        return widened(name, getattr(self, name), network)

    def unlimited(self) -> bool:
        """Whether some capacity is infinite."""
        return bool(torch.isinf(self.capacity).any()) if isinstance(self.capacity, Tensor) else self.capacity == float("inf")

    def batch(self) -> int:
        """The largest batch among the levels."""
        return max((v.shape[1] for v in vars(self).values() if isinstance(v, Tensor) and v.dim() == 2), default=1)


def widened(name: str, value: Level, network: Network) -> Tensor:
    """A number, `(M,)` or `(M, B)` as `(M or 1, B or 1)`. Raises: ShapeError."""
    like = network.output
    if not isinstance(value, Tensor):
        return torch.full((1, 1), float(value), dtype=like.dtype, device=like.device)
    if value.dim() == 0:
        return value.to(like).reshape(1, 1)
    if value.shape[0] not in (1, network.firms):
        raise ShapeError(f"{name} must be a number, (M,) or (M, B) with M = {network.firms}, got {tuple(value.shape)}")
    value = value.to(like)
    return value[:, None] if value.dim() == 1 else value
