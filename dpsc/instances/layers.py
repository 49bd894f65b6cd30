"""P1, P2, P3: three batches of quadratic programs for measuring decision layers, with solutions computed by an active-set method.

Only one vector a row is batched. The scored gradient is that of sum(v x*) in that vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpsc.types import Instance

SOURCE = "computed row by row: interior point at 1e-11, active set read from the duals, dense solve of its optimality conditions, gradient from the same matrix"

P1 = Instance(
    name="layer_allocation",
    source=SOURCE,
    parameters={
        "problem": "min c.x + |x|^2, sum x = 1, 0 <= x <= 1; c = 1 + .6 randn(B, 3), then v = randn(B, 3), torch generator seed 0",
        "items": 3,
        "regularization": 1.0,
    },
    known={"gradient_norm": {32: 3.744820459, 128: 7.635246441, 1024: 20.953181101}, "first_decision": [0.65200894, 0.07086066, 0.2771304]},
)
P2 = Instance(
    name="layer_replenishment",
    source=SOURCE,
    parameters={
        "problem": "min sum_i w_i/2 (x_i - d_i)^2 + k_i x_i, p.x <= budget, 0 <= x <= u; numpy generator seed 0: w U(.5, 2), k U(0, .5), p U(1, 10), mu U(2, "
        "20); "
        "u = 1.3 mu, budget = .6 p.mu; torch generator seed 1: d = mu exp(.4 randn(B, 50)), then v = randn(B, 50)",
        "items": 50,
        "budget": 1912.957675,
    },
    known={
        "gradient_norm": {32: 33.480428634, 128: 67.633518852},
        "sum": {32: 12484.445665951, 128: 50357.435077049},
        "first_decision": [0.0, 1.72017518, 0.0],
    },
)
P3 = Instance(
    name="layer_dense",
    source=SOURCE,
    parameters={
        "problem": "min x'Px/2 + c.x, G x <= h; numpy generator seed 0: M = N(0,1)^(200x200), P = M M'/200 + .1 I; G = N(0,1)^(50x200)/sqrt(200); x0 ~ N(0, "
        "I), "
        "h = G x0 + U(0,1)^50; torch generator seed 1: c = randn(B, 200), v = randn(B, 200)",
        "variables": 200,
        "constraints": 50,
    },
    known={"gradient_norm": {32: 249.256761769}, "absolute_sum": {32: 16368.269911250}, "first_decision": [1.98858205, 1.39388814, -0.84449331]},
)
ALL = (P1, P2, P3)


class Draw(NamedTuple):
    """One batch: the batched vector and the weights v of the scored loss, both `(B, n)`, and what the rows share, by the letters of the problem."""

    batched: Tensor
    weights: Tensor
    shared: dict[str, Tensor]


def draw_allocation(batch: int) -> Draw:
    """P1: costs c."""
    g = torch.Generator().manual_seed(0)
    c = 1 + 0.6 * torch.randn(batch, 3, generator=g, dtype=torch.float64)
    return Draw(c, torch.randn(batch, 3, generator=g, dtype=torch.float64), {})


def draw_replenishment(batch: int) -> Draw:
    """P2: demands d; shared w, k, p, u and budget."""
    r, n = np.random.default_rng(0), 50
    w, k, p, mu = (torch.from_numpy(r.uniform(low, high, n)) for low, high in ((0.5, 2), (0, 0.5), (1, 10), (2, 20)))
    g = torch.Generator().manual_seed(1)
    d = mu * torch.exp(0.4 * torch.randn(batch, n, generator=g, dtype=torch.float64))
    v = torch.randn(batch, n, generator=g, dtype=torch.float64)
    return Draw(d, v, {"w": w, "k": k, "p": p, "u": 1.3 * mu, "budget": 0.6 * (p * mu).sum()})


def draw_dense(batch: int) -> Draw:
    """P3: costs c; shared P, G and h."""
    r, n, m = np.random.default_rng(0), 200, 50
    M = r.standard_normal((n, n))
    P = M @ M.T / n + 0.1 * np.eye(n)
    G = r.standard_normal((m, n)) / np.sqrt(n)
    h = G @ r.standard_normal(n) + r.uniform(0, 1, m)
    g = torch.Generator().manual_seed(1)
    c = torch.randn(batch, n, generator=g, dtype=torch.float64)
    v = torch.randn(batch, n, generator=g, dtype=torch.float64)
    return Draw(c, v, {"P": torch.from_numpy(P), "G": torch.from_numpy(G), "h": torch.from_numpy(h)})
