"""Assemble to order: components are stocked before demand is known, products are built after."""

from __future__ import annotations

from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from dpsc import checks
from dpsc.types import Instance


class Assembly(NamedTuple):
    """Bill of materials `(C, P)` units of component a product, demand `(S, P)`, unit cost, salvage value `(C,)` and price `(P,)`, float64."""

    bill_of_materials: Tensor
    demand: Tensor
    unit_cost: Tensor
    salvage: Tensor
    price: Tensor


def assembly(*, scenarios: int = 200, products: int = 4, components: int = 6, seed: int = 0) -> Assembly:
    """Draw an instance; the order of the draws is the definition (numpy's PCG64)."""
    n, p, c = checks.at_least("scenarios", scenarios, 1), checks.at_least("products", products, 1), checks.at_least("components", components, 1)
    g = numpy.random.default_rng(checks.at_least("seed", seed, 0))
    bill = (g.random((c, p)) < 0.5).astype(float)
    bill[g.integers(0, c, p), numpy.arange(p)] = 1
    bill *= g.integers(1, 3, (c, p))
    demand = g.poisson(g.uniform(5, 20, p), (n, p)).astype(float)
    cost = g.uniform(1, 4, c)
    price = (bill * cost[:, None]).sum(0) * g.uniform(1.6, 2.4, p)
    return Assembly(*(torch.from_numpy(a) for a in (bill, demand, cost, 0.3 * cost, price)))


ASSEMBLE_TO_ORDER = Instance(
    name="assemble_to_order",
    source="linear program over all 200 scenarios by an independent script",
    parameters={"scenarios": 200, "products": 4, "components": 6, "seed": 0},
    known={"profit": 233.61781, "stock": [66.0, 20.0, 12.0, 33.0, 24.0, 29.0], "demand_sums": [3888, 2084, 2747, 1922]},
)
ALL = (ASSEMBLE_TO_ORDER,)
