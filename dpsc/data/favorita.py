"""Weekly grocery sales of 288 products in 21 stores over 171 weeks (Corporación Favorita).

Sales are what was sold, so demand that met an empty shelf is not in them. A few cells are negative: more came back than was sold.
Source: Kaggle competition Corporación Favorita Grocery Sales Forecasting (2017-2018), as prepared by Alvo et al., arXiv:2306.11246. The competition's rules
forbid passing the data on: users bring the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpsc import checks
from dpsc.data import folder
from dpsc.errors import DataError

PRODUCTS, STORES, WEEKS = 288, 21, 171
COLUMNS = ("product_id", "store_id", "week", "units")


@dataclass(frozen=True)
class WeeklySales:
    """Net sales as they are in the file.

    Attributes:
        units: `(P, N, W)` float64 whole units a week; negative where more came back than was sold.
    """

    units: Tensor

    @property
    def negative(self) -> Tensor:
        """`(cells, 3)` int64 product, store and week of every negative cell."""
        return (self.units < 0).nonzero()

    def demand(self, *, negative: str) -> Tensor:
        """`(P, N, W)` units that customers asked for, >= 0.

        Args:
            negative: what becomes of negative cells: "zero" takes them as weeks without demand (the returns themselves are dropped), "refuse" raises.
        Raises: DataError naming the first negative cell; InputError for another word.
        """
        checks.one_of("negative", negative, ("zero", "refuse"))
        cells = self.negative
        if negative == "refuse" and len(cells):
            product, store, week = cells[0].tolist()
            raise DataError(
                f"demand must be >= 0, got {len(cells)} negative cells, the first, {self.units[product, store, week]:g} units, of product {product} in store "
                f"{store}, week {week}; say negative='zero' to take them as zero"
            )
        return self.units.clamp_min(0)


def load(root: str | None = None) -> WeeklySales:
    """Read and check the file.

    Args:
        root: data folder; default `$DPSC_DATA`, then `./data`.
    Raises: DataNotFoundError (says where it looked and how to get the file); DataError if it is not the complete grid of products, stores and weeks.
    """
    return read(folder.find("favorita_21", "favorita_21.parquet", root=root))


def read(path: Path, *, products: int = PRODUCTS, stores: int = STORES, weeks: int = WEEKS) -> WeeklySales:
    """A long table `product_id, store_id, week, units` in Parquet: every combination exactly once, in any order.

    Raises: DataError naming what is missing, doubled or out of range.
    """
    try:
        import pandas as pd

        table = pd.read_parquet(path, columns=list(COLUMNS))
    except ImportError as error:
        raise DataError(f"reading {path} needs pyarrow: pip install 'dpsc[parquet]'") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} must be a Parquet file with the columns {', '.join(COLUMNS)}: {type(error).__name__}: {error}") from error
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    for name, values in columns.items():
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError(f"{path}: {name} must hold integers, got {values.dtype}")
    for name, count in (("product_id", products), ("store_id", stores), ("week", weeks)):
        low, high = int(columns[name].min(initial=0)), int(columns[name].max(initial=0))
        if low < 0 or high >= count:
            raise DataError(f"{path}: {name} must lie in 0 ... {count - 1}, got {low} ... {high}")
    place = (columns["product_id"].astype(np.int64) * stores + columns["store_id"]) * weeks + columns["week"]
    times = np.bincount(place, minlength=products * stores * weeks)
    if (times != 1).any():
        bad = int(np.flatnonzero(times != 1)[0])
        cell = f"product {bad // (stores * weeks)}, store {bad // weeks % stores}, week {bad % weeks}"
        raise DataError(
            f"{path} must hold every product, store and week once, got {int((times != 1).sum())} cells otherwise, the first {times[bad]} times: {cell}"
        )
    units = np.empty(len(place), dtype=np.float64)
    units[place] = columns["units"]
    return WeeklySales(torch.from_numpy(units.reshape(products, stores, weeks)))
