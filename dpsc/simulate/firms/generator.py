"""The synthetic firm network and the parameter draws of the published measurements; numpy generators, because their seeds are part of the definition."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError
from dpsc.simulate.firms.network import Network


def synthetic(firms: int, *, degree: float = 10.0, seed: int = 0, input_share: tuple[float, float] = (0.3, 0.7), sectors: int = 1) -> Network:
    """A sparse network with heavy-tailed numbers of customers.

    Numbers of suppliers 1 + Poisson(degree - 1); a supplier is drawn in proportion to a lognormal(0, 1) attractiveness; duplicates and self-loops are
    dropped; gamma(2, 1) weights are scaled so that the inputs of one unit of output add up to U(input_share); final demand lognormal(0, 1).

    Args:
        firms: M >= 2.
        degree: mean number of suppliers drawn, >= 1.
        seed: of numpy's `default_rng`.
        input_share: interval of the column sums of A, within [0, 1).
        sectors: firms get one of so many labels by `default_rng(5).integers`.
    Returns: a network in float64.
    Raises: InputError.
    Source: Hamid et al. (2025), arXiv:2511.05231, whose own generator is not public; this is the one of dpsc's reference numbers.
    """
    checks.at_least("firms", firms, 2)
    if not 0 <= input_share[0] <= input_share[1] < 1:
        raise InputError(f"input_share must be an interval within [0, 1), got {input_share}")
    if not degree >= 1:
        raise InputError(f"degree must be >= 1, got {degree}")
    rng = np.random.default_rng(seed)
    suppliers = 1 + rng.poisson(degree - 1, firms)
    buyer = np.repeat(np.arange(firms), suppliers)
    attractiveness = rng.lognormal(0, 1, firms)
    supplier = np.searchsorted(np.cumsum(attractiveness) / attractiveness.sum(), rng.random(int(suppliers.sum()))).clip(0, firms - 1)
    buyer *= firms
    buyer += supplier
    key = np.unique(buyer)
    del buyer, supplier
    key = key[(key // firms) != (key % firms)]
    buyer, supplier = (key // firms).astype(np.int32), (key % firms).astype(np.int32)
    del key
    weight = rng.gamma(2.0, 1.0, len(buyer))
    total = np.bincount(buyer, weight, firms)
    share = rng.uniform(*input_share, firms)
    weight *= (share / np.where(total > 0, total, 1))[buyer]
    final = rng.lognormal(0, 1, firms)
    output = final.copy()
    for _ in range(400):
        new = final + np.bincount(supplier, weight * output[buyer], firms)
        done = np.max(np.abs(new - output) / new) < 1e-15
        output = new
        if done:
            break
    label = np.random.default_rng(5).integers(0, checks.at_least("sectors", sectors, 1), firms)
    s, b, a, c, x, g = map(torch.from_numpy, (supplier, buyer, weight, final, output, label))
    return Network.of(s, b, a, c, output=x, sector=g)


def draw(firms: int, *, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters of a shock: n = exp(log 6 + N(0, 1) / 2) steps of stock, lambda = exp(log .08 + .7 N(0, 1)) recovery a step, and for three firms in ten
    delta = U(.3, .9), else 0. Three `(M,)` float64."""
    rng = np.random.default_rng(seed)
    inventory = np.exp(np.log(6.0) + 0.5 * rng.standard_normal(firms))
    rate = np.exp(np.log(0.08) + 0.7 * rng.standard_normal(firms))
    size = rng.uniform(0.3, 0.9, firms) * (rng.random(firms) < 0.3)
    return torch.from_numpy(inventory), torch.from_numpy(rate), torch.from_numpy(size)
