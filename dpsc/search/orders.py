"""HiGHS as the referee of coupled orders: the whole problem as one mixed-integer linear program, none of our prices in it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from dpsc import checks


@dataclass(frozen=True)
class Referee:
    """What the referee found: `decision` `(N,)` (None if nothing in time), its `value`, its own lower `bound`, and how long it took."""

    decision: Tensor | None
    containers: int
    value: float
    bound: float
    wall_s: float


def orders_by_milp(
    *,
    cost: Tensor,
    minimum_order: Tensor,
    price: Tensor,
    budget: float,
    volume: Tensor,
    container_volume: float,
    container_cost: float,
    smallest_fill: float,
    seconds: float = 30.0,
) -> Referee:
    """Whole orders q_i with a gate y_i and a cost z_i above every line of the convex cost beyond its minimum order.

    Args:
        cost: `(N, Q + 1)` cost of ordering 0 ... Q; convex from 1 on.
        minimum_order: `(N,)` whole.
        price: `(N,)` money a unit.
        budget: money.
        volume: `(N,)` a unit.
        container_volume: of one container.
        container_cost: of one container.
        smallest_fill: share of the containers' volume that must be used.
        seconds: time limit.
    Returns: the best plan and the bound at the limit.
    """
    from scipy import optimize, sparse

    checks.positive("seconds", seconds)
    table, least = cost.double().numpy(), numpy.maximum(minimum_order.double().numpy(), 1)
    items, largest = table.shape[0], table.shape[1] - 1
    nothing = table[:, 0]
    # Lines z >= c(0) + (c(j) - c(0) - s j) y + s q through (j, c(j)) with slope s = c(j + 1) - c(j), from the minimum order on; equal slopes once.
    slope = numpy.diff(table[:, 1:], axis=1)
    j = numpy.arange(1, largest)
    fresh = numpy.ones_like(slope, dtype=bool)
    fresh[:, 1:] = numpy.abs(numpy.diff(slope, axis=1)) > 1e-9
    fresh |= j == least[:, None]
    item, at = numpy.nonzero(fresh & (j >= least[:, None]))
    s = slope[item, at]
    rise = table[item, at + 1] - nothing[item] - s * j[at]
    rows = numpy.arange(len(item))
    lines = sparse.csr_matrix(
        (numpy.concatenate([numpy.ones(len(item)), -s, -rise]), (numpy.tile(rows, 3), numpy.concatenate([2 * items + item, item, items + item]))),
        shape=(len(item), 3 * items + 1),
    )
    each = numpy.arange(items)

    def link(factor: numpy.ndarray) -> sparse.csr_matrix:
        return sparse.csr_matrix(
            (numpy.concatenate([numpy.ones(items), -factor]), (numpy.tile(each, 2), numpy.concatenate([each, items + each]))), shape=(items, 3 * items + 1)
        )

    def row(values: Tensor, last: float) -> numpy.ndarray:
        full = numpy.zeros((1, 3 * items + 1))
        full[0, :items], full[0, -1] = values.double().numpy(), last
        return full

    objective = numpy.zeros(3 * items + 1)
    objective[2 * items : 3 * items], objective[-1] = 1, container_cost
    whole = numpy.concatenate([numpy.ones(2 * items), numpy.zeros(items), [1]])
    top = numpy.concatenate([numpy.full(items, largest), numpy.ones(items), numpy.full(items + 1, numpy.inf)])
    start = time.perf_counter()
    found = optimize.milp(
        objective,
        integrality=whole,
        bounds=optimize.Bounds(0, top),
        constraints=[
            optimize.LinearConstraint(lines, nothing[item], numpy.inf),
            optimize.LinearConstraint(link(least), 0, numpy.inf),
            optimize.LinearConstraint(link(numpy.full(items, largest)), -numpy.inf, 0),
            optimize.LinearConstraint(row(price, 0.0), -numpy.inf, budget),
            optimize.LinearConstraint(row(volume, -container_volume), -numpy.inf, 0),
            optimize.LinearConstraint(row(volume, -smallest_fill * container_volume), 0, numpy.inf),
        ],
        options={"time_limit": seconds, "mip_rel_gap": 1e-7},
    )
    wall = time.perf_counter() - start
    bound = -math.inf if getattr(found, "mip_dual_bound", None) is None else float(found.mip_dual_bound)
    if found.x is None:
        return Referee(None, 0, math.inf, bound, wall)
    order = torch.from_numpy(numpy.round(found.x[:items]))
    containers = round(found.x[-1])
    value = float(cost.double().gather(1, order.long()[:, None]).sum()) + container_cost * containers
    return Referee(order, containers, value, bound, wall)
