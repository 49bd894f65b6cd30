"""The drawn problems as arrays: three batches of quadratic programs, and days of a knapsack.

A row of a layer problem is min x'Qx/2 + q.x over A x = b, G x <= h, lower <= x <= upper with q = offset + scale * theta. Only theta, `(B, n)`, is
batched; the scored gradient is that of sum(v x*) in theta. Definitions and check values: `dpsc/instances/layers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float64]]


def allocation(batch: int) -> Arrays:
    """P1: min c.x + |x|^2, sum x = 1, 0 <= x <= 1; theta = c."""
    n, g = 3, _generator(0)
    c = 1 + 0.6 * _normal(g, batch, n)
    return {
        "theta": c,
        "v": _normal(g, batch, n),
        "Q": 2 * np.eye(n),
        "scale": np.ones(n),
        "offset": np.zeros(n),
        "A": np.ones((1, n)),
        "b": np.ones(1),
        "G": np.zeros((0, n)),
        "h": np.zeros(0),
        "lower": np.zeros(n),
        "upper": np.ones(n),
    }


def replenishment(batch: int) -> Arrays:
    """P2: min sum_i w_i/2 (x_i - d_i)^2 + k_i x_i, p.x <= budget, 0 <= x <= u; theta = d."""
    n, r, g = 50, np.random.default_rng(0), _generator(1)
    w, k, p, mean = (r.uniform(low, high, n) for low, high in ((0.5, 2), (0, 0.5), (1, 10), (2, 20)))
    return {
        "theta": mean * np.exp(0.4 * _normal(g, batch, n)),
        "v": _normal(g, batch, n),
        "Q": np.diag(w),
        "scale": -w,
        "offset": k,
        "A": np.zeros((0, n)),
        "b": np.zeros(0),
        "G": p[None],
        "h": np.array([0.6 * p @ mean]),
        "lower": np.zeros(n),
        "upper": 1.3 * mean,
    }


def dense(batch: int) -> Arrays:
    """P3: min x'Px/2 + c.x, G x <= h; theta = c."""
    n, m, r, g = 200, 50, np.random.default_rng(0), _generator(1)
    M = r.standard_normal((n, n))
    G = r.standard_normal((m, n)) / np.sqrt(n)
    h = G @ r.standard_normal(n) + r.uniform(0, 1, m)
    return {
        "theta": _normal(g, batch, n),
        "v": _normal(g, batch, n),
        "Q": M @ M.T / n + 0.1 * np.eye(n),
        "scale": np.ones(n),
        "offset": np.zeros(n),
        "A": np.zeros((0, n)),
        "b": np.zeros(0),
        "G": G,
        "h": h,
        "lower": np.full(n, -np.inf),
        "upper": np.full(n, np.inf),
    }


def knapsack() -> tuple[Arrays, str]:
    """550 days of 48 half-hours: `value`, `weights`, and where the prices come from."""
    from dpsc.data.energy_knapsack import load
    from dpsc.errors import DataNotFoundError

    try:
        data = load()
    except DataNotFoundError:
        value = np.exp(np.random.default_rng(0).normal(5.5, 0.6, (550, 48)))
        return {
            "value": value,
            "weights": np.repeat([3.0, 5.0, 7.0], 16),
        }, "synthetic prices (the public data are not there: scripts/fetch_data.py energy_knapsack)"
    return {"value": data.split(0)[0].price.double().numpy(), "weights": data.weights.double().numpy()}, "Irish electricity prices"


def check(form: str, batch: int, answer: Mapping[str, NDArray[np.float64]]) -> float:
    """How far an answer is from the check values of the instance, relatively: a wrong draw shows here."""
    from dpsc.instances import layers

    known = {"allocation": layers.P1, "replenishment": layers.P2, "dense": layers.P3}[form].known
    first, norm = np.array(known["first_decision"]), known["gradient_norm"][batch]
    return float(max(abs(answer["decision"][0, :3] - first).max(), abs(np.linalg.norm(answer["gradient"]) / norm - 1)))


def _generator(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def _normal(generator: Any, *shape: int) -> NDArray[np.float64]:
    import torch

    drawn: NDArray[np.float64] = torch.randn(*shape, generator=generator, dtype=torch.float64).numpy()
    return drawn
