"""Suppliers of one product share a stock: such networks take the step-by-step route, and one supplier a product is the plain network."""

from __future__ import annotations

import torch

from dpsc.simulate import firms


def test_products_take_the_step_by_step_route() -> None:
    plain = firms.synthetic(40, degree=5.0, seed=1)
    edges = (plain.supplier.long(), plain.buyer.long(), plain.coefficient, plain.final_demand)
    lost = firms.exponential(30, onset=3, size=0.6 * (torch.arange(40) % 3 == 0).double(), rate=0.1)
    parameters = firms.Parameters(inventory=3.0, adjustment_time=6.0)
    own = firms.rollout(plain, parameters, productivity=1 - lost)
    alone = firms.rollout(firms.Network.of(*edges, product=torch.arange(40)), parameters, productivity=1 - lost)
    assert torch.allclose(alone.output, own.output, rtol=1e-12)
    shared = firms.Network.of(*edges, product=torch.arange(40) % 5)
    assert shared.inputs < shared.edges
    run = firms.rollout(shared, parameters, productivity=1 - lost)
    assert float(run.output.sum()) >= float(own.output.sum()) - 1e-9  # a stock that suppliers fill together is never worse
