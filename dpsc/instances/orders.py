"""One-period orders under minimum quantities: N items, each ordered not at all or at least its minimum, random demand, a fixed cost an order."""

from __future__ import annotations

from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.types import Instance

LARGEST = 200


class Orders(NamedTuple):
    """N items, `(N,)` float64: mean of the Poisson demand (cut at 200 units and renormalised), money a unit left over or short, money an order, smallest
    order in units; money and volume a unit, for problems in which a budget or a container couples the items."""

    mean_demand: Tensor
    holding_cost: Tensor
    stockout_cost: Tensor
    order_cost: Tensor
    minimum_order: Tensor
    price: Tensor
    volume: Tensor


def orders(count: int, *, seed: int = 0) -> Orders:
    """Draw N items; the order of the draws, each of size N, is the definition.

    Args:
        count: N >= 1.
        seed: of numpy's default generator (PCG64).
    """
    n = checks.at_least("count", count, 1)
    g = numpy.random.default_rng(checks.at_least("seed", seed, 0))
    mean = g.uniform(3, 60, n)
    holding = g.uniform(0.5, 2, n)
    stockout = holding * g.uniform(2, 15, n)
    fixed = g.uniform(5, 60, n)
    smallest = numpy.round(g.uniform(5, 80, n))
    price = g.uniform(1, 20, n)
    volume = g.uniform(0.5, 2, n)
    return Orders(*(torch.from_numpy(a) for a in (mean, holding, stockout, fixed, smallest, price, volume)))


MOQ_500 = Instance(
    name="moq_500",
    source="our enumeration of every item's 201 orders",
    parameters={"items": 500, "seed": 0, "largest": LARGEST},
    known={"optimum": 26719.2, "ordered": 449, "at_minimum": 216},
)

MOQ_BUDGET_500 = Instance(
    name="moq_budget_500",
    source="our Lagrangian bound with the budget alone; the budget is .7 of the spend of the unconstrained optimum",
    parameters={"items": 500, "seed": 0, "budget_share": 0.7, "container_volume": 1000.0, "container_cost": 250.0, "smallest_fill": 0.97},
    known={"budget": 171450.12, "bound_budget_alone": 34070.43},
)

ALL = (MOQ_500, MOQ_BUDGET_500)
