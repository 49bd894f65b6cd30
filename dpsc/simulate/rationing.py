"""Who gets what when a point is asked for more than it holds. What cannot be shipped is not owed: it is asked for again, or not.

A ration is a function `(stock (..., S, I), wanted (..., S, I, K), *, edges, relax, whole) -> (..., S, I, K)`: what each of the K edges that draw on each of
the I points is given, in units of that point, between 0 and what it wants, adding up to no more than the stock. `edges` `(I, K)` are the numbers of the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from dpsc.relax import Kernel, water_fill
from dpsc.relax.operations import Soft
from dpsc.simulate.indivisible import whole_units
from dpsc.simulate.layout import constant, gather, joined, scatter
from dpsc.simulate.network import Network
from dpsc.types import Relaxation

Table = tuple[tuple[int, ...], ...]


class Ration(Protocol):
    """See the module."""

    def __call__(self, stock: Tensor, wanted: Tensor, *, edges: Table, relax: Relaxation, whole: bool) -> Tensor:
        """`(..., S, I)`, `(..., S, I, K)` -> `(..., S, I, K)` units."""
        ...


def _share(stock: Tensor, wanted: Tensor) -> Tensor:
    """The part of its wishes that each point can meet, `(..., S, I, 1)`: min(1, stock / total), 1 to the bit where there is enough."""
    total = wanted.sum(-1, keepdim=True)
    return stock[..., None] / torch.maximum(total, stock[..., None]).clamp_min(1e-30)


@dataclass(frozen=True, eq=False)
class _WholeShares(Soft):
    """Shares of a stock, rounded so that they add up; the soft value is the share itself, so that no unit is shipped that is not there."""

    name: ClassVar[str] = "proportional rationing in whole units"
    elementwise: ClassVar[bool] = False

    def hard(self, stock: Tensor, wanted: Tensor) -> Tensor:
        """floor of the running total of the shares, less the one before; the last one ends at min(total, stock)."""
        running = wanted.cumsum(-1)
        total, stock = running[..., -1:], stock[..., None]
        share = torch.floor(running * stock / torch.maximum(total, stock).clamp_min(1e-30))
        most = torch.minimum(total, stock)
        share = torch.where(running >= total, most, torch.minimum(share, most))
        return share.diff(dim=-1, prepend=torch.zeros_like(total))

    def soft(self, kernel: Kernel, stock: Tensor, wanted: Tensor) -> Tensor:
        """wanted min(1, stock / total)."""
        return wanted * _share(stock, wanted)


def proportional(stock: Tensor, wanted: Tensor, *, edges: Table, relax: Relaxation, whole: bool) -> Tensor:
    """Everyone gets the same share of what he wants, min(1, stock / total wanted).

    Whole units: the running total of the shares is rounded down, so that each is within one unit of its share and the stock is handed out to the last unit.

    Gradient: exact; in whole units, that of the shares, or none when read exactly (raises).
    """
    if wanted.shape[-1] == 1:  # who is alone takes what there is
        return torch.minimum(wanted, stock[..., None])
    if whole:
        return relax.read(_WholeShares(), stock, wanted)
    return wanted * _share(stock, wanted)


@dataclass(frozen=True, eq=False)
class ByPriority:
    """The edges of higher priority are served first, to the full, as far as the stock goes.

    Args:
        priority: `(E,)` higher is served first, equal ones in the order of the edges; may be trained.
        scale: what temperature 1 means, in units of priority.
    Gradient: `relax` reads the order of service; see `dpsc.relax.water_fill`.
    """

    priority: Tensor
    scale: float = 1.0

    def __call__(self, stock: Tensor, wanted: Tensor, *, edges: Table, relax: Relaxation, whole: bool) -> Tensor:
        """See the module."""
        flat = tuple(min(k, len(self.priority) - 1) for row in edges for k in row)  # who is missing wants nothing, whatever its priority
        priority = gather(self.priority, flat).reshape(len(edges), -1)
        return water_fill(stock, wanted.clamp_min(0), priority, relax=relax, scale=self.scale)


def ship(stock: Tensor, wanted: Tensor, *, network: Network, ration: Ration, relax: Relaxation, whole: bool) -> tuple[Tensor, Tensor]:
    """Ship what is wanted as far as the stock goes.

    An assembly is cut to its scarcest component; what other components had set aside for it stays where it is.

    Args:
        stock: `(..., S, N)` units.
        wanted: `(..., S, E)` units of what the edge delivers.
        network: who supplies whom.
        ration: who gets what.
        relax: the reading.
        whole: whether units are indivisible.
    Returns: `(..., S, E)` shipped and `(..., S, N)` drawn from every point, never more than it holds.
    """
    if not network.sources:
        return wanted, torch.zeros_like(stock)
    flat = tuple(k for row in network.customers for k in row)
    shape = (len(network.customers), len(network.customers[0]))
    padded = torch.cat([wanted, torch.zeros_like(wanted[..., :1])], -1) if len(network.edges) in flat else wanted
    units = None if network.plain else constant(tuple(u for row in network.multiplicity for u in row), (wanted.dtype, wanted.device))

    def table(x: Tensor) -> Tensor:
        x = gather(x, flat)
        return (x if units is None else x * units).unflatten(-1, shape)

    asked = table(padded)
    held = gather(stock, network.sources).clamp_min(0)  # a smoothed program may be short of nothing
    given = ration(held, asked, edges=network.customers, relax=relax, whole=whole).flatten(-2)
    if units is not None:
        given = given / units
    shipped: Tensor | None = None
    for place in zip(*network.inputs, strict=True):
        part = joined(given, wanted, place)
        shipped = part if shipped is None else torch.minimum(shipped, part)
    assert shipped is not None
    if units is None:  # every edge has one input: what is given is what is drawn
        drawn = given if shape[1] == 1 else given.unflatten(-1, shape).sum(-1)
    else:
        if whole:
            shipped = whole_units(shipped, 0.0, relax=relax)
        drawn = table(torch.cat([shipped, torch.zeros_like(shipped[..., :1])], -1) if padded is not wanted else shipped).sum(-1)
    if shape[1] > 1 or units is not None:
        drawn = torch.minimum(drawn, held)  # shares may add up to a rounding error more than there is
    return shipped, scatter(drawn, network.sources, network.points)
