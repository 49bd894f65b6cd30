"""Who gets how much when a firm makes less than it is asked for. Deliveries of a firm always add up to its output.

A rationing is a function `(network, order, final_demand, output, demand, *, relax) -> Rationed`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dpsc import checks, noise
from dpsc.errors import InputError, ShapeError
from dpsc.relax import water_fill
from dpsc.simulate.firms.network import Network
from dpsc.types import Relaxation


class Rationed(NamedTuple):
    """`(E, B)` units delivered over each edge, `(M, B)` units delivered to final demand."""

    delivered: Tensor
    final: Tensor


class Rationing(Protocol):
    """The signature of a rationing."""

    def __call__(self, network: Network, order: Tensor, final_demand: Tensor, output: Tensor, demand: Tensor, *, relax: Relaxation) -> Rationed:
        """Deliveries, between 0 and what was asked for.

        Args:
            network: who supplies whom.
            order: `(E, B)` units ordered over each edge.
            final_demand: `(M, B)` units that final demand asks each firm for.
            output: `(M, B)` units there are to hand out, at most `demand`.
            demand: `(M, B)` units asked for in all, the orders of a supplier added up and its final demand.
            relax: how jumps and minima are read, where there are any.
        Returns: deliveries of a firm, over its edges and to final demand, add up to its output.
        """
        ...


def fill_rate(output: Tensor, demand: Tensor) -> Tensor:
    """x / D, and 0 where nothing is asked for."""
    asked = demand > 0
    return torch.where(asked, output / torch.where(asked, demand, torch.ones_like(demand)), torch.zeros_like(output))


def proportional(network: Network, order: Tensor, final_demand: Tensor, output: Tensor, demand: Tensor, *, relax: Relaxation) -> Rationed:
    """Everyone gets the share x / D of what he asked for. Arguments as in `Rationing`; the gradient is exact."""
    rate = fill_rate(output, demand)
    return Rationed(rate[network.supplier] * order, rate * final_demand)


def firms_first(network: Network, order: Tensor, final_demand: Tensor, output: Tensor, demand: Tensor, *, relax: Relaxation) -> Rationed:
    """Firms before final demand; among firms in proportion. Arguments as in `Rationing`.

    Gradient: exact sub-gradient of min(output, orders of firms).
    Source: the mixed rule of Pichler et al. (2022), doi:10.1016/j.jedc.2022.104527, and of Inoue & Todo (2019), doi:10.1038/s41893-019-0351-x.
    """
    asked = (demand - final_demand).clamp_min(0)
    to_firms = torch.minimum(output, asked)
    return Rationed(fill_rate(to_firms, asked)[network.supplier] * order, output - to_firms)


class Priority:
    """Orders are served one after the other, as water fills a vessel; final demand is one of them.

    Args:
        priority: `(E,)` or `(E, B)`, higher is served first; learnable through `relax`.
        final_priority: number, `(M,)` or `(M, B)`.
        scale: what temperature 1 means, in units of priority.
    Gradient: of `dpsc.relax.water_fill`: refused in the priorities when exact, soft otherwise. In the quantities it is exact under both.
    """

    def __init__(self, priority: Tensor, *, final_priority: float | Tensor = -1.0, scale: float = 1.0) -> None:
        self.priority, self.final_priority, self.scale = checks.floating("priority", priority), final_priority, scale

    def __call__(self, network: Network, order: Tensor, final_demand: Tensor, output: Tensor, demand: Tensor, *, relax: Relaxation) -> Rationed:
        """Deliveries."""
        from dpsc.simulate.firms.parameters import widened

        if self.priority.shape[0] != network.edges:
            raise ShapeError(f"priority must have shape (E,) or (E, B) with E = {network.edges}, got {tuple(self.priority.shape)}")
        rank = self.priority.to(order)
        rank = (rank[:, None] if rank.dim() == 1 else rank).expand_as(order)
        last = widened("final_priority", self.final_priority, network).expand(network.firms, order.shape[1])
        served, left, edges, sellers = [], [], [], []
        for group in _groups(network):
            asked, ranks = (torch.cat([group.table(v), w[group.firm][..., None]], -1) for v, w in ((order, final_demand.expand_as(output)), (rank, last)))
            given = water_fill(output[group.firm].clamp_min(0), asked, ranks, relax=relax, scale=self.scale)
            served.append(given[..., : group.width].movedim(1, 2).reshape(-1, order.shape[1])[group.cell])
            left.append(given[..., group.width])
            edges.append(group.edge)
            sellers.append(group.firm)
        return Rationed(torch.cat(served)[torch.cat(edges).argsort()], torch.cat(left)[torch.cat(sellers).argsort()])


def random_priority(network: Network, *, seed: int, batch: int = 1, final_priority: float = -1.0, scale: float = 1.0) -> Priority:
    """Orders in a random sequence, drawn once an edge and column from counter-based numbers; common random numbers make runs comparable.

    Args:
        network: who supplies whom.
        seed: of the sequence; a column of a seed is the same in every batch.
        batch: columns, a sequence each.
        final_priority: of final demand; the orders of firms have priorities in (0, 1).
        scale: see `Priority`.
    Raises: InputError.
    """
    if batch < 1:
        raise InputError(f"batch must be >= 1, got {batch}")
    edge, column = torch.arange(network.edges)[:, None], torch.arange(batch)
    drawn = noise.uniform(seed, "rationing priority", edge, column)
    return Priority(drawn.to(network.coefficient), final_priority=final_priority, scale=scale)


def mixed(share: float, first: Rationing, second: Rationing) -> Rationing:
    """A share of the output is handed out by one rule and the rest by another, to what is still asked for.

    Args:
        share: in [0, 1], of the output that the first rule hands out.
        first: a rationing.
        second: a rationing.
    Raises: InputError.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must lie in [0, 1], got {share}")

    def ration(network: Network, order: Tensor, final_demand: Tensor, output: Tensor, demand: Tensor, *, relax: Relaxation) -> Rationed:
        a = first(network, order, final_demand, share * output, demand, relax=relax)
        open_order, open_final = (order - a.delivered).clamp_min(0), (final_demand - a.final).clamp_min(0)
        b = second(network, open_order, open_final, output - share * output, network.demanded(open_order) + open_final, relax=relax)
        return Rationed(a.delivered + b.delivered, a.final + b.final)

    return ration


class Group(NamedTuple):
    """Suppliers with about as many customers, so that a table of them, a row a supplier, has few empty cells.

    Attributes:
        firm: `(F,)` the suppliers.
        width: customers of the one that has most.
        edge: `(n,)` their edges.
        cell: `(n,)` place of each edge in the table `(F, width)`.
    """

    firm: Tensor
    width: int
    edge: Tensor
    cell: Tensor

    def table(self, value: Tensor) -> Tensor:
        """`(E, B)` -> `(F, B, width)`, zeros in the empty cells."""
        flat = value.new_zeros(len(self.firm) * self.width, value.shape[1]).index_copy(0, self.cell, value[self.edge])
        return flat.reshape(len(self.firm), self.width, value.shape[1]).movedim(1, 2)


_KNOWN: WeakKeyDictionary[Network, list[Group]] = WeakKeyDictionary()  # a network never changes, and a run asks in every step


def _groups(network: Network) -> list[Group]:
    """All suppliers by powers of two of their numbers of customers: at most twice as many cells as edges in all, however uneven the network."""
    if network not in _KNOWN:
        lengths = torch.diff(network.supplier_pointer)
        slot = torch.empty(network.edges, dtype=torch.int64, device=network.supplier.device)
        slot[network.by_supplier] = torch.arange(network.edges, device=slot.device) - network.supplier_pointer[:-1].repeat_interleave(lengths)
        size = torch.where(lengths > 0, lengths.clamp_min(1).double().log2().ceil().long(), torch.full_like(lengths, -1))
        found, supplier = [], network.supplier.long()
        for power in size.unique().tolist():
            firm = (size == power).nonzero()[:, 0]
            width, row = int(lengths[firm].max()), torch.zeros_like(lengths)
            row[firm] = torch.arange(len(firm), device=row.device)
            edge = (size[supplier] == power).nonzero()[:, 0]
            found.append(Group(firm, width, edge, row[supplier[edge]] * width + slot[edge]))
        _KNOWN[network] = found
    return _KNOWN[network]
