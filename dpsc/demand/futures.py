"""Which futures: every random number has an address (seed, use, purpose, item, path, period), so that all policies meet the same futures.

A shard of items, paths or periods draws what the whole draws, to the bit; a rerun repeats it. What a policy is trained on, what it is chosen by and what is
reported about it are three different sets of futures of one seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import DtypeError, InputError

USES = ("optimise", "select", "report")
EVERYONE = 2**32 - 1  # the item number of what all items share


@dataclass(frozen=True, eq=False)
class Futures:
    """Addresses of T periods, S paths and N items.

    Args:
        seed: in [0, 2^64).
        use: "optimise" for training, "select" for choosing among what was trained, "report" for every number that is reported.
        items: N, or `(N,)` int64 item numbers.
        paths: S, or `(S,)` int64 path numbers.
        periods: T, or `(T,)` int64 period numbers.
        dtype: of what is drawn.
    Raises: InputError for an unknown use, an empty range or a number out of range.
    """

    seed: int
    use: str
    items: Any
    paths: Any
    periods: Any
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        checks.one_of("use", self.use, USES)
        for name in ("items", "paths", "periods"):
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                value = torch.arange(checks.at_least(name, value, 1))
            if value.dim() != 1 or value.dtype != torch.int64:
                raise DtypeError(f"{name} must be a number or a vector of int64, got dtype {value.dtype} and shape {tuple(value.shape)}")
            if not value.numel() or int(value.min()) < 0 or int(value.max()) >= EVERYONE:
                raise InputError(f"{name} must be numbers in [0, 2^32 - 1), at least one of them, got {value.tolist()[:4]}")
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, S, N)."""
        return len(self.periods), len(self.paths), len(self.items)

    def batch(self, number: int) -> Futures:
        """Fresh futures for step `number` of a training: the next S paths after those of the step before."""
        count = checks.at_least("number", number, 0) * (int(self.paths.max()) + 1 - int(self.paths.min()))
        return replace(self, paths=self.paths + count)

    def shard(self, *, items: slice = slice(None), paths: slice = slice(None)) -> Futures:
        """A part of the items or of the paths, which draws the same numbers as it does within the whole."""
        return replace(self, items=self.items[items], paths=self.paths[paths])

    def to(self, device: torch.device | str) -> Futures:
        """The same futures, drawn on another device."""
        return replace(self, items=self.items.to(device), paths=self.paths.to(device), periods=self.periods.to(device))

    def uniform(self, purpose: str, *, everyone: bool = False, constant: bool = False) -> Tensor:
        """`(T, S, N)` uniform numbers in (0, 1).

        Args:
            purpose: what they are for; different purposes are independent.
            everyone: one number for all items, `(T, S, 1)`.
            constant: one number for all periods, `(S, N)` or `(S, 1)`.
        """
        items = torch.full_like(self.items[:1], EVERYONE) if everyone else self.items
        name = f"{self.use}/{purpose}"
        if constant:
            return noise.uniform(self.seed, name, items, self.paths[:, None], torch.full_like(self.items[:1], EVERYONE), dtype=self.dtype)
        return noise.uniform(self.seed, name, items, self.paths[:, None], self.periods[:, None, None], dtype=self.dtype)

    def normal(self, purpose: str, *, everyone: bool = False, constant: bool = False) -> Tensor:
        """Standard normal numbers: the inverse distribution function of `uniform`, in float64 before it is cast."""
        exact = replace(self, dtype=torch.float64)
        return torch.special.ndtri(exact.uniform(purpose, everyone=everyone, constant=constant)).to(self.dtype)
