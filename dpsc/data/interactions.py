"""Synthetic regression data in which a linear predictor is misspecified: linear effects plus one product of two features an output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError


def interaction_data(
    random: np.random.RandomState,
    rows: int,
    *,
    weights: Sequence[Sequence[float]],
    pairs: Sequence[tuple[int, int]],
    interaction: float,
    noise: float,
    center: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw features and targets.

    y_k = sum_j W_kj f_j + a f_i(k) f_j(k) + s e_k with f, e ~ N(0, I); then, if `center` is given, each row is shifted to that mean.

    Args:
        random: numpy's legacy generator, from which features are drawn first, then the noise; published streams depend on this order.
        rows: how many.
        weights: W, `(K, F)`.
        pairs: (i(k), j(k)) for every output.
        interaction: a.
        noise: s >= 0.
        center: mean of every row of targets, or None.
    Returns: features `(rows, F)` and targets `(rows, K)`, float64.
    """
    checks.at_least("rows", rows, 1)
    W = np.asarray(weights, dtype=float)
    checks.finite("weights", torch.from_numpy(W))
    if not (isinstance(noise, (int, float)) and 0 <= noise < float("inf")):
        raise InputError(f"noise must be a finite number >= 0, got {noise!r}")
    if W.ndim != 2 or len(pairs) != len(W):
        raise InputError(f"weights must be (K, F) with one pair of features an output, got shape {W.shape} and {len(pairs)} pairs")
    if any(not 0 <= j < W.shape[1] for pair in pairs for j in pair):
        raise InputError(f"pairs must name features 0 to {W.shape[1] - 1}, got {list(pairs)}")
    features = random.randn(rows, W.shape[1])
    targets = features @ W.T
    for k, (i, j) in enumerate(pairs):
        targets[:, k] += interaction * features[:, i] * features[:, j]
    targets = targets + noise * random.randn(*targets.shape)
    if center is not None:
        targets = targets - targets.mean(1, keepdims=True) + center
    return torch.from_numpy(features), torch.from_numpy(targets)
