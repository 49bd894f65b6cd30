"""Demand for millions of items: the inverse distribution function in a table, read at the address of every draw.

Drawing costs a counter-based block for every two periods of an item and path (eight numbers of 16 bits) and one look into the table; everything is
elementwise, so that a compiler fuses it, and a shard of items or paths draws what the whole draws, to the bit.
"""

from __future__ import annotations

import math
import zlib
from typing import NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.noise import philox

STEPS = 1024  # of the uniform number: the highest quantile in the table is 1 - 1 / 2048


class Table(NamedTuple):
    """Quantiles of negative binomial laws.

    Attributes:
        quantile: `(D, M, STEPS)` int16, units: at row d, mean (m / per_root)^2 and probability (j + 1/2) / STEPS.
        dispersion: `(D,)` ratio of variance to mean of the rows, > 1.
        per_root: means stand at equal distances of their roots, so many in a unit of the root.
    """

    quantile: Tensor
    dispersion: Tensor
    per_root: float

    def row(self, dispersion: Tensor) -> Tensor:
        """`(N,)` int64: the nearest row of every item's ratio of variance to mean."""
        return (dispersion[:, None] - self.dispersion.to(dispersion)).abs().argmin(-1)

    def look_up(self, mean: Tensor, row: Tensor, word: Tensor) -> Tensor:
        """Units of demand.

        Args:
            mean: `(..., N)` of the law, units; rounded to the table's nearest, and cut at its largest.
            row: `(N,)` of `row`.
            word: `(..., N)` random 16 bits.
        Returns: `(..., N)` whole numbers, in the dtype of the mean.
        Gradient: none.
        """
        means = self.quantile.shape[1]
        place = (mean.sqrt() * self.per_root + 0.5).to(torch.int64).clamp_max(means - 1)
        return self.quantile.view(-1)[(row * means + place) * STEPS + (word >> 6)].to(mean.dtype)


def negative_binomial_table(dispersion: Tensor, *, largest_mean: float, per_root: float = 32.0) -> Table:
    """Tabulate gamma-mixed Poisson demand.

    Args:
        dispersion: `(D,)` ratios of variance to mean, > 1.
        largest_mean: units.
        per_root: resolution, see `Table`; at 32 two neighbouring means around 10 differ by 2 %.
    Raises: InputError for a dispersion of 1 or less, or a demand beyond 32767.
    """
    checks.floating("dispersion", dispersion)
    if not bool((dispersion > 1).all()):
        raise InputError(f"dispersion must be > 1 (variance above the mean), got {float(dispersion.min()):g}")
    checks.positive("largest_mean", largest_mean)
    means = math.ceil(math.sqrt(largest_mean) * per_root) + 2
    mean = (torch.arange(means, dtype=torch.float64) / per_root).square().clamp_min(1e-12)[:, None]
    chance = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
    widest = float(dispersion.max())
    most = math.ceil(largest_mean + 6 * math.sqrt(largest_mean * widest) + 12 * widest)
    if most > 32767:
        raise InputError(f"largest_mean must leave demand below 32768 units, got {largest_mean:g} with demand up to {most}")
    units = torch.arange(most + 1, dtype=torch.float64)
    rows = []
    for d in dispersion.double().tolist():
        size = mean / (d - 1)
        log_mass = torch.lgamma(units + size) - torch.lgamma(size) - torch.lgamma(units + 1) - size * math.log(d) + units * math.log1p(-1 / d)
        rows.append(torch.searchsorted(log_mass.exp().cumsum(-1), chance.expand(means, STEPS).contiguous()).clamp_max(most).to(torch.int16))
    return Table(torch.stack(rows), dispersion.double(), per_root)


def stream(seed: int, purpose: str) -> Tensor:
    """`(3,)` int64: the two words of the seed and the number of the purpose, as tensors, so that a compiled program serves all seeds and purposes."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise InputError(f"seed must be an integer in [0, 2^64), got {seed!r}")
    return torch.tensor([seed & 0xFFFFFFFF, seed >> 32, zlib.crc32(purpose.encode())])


def words(of: Tensor, item: Tensor, path: Tensor, slots: int) -> tuple[Tensor, ...]:
    """Eight random numbers of 16 bits an address.

    Args:
        of: `(3,)` a `stream`; different purposes are independent.
        item: `(N,)` int64 item numbers.
        path: `(S,)` int64 path numbers.
        slots: how many addresses an item and path has.
    Returns: eight `(slots, S, N)` int64 tensors of numbers in [0, 65536).
    """
    shape = (slots, len(path), len(item))
    slot = torch.arange(slots, device=item.device)[:, None, None].expand(shape)
    found = philox((item.expand(shape), path[:, None].expand(shape), slot, of[2].expand(shape)), (of[0], of[1]))
    return tuple(half for word in found for half in (word >> 16, word & 0xFFFF))


def level(of: Tensor, item: Tensor, path: Tensor, *, mean: float, deviation: float, dtype: torch.dtype) -> Tensor:
    """`(S, N)` log-normal factors, one an item and path: exp N(mean, deviation)."""
    first = words(of, item, path, 1)
    u = (((first[0] << 7) + (first[1] >> 9)).to(torch.float64)[0] + 0.5) * 2.0**-23
    return torch.exp(mean + deviation * math.sqrt(2) * torch.erfinv(2 * u - 1)).to(dtype)
