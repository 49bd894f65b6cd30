"""Irish half-hourly electricity prices, the data of the energy knapsack benchmark.

48 half-hours a day with eight features each; a day is one knapsack: which half-hours to serve so that their weights stay within a capacity.
Source: Mandi et al. (2024), doi:10.1613/jair.1.15320; file `Data.npz` of PredOpt/predopt-benchmarks (MIT).
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpsc import checks
from dpsc.data import folder
from dpsc.errors import DataError

SLOTS = 48
TRAIN, VALIDATION = 550, 100
ARRAYS = ("X_1gtrain", "X_1gtest", "y_train", "y_test", "weights")


@dataclass(frozen=True)
class Days:
    """Rows of days: features `(R, 48, 8)`, standardised; price `(R, 48)`; both float32, as in the published protocol."""

    features: Tensor
    price: Tensor


@dataclass(frozen=True)
class EnergyPrices:
    """The whole data set: `features` `(789, 48, 8)` standardised by the mean and deviation of the file's own training part, `price` `(789, 48)` and the
    `weights` `(48,)` of the half-hours, the same every day."""

    features: Tensor
    price: Tensor
    weights: Tensor

    def split(self, seed: int) -> tuple[Days, Days, Days]:
        """550 training, 100 validation and 139 test days after a shuffle by numpy's legacy generator (the order of `sklearn.utils.shuffle`)."""
        order = np.arange(len(self.price))
        np.random.RandomState(seed).shuffle(order)
        picked = torch.from_numpy(order)
        parts = picked[:TRAIN], picked[TRAIN : TRAIN + VALIDATION], picked[TRAIN + VALIDATION :]
        train, validation, test = (Days(self.features[p], self.price[p]) for p in parts)
        return train, validation, test


def load(root: str | None = None) -> EnergyPrices:
    """Read and check the file.

    Args:
        root: data folder; default `$DPSC_DATA`, then `./data`.
    Raises: DataNotFoundError (says where it looked and how to get the file); DataError if its content is not what it should be; InputError if it holds NaN.
    """
    path = folder.find("energy_knapsack", "Data.npz", root=root)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], dtype=np.float64) for name in ARRAYS}
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(
            f"{path} must be the archive Data.npz of the energy knapsack with arrays {', '.join(ARRAYS)}: {type(error).__name__}: {error}"
        ) from error
    train, test, weights = arrays["X_1gtrain"], arrays["X_1gtest"], arrays["weights"]
    for name, x, y in (("training", train, arrays["y_train"]), ("test", test, arrays["y_test"])):
        if x.ndim != 2 or x.shape[1] != 9 or y.shape != x.shape[:1] or len(x) % SLOTS or not len(x):
            raise DataError(
                f"{path}: the {name} part must have 9 columns, whole days of {SLOTS} rows and as many prices, got features {x.shape} and prices {y.shape}"
            )
    if weights.shape != (SLOTS,) or not np.isfinite(weights).all() or (weights < 1).any() or (weights != np.floor(weights)).any():
        raise DataError(f"{path}: weights must be {SLOTS} integers >= 1, got shape {weights.shape} and values {weights.reshape(-1)[:8].tolist()} ...")
    x = np.concatenate([train, test])[:, 1:]  # the first column numbers groups
    price = torch.from_numpy(np.concatenate([arrays["y_train"], arrays["y_test"]]))
    checks.finite(f"{path}: features", torch.from_numpy(x))
    checks.finite(f"{path}: prices", price)
    known = x[: len(train)]
    deviation = known.std(0)
    x = (x - known.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    features = torch.from_numpy(x).reshape(-1, SLOTS, x.shape[1]).float()
    return EnergyPrices(features, price.reshape(-1, SLOTS).float(), torch.from_numpy(weights.astype(np.int64)))
