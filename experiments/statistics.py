"""Intervals for results over seeds."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc.errors import InputError


def interval(values: Tensor, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent results with Student's interval: (mean, low, high)."""
    from scipy.stats import t

    values = values.detach().double().cpu()
    if values.dim() != 1 or len(values) < 2:
        raise InputError(f"an interval needs at least two results in one dimension, got shape {tuple(values.shape)}")
    half = float(t.ppf(0.5 + level / 2, len(values) - 1)) * float(values.std() / torch.tensor(len(values)).sqrt())
    mean = float(values.mean())
    return mean, mean - half, mean + half
