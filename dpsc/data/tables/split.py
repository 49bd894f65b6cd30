"""A table split into firms: as many firms in a sector as the user likes, with the sector totals of the table kept.

Every firm uses its sector's recipe, A_js units of sector j for a unit of output, bought from a few firms of sector j; the edges of one firm to one
sector sum to A_js. Summed over the firms of a sector, x = (I - A)^-1 f of the firms is then the table's x = (I - A)^-1 f, whoever buys from whom.

Letters: N sectors, M firms, E edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.data.tables.table import Table
from dpsc.errors import DataError, InputError


@dataclass(frozen=True)
class FirmNetwork:
    """Who supplies whom, firm by firm.

    Attributes:
        supplier: `(E,)` int64 firm that sells.
        buyer: `(E,)` int64 firm that buys; edges are sorted by it.
        coefficient: `(E,)` input of this supplier for one unit of the buyer's output.
        final_demand: `(M,)` in the unit of the table.
        output: `(M,)`.
        sector: `(M,)` int64 sector of a firm.
        sectors: N names.
    """

    supplier: Tensor
    buyer: Tensor
    coefficient: Tensor
    final_demand: Tensor
    output: Tensor
    sector: Tensor
    sectors: tuple[str, ...]

    def firm_names(self) -> list[str]:
        """`sector/1`, `sector/2` ..., or the sector's own name where it is one firm."""
        count, seen, named = torch.bincount(self.sector, minlength=len(self.sectors)).tolist(), [0] * len(self.sectors), []
        for s in self.sector.tolist():
            seen[s] += 1
            named.append(self.sectors[s] if count[s] == 1 else f"{self.sectors[s]}/{seen[s]}")
        return named


def split_into_firms(
    table: Table,
    firms: int | Mapping[str, int] = 1,
    *,
    suppliers: int = 3,
    spread: float = 1.0,
    smallest_coefficient: float = 0.0,
    seed: int = 0,
) -> FirmNetwork:
    """Split the sectors of a table into firms.

    The share of a firm in the final demand of its sector is lognormal, exp(`spread` e) with e ~ N(0, 1), scaled to sum to one. A firm buys from each
    sector that its recipe names from up to `suppliers` firms, drawn without repetition in proportion to their size, and spends among them like that.
    A firm buys from itself only where it is its whole sector. Then every firm that would sell to nobody gets a customer.

    Args:
        table: in balance.
        firms: of every sector, or by sector (1 where a sector is not named).
        suppliers: of one firm in one sector, at most.
        spread: of firm sizes; 0 makes them equal.
        smallest_coefficient: inputs of a sector up to this get no link: they never run short, and what they sell counts as final demand, so that outputs
            stay those of the table; 0 keeps all.
        seed: of the draws.
    Returns: the network; summed over firms, outputs, final demand and flows are those of the table to rounding (small inputs among final demand).
    Raises: InputError; DataError where a firm would produce nothing or less than nothing (negative final demand).
    Source: own construction; aggregation of firms with one recipe is exact (Miller & Blair, 2009, section 4.9).
    """
    checks.at_least("suppliers", suppliers, 1)
    if not 0 <= spread < float("inf"):
        raise InputError(f"spread must be a finite number >= 0, got {spread!r}")
    if not 0 <= smallest_coefficient < 1:
        raise InputError(f"smallest_coefficient must be in [0, 1), got {smallest_coefficient!r}")
    counts = _counts(table, firms)
    random = numpy.random.default_rng(seed)
    sector = numpy.repeat(numpy.arange(len(counts)), counts)
    first = numpy.concatenate([[0], numpy.cumsum(counts)])
    size = numpy.exp(spread * random.standard_normal(len(sector)))
    size /= numpy.bincount(sector, size)[sector]
    A = table.coefficients.numpy()
    inputs = [numpy.flatnonzero(A[:, s] > smallest_coefficient) for s in range(len(counts))]

    pairs: list[tuple[int, int]] = []
    for buyer, s in enumerate(sector.tolist()):
        for j in inputs[s].tolist():
            pool = numpy.arange(first[j], first[j + 1])
            if j == s and len(pool) > 1:
                pool = pool[pool != buyer]
            if len(pool) > suppliers:
                pool = random.choice(pool, suppliers, replace=False, p=size[pool] / size[pool].sum())
            pairs += [(firm, buyer) for firm in pool.tolist()]
    pairs += _customers(pairs, sector, inputs, first, random)
    edges = numpy.array(sorted(pairs, key=lambda pair: (pair[1], pair[0])), dtype=numpy.int64).reshape(-1, 2)
    supplier, buyer_of = edges[:, 0], edges[:, 1]
    purchase = buyer_of * len(counts) + sector[supplier]  # one purchase: a firm's input of one sector
    weight = size[supplier]
    coefficient = A[sector[supplier], sector[buyer_of]] * weight / numpy.bincount(purchase, weight, minlength=len(sector) * len(counts))[purchase]

    outside = numpy.where(smallest_coefficient < A, 0.0, A) @ table.output.numpy()  # what is sold without a link
    total = table.final_demand.sum(1).numpy() + outside
    final = size * total[sector]
    output = _output(supplier, buyer_of, coefficient, final)
    names = FirmNetwork(*(torch.empty(0),) * 5, torch.from_numpy(sector), table.sectors).firm_names()
    wrong = [f"{names[i]} {output[i]:.3g}" for i in numpy.flatnonzero(output <= 0)[: checks.LISTED]]
    if wrong:
        raise DataError(
            f"every firm must produce something, got {', '.join(wrong)} (final demand is zero or negative there): use fewer firms in these sectors, "
            "or a table read with negative_final_demand=zero"
        )
    return FirmNetwork(
        torch.from_numpy(supplier),
        torch.from_numpy(buyer_of),
        torch.from_numpy(coefficient),
        torch.from_numpy(final),
        torch.from_numpy(output),
        torch.from_numpy(sector),
        table.sectors,
    )


def links(table: Table, firms: int | Mapping[str, int] = 1, *, suppliers: int = 3, smallest_coefficient: float = 0.0, **_: object) -> int:
    """How many links `split_into_firms` draws from a table, but for those of firms that would else sell to nobody; without making any.

    Args:
        table: in balance.
        firms: see `split_into_firms`.
        suppliers: see there.
        smallest_coefficient: see there.
    Raises: InputError.
    """
    count = torch.tensor(_counts(table, firms))
    used = table.coefficients > smallest_coefficient
    drawn = count.clamp_max(checks.at_least("suppliers", suppliers, 1))[:, None].expand(used.shape).clone()
    alone = torch.where(count > 1, (count - 1).clamp_max(suppliers), count)  # a firm does not buy from itself where its sector has others
    drawn.diagonal().copy_(alone)
    return int((used * drawn * count).sum())


def _counts(table: Table, firms: int | Mapping[str, int]) -> list[int]:
    if isinstance(firms, Mapping):
        for name, count in firms.items():
            checks.one_of("sector of firms", name, table.sectors)
            checks.at_least(f"firms of {name}", count, 1)
        return [firms.get(name, 1) for name in table.sectors]
    return [checks.at_least("firms", firms, 1)] * len(table.sectors)


def _customers(
    pairs: Sequence[tuple[int, int]], sector: numpy.ndarray, inputs: Sequence[numpy.ndarray], first: numpy.ndarray, random: numpy.random.Generator
) -> list[tuple[int, int]]:
    """One customer, drawn at random, for every firm that nobody drew although somebody uses what its sector makes."""
    served = {firm for firm, _ in pairs}
    more = []
    for firm, j in enumerate(sector.tolist()):
        if firm in served:
            continue
        users = [s for s in range(len(inputs)) if j in inputs[s]]
        pool = numpy.concatenate([numpy.arange(first[s], first[s + 1]) for s in users]) if users else numpy.empty(0, dtype=int)
        pool = pool[pool != firm]
        if len(pool):
            more.append((firm, int(random.choice(pool))))
    return more


def _output(supplier: numpy.ndarray, buyer: numpy.ndarray, coefficient: numpy.ndarray, final: numpy.ndarray) -> numpy.ndarray:
    """x = f + A x by a sparse factorisation, refined once."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import splu

    system = (identity(len(final), format="csc") - csc_matrix((coefficient, (supplier, buyer)), shape=(len(final),) * 2)).tocsc()
    solved = splu(system)
    x = solved.solve(final)
    refined: numpy.ndarray = x + solved.solve(final - system @ x)
    return refined
