"""Who supplies whom: points that hold stock, and edges that carry units to them.

A point is an item at a place. An edge delivers to one point; it draws on no point (a supplier outside, who never runs out), on one (transport), or on several,
each with a number of units a unit delivered (a bill of materials). Single items, lines, trees, assembly and general networks are all of this form.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.simulate.layout import scatter


class Edge(NamedTuple):
    """A way for units to reach a point.

    Attributes:
        to: the point that it delivers to.
        draws: point -> units of it that one delivered unit uses; empty for a supplier outside of the network.
        lateral: whether it joins siblings (transshipment); lateral edges may run in circles, the others may not.
    """

    to: int
    draws: Mapping[int, float] = {}
    lateral: bool = False


@dataclass(frozen=True)
class Network:
    """N points and E edges.

    Args:
        points: N >= 1.
        edges: in the order in which orders, lead times and pipelines list them.
        names: of the points, for messages; their numbers by default.
    Raises: InputError for points that do not exist, a multiplicity that is not above zero, and a cycle, which is named.
    """

    points: int
    edges: Sequence[Edge]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        checks.at_least("points", self.points, 1)
        object.__setattr__(self, "edges", tuple(Edge(e.to, dict(e.draws), e.lateral) for e in self.edges))
        object.__setattr__(self, "names", tuple(self.names) or tuple(map(str, range(self.points))))
        if len(self.names) != self.points:
            raise InputError(f"names must name the {self.points} points, got {len(self.names)}")
        for k, edge in enumerate(self.edges):
            for point in (edge.to, *edge.draws):
                if isinstance(point, bool) or not isinstance(point, int) or not 0 <= point < self.points:
                    raise InputError(f"edge {k} joins points in 0 ... {self.points - 1}, got {point!r}")
            for point, units in edge.draws.items():
                if not 0 < units < float("inf"):
                    raise InputError(
                        f"edge {k} uses {units!r} units of point {self.names[point]} for a unit of point {self.names[edge.to]}: the multiplicity must be > 0"
                    )
                if point == edge.to:
                    raise InputError(f"edge {k} draws on the point that it delivers to, {self.names[point]}")
        _ = self.upstream_first  # refuses a cycle

    # ------------------------------------------------------------------------------------------------------------ shapes

    @classmethod
    def items(cls, count: int) -> Network:
        """N items that have nothing to do with each other, each with a supplier of its own."""
        return cls(count, [Edge(i) for i in range(checks.at_least("count", count, 1))])

    @classmethod
    def serial(cls, stages: int) -> Network:
        """Stage 0 meets the customer, each stage is supplied by the next, the last one from outside."""
        return cls(stages, [Edge(i, {i + 1: 1} if i + 1 < stages else {}) for i in range(checks.at_least("stages", stages, 1))])

    @classmethod
    def distribution(cls, stores: int) -> Network:
        """Points 0 ... stores - 1 are supplied by one warehouse, the last point."""
        return cls.tree([stores] * checks.at_least("stores", stores, 1) + [-1])

    @classmethod
    def tree(cls, supplier: Sequence[int]) -> Network:
        """Every point has one supplier: the number of another point, or -1 for a supplier outside."""
        return cls(len(supplier), [Edge(i, {} if above == -1 else {above: 1}) for i, above in enumerate(supplier)])

    @classmethod
    def assembly(cls, bill: Tensor | Sequence[Sequence[float]]) -> Network:
        """A bill of materials, any number of levels and products, components shared or not.

        Args:
            bill: `(N, N)`, entry [i, j] the units of i that one unit of j is made of, 0 for none. What is made of nothing is bought outside.
        """
        table = torch.as_tensor(bill, dtype=torch.float64)
        if table.dim() != 2 or table.shape[0] != table.shape[1]:
            raise ShapeError(f"bill must have shape (N, N), got {tuple(table.shape)}")
        if not bool((table >= 0).all()):
            i, j = (~(table >= 0)).nonzero()[0].tolist()
            raise InputError(f"bill must be >= 0, got {table[i, j].item()} units of point {i} in a unit of point {j}")
        return cls(len(table), [Edge(j, {int(i): float(table[i, j]) for i in table[:, j].nonzero()[:, 0]}) for j in range(len(table))])

    # ----------------------------------------------------------------------------------------------------------- indices

    @functools.cached_property
    def into(self) -> tuple[int, ...]:
        """`(E,)` the point that each edge delivers to."""
        return tuple(edge.to for edge in self.edges)

    @functools.cached_property
    def single(self) -> bool:
        """Whether edge j leads to point j: every point has exactly one supplier, E = N."""
        return self.into == tuple(range(self.points))

    @functools.cached_property
    def sources(self) -> tuple[int, ...]:
        """`(I,)` the points that edges draw on, in ascending order."""
        return tuple(sorted({point for edge in self.edges for point in edge.draws}))

    @functools.cached_property
    def customers(self) -> tuple[tuple[int, ...], ...]:
        """`(I, K)` the edges that draw on each source, filled up with E."""
        rows = [[k for k, edge in enumerate(self.edges) if point in edge.draws] for point in self.sources]
        longest = max(map(len, rows), default=0)
        return tuple(tuple(row + [len(self.edges)] * (longest - len(row))) for row in rows)

    @functools.cached_property
    def multiplicity(self) -> tuple[tuple[float, ...], ...]:
        """`(I, K)` units that a unit of each of `customers` uses; 1 where there is none."""
        return tuple(
            tuple(float(self.edges[k].draws[point]) if k < len(self.edges) else 1.0 for k in row)
            for point, row in zip(self.sources, self.customers, strict=True)
        )

    @functools.cached_property
    def plain(self) -> bool:
        """Whether no edge draws on more than one point, nor takes more or less than a unit for a unit."""
        return all(len(edge.draws) <= 1 and all(units == 1 for units in edge.draws.values()) for edge in self.edges)

    @functools.cached_property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """`(E, M)` where each edge stands in the flattened `customers` table, filled up with its last place; I K + its number for an edge from outside."""
        places: list[list[int]] = [[] for _ in self.edges]
        width = len(self.customers[0]) if self.customers else 0
        for i, row in enumerate(self.customers):
            for j, k in enumerate(row):
                if k < len(self.edges):
                    places[k].append(i * width + j)
        outside = len(self.sources) * width
        filled = [row or [outside + k] for k, row in enumerate(places)]
        longest = max(map(len, filled), default=1)
        return tuple(tuple(row + row[-1:] * (longest - len(row))) for row in filled)

    # ---------------------------------------------------------------------------------------------------------- positions

    def delivered(self, units: Tensor) -> Tensor:
        """`(..., S, E)` units on edges -> `(..., S, N)` units at the points they lead to."""
        return units if self.single else scatter(units, self.into, self.points)

    def echelon(self, local: Tensor) -> Tensor:
        """Units held by every point and by all below it: what a point must cover.

        With a bill of materials, a unit below counts as often as it contains the point's item. A unit of a point with several suppliers counts for each.
        Lateral edges move units between siblings and do not count.

        Args:
            local: `(..., S, N)` units, inventory positions for example.
        Returns: `(..., S, N)` units.
        """
        key = (local.dtype, local.device)
        if key not in self._contents:
            self._contents[key] = self.content.to(dtype=local.dtype, device=local.device)
        content = self._contents[key]
        if local.dim() > 1 and local.stride(-1) > local.stride(-2) > 0:  # paths innermost, the fast layout where points are few: leave it so
            return (content.mT @ local.mT).mT
        return local @ content

    @functools.cached_property
    def _contents(self) -> dict[Any, Tensor]:
        return {}

    @functools.cached_property
    def content(self) -> Tensor:
        """`(N, N)` float64: [j, i] is the units of i that a unit of j is or contains."""
        content = torch.eye(self.points, dtype=torch.float64)
        for j in self.upstream_first:
            for edge in self.edges:
                if edge.to == j and edge.draws and not edge.lateral:
                    within = torch.stack([units * content[i] for i, units in edge.draws.items()]).sum(0)
                    content[j] = torch.maximum(content[j], within)
        return content

    @functools.cached_property
    def upstream_first(self) -> tuple[int, ...]:
        """The points in an order in which what a point draws on comes before it."""
        above: list[list[int]] = [[] for _ in range(self.points)]
        for edge in self.edges:
            if not edge.lateral:
                above[edge.to].extend(edge.draws)
        done: dict[int, None] = {}
        for root in range(self.points):
            path, open_ = [root], [iter(above[root])]
            if root in done:
                continue
            while path:
                point = next((i for i in open_[-1] if i not in done), None)
                if point is None:
                    done[path.pop()] = None
                    open_.pop()
                elif point in path:
                    circle = [*path[path.index(point) :], point]
                    raise InputError(
                        f"the network must not be cyclic, got {' <- '.join(self.names[i] for i in circle)} (<-: is supplied by); "
                        "edges that exchange stock between siblings are marked lateral"
                    )
                else:
                    path.append(point)
                    open_.append(iter(above[point]))
        return tuple(done)
