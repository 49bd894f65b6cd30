"""Priors in unit-normal coordinates: every method of this room works on standard normal numbers, and these laws say what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpsc import checks
from dpsc.calibrate.simulator import columns
from dpsc.errors import InputError, ShapeError


class Marginal(Protocol):
    """The law of one parameter as an increasing function of a standard normal number."""

    def value(self, u: Tensor) -> Tensor:
        """The parameter at coordinate u."""
        ...

    def coordinate(self, value: Tensor) -> Tensor:
        """The coordinate of a parameter: the inverse of `value`."""
        ...


@dataclass(frozen=True)
class Normal:
    """N(location, scale^2)."""

    location: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("scale", self.scale)

    def value(self, u: Tensor) -> Tensor:
        """location + scale u."""
        return self.location + self.scale * u

    def coordinate(self, value: Tensor) -> Tensor:
        """(value - location) / scale."""
        return (value - self.location) / self.scale


@dataclass(frozen=True)
class LogNormal:
    """A positive number with median `median`, whose logarithm has standard deviation `spread`."""

    median: float = 1.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        checks.positive("median", self.median)
        checks.positive("spread", self.spread)

    def value(self, u: Tensor) -> Tensor:
        """exp(log median + spread u)."""
        return torch.exp(math.log(self.median) + self.spread * u)

    def coordinate(self, value: Tensor) -> Tensor:
        """(log value - log median) / spread; raises InputError below or at zero."""
        if bool((value <= 0).any()):
            raise InputError(f"a log-normal parameter must be > 0, got {float(value.min())}")
        return (value.log() - math.log(self.median)) / self.spread


@dataclass(frozen=True)
class Uniform:
    """Any number between `low` and `high`, all alike."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"low must be below high, got low {self.low} and high {self.high}")

    def value(self, u: Tensor) -> Tensor:
        """low + (high - low) Phi(u)."""
        return self.low + (self.high - self.low) * torch.special.ndtr(u)

    def coordinate(self, value: Tensor) -> Tensor:
        """Phi^-1 of the share of the way from low to high; raises InputError outside (low, high)."""
        share = (value - self.low) / (self.high - self.low)
        if bool(((share <= 0) | (share >= 1)).any()):
            raise InputError(f"a uniform parameter must lie in ({self.low}, {self.high}), got [{float(value.min())}, {float(value.max())}]")
        return torch.special.ndtri(share)


@dataclass(frozen=True)
class Prior:
    """Independent parameters in named blocks, laid out one block after the other.

    Args:
        blocks: name -> (how many, their law). With two blocks of M, the coordinates of firm i are rows i and M + i.
    """

    blocks: Mapping[str, tuple[int, Marginal]]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InputError("blocks must hold at least one block of parameters, got none")
        for name, (size, _) in self.blocks.items():
            checks.at_least(f"size of block {name!r}", size, 1)

    @property
    def dimension(self) -> int:
        """D, the number of coordinates."""
        return sum(size for size, _ in self.blocks.values())

    def rows(self, name: str) -> slice:
        """The rows of one block. Raises: InputError (lists the near names)."""
        checks.one_of("block", name, self.blocks)
        begin = 0
        for other, (size, _) in self.blocks.items():
            if other == name:
                return slice(begin, begin + size)
            begin += size
        raise AssertionError("unreachable: the name was checked")

    def values(self, coordinates: Tensor) -> dict[str, Tensor]:
        """Parameters by name, `(size, B)` each, from coordinates `(D, B)`."""
        columns("coordinates", coordinates, self.dimension)
        return {name: marginal.value(coordinates[self.rows(name)]) for name, (_, marginal) in self.blocks.items()}

    def coordinates(self, values: Mapping[str, Tensor]) -> Tensor:
        """Coordinates `(D, B)` from parameters by name, `(size,)` or `(size, B)` each. Raises: ShapeError."""
        checks.exact_names("the prior", values, self.blocks)
        parts = []
        for name, (size, marginal) in self.blocks.items():
            value = checks.floating(name, values[name])
            value = value[:, None] if value.dim() == 1 else value
            if value.dim() != 2 or value.shape[0] != size:
                raise ShapeError(f"{name} must have shape ({size},) or ({size}, B), got {tuple(values[name].shape)}")
            parts.append(marginal.coordinate(value))
        width = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(-1, width) for part in parts])


class Hierarchy:
    """Firms of a group share part of their coordinate: the cheap cure where the data cannot tell one firm from the next.

    u_i = sqrt(share) g_(group of i) + sqrt(1 - share) e_i with g and e standard normal: every firm keeps its prior law, two firms of a group have
    correlation `share`. With share 1 the groups are all there is (fully tied), with share 0 they are left out.

    Args:
        prior: of the firms.
        groups: block name -> `(size,)` integer label of each parameter; blocks not named stay independent.
        share: in [0, 1].
    Shapes: latent `(L, B)` -> coordinates `(D, B)`; L = `dimension`, the groups of a block before its own coordinates.
    """

    def __init__(self, prior: Prior, groups: Mapping[str, Tensor], *, share: float) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"share must lie in [0, 1], got {share!r}")
        self.prior, self.share = prior, share
        self._labels: dict[str, Tensor] = {}
        for name, labels in groups.items():
            checks.one_of("block", name, prior.blocks)
            size = prior.blocks[name][0]
            if labels.shape != (size,) or labels.is_floating_point():
                raise ShapeError(f"groups[{name!r}] must hold one integer label for each of the {size} parameters, got {labels.dtype} {tuple(labels.shape)}")
            self._labels[name] = torch.unique(labels, return_inverse=True)[1]
        self._sizes = {name: (self._groups(name), self._own(name)) for name in prior.blocks}
        self.dimension = sum(a + b for a, b in self._sizes.values())

    def _groups(self, name: str) -> int:
        return int(self._labels[name].max()) + 1 if name in self._labels and self.share > 0 else 0

    def _own(self, name: str) -> int:
        return 0 if name in self._labels and self.share == 1 else self.prior.blocks[name][0]

    def __call__(self, latent: Tensor) -> Tensor:
        """`(L, B)` -> `(D, B)`."""
        columns("latent", latent, self.dimension)
        parts, begin = [], 0
        for name, (groups, own) in self._sizes.items():
            shared, alone = latent[begin : begin + groups], latent[begin + groups : begin + groups + own]
            begin += groups + own
            if not groups:
                parts.append(alone)
                continue
            mixed = math.sqrt(self.share) * shared[self._labels[name].to(latent.device)]
            parts.append(mixed + math.sqrt(1 - self.share) * alone if own else mixed)
        return torch.cat(parts)
