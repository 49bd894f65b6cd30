"""Weekly sales: the published file, and files that are not it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from dpsc.data import favorita
from dpsc.errors import DataError, DataNotFoundError, InputError


def grid(tmp_path: Path, change=lambda table: table) -> Path:
    rows = [(p, s, w, 100 * p + 10 * s + w) for p in range(3) for s in range(2) for w in range(4)]
    path = tmp_path / "sales.parquet"
    change(pd.DataFrame(rows, columns=list(favorita.COLUMNS)).astype({"units": "int16"})).to_parquet(path)
    return path


def read(path: Path) -> favorita.WeeklySales:
    return favorita.read(path, products=3, stores=2, weeks=4)


@pytest.mark.data
def test_the_published_file(data_root: Path) -> None:
    try:
        sales = favorita.load(str(data_root))
    except DataNotFoundError as error:
        pytest.skip(str(error))
    assert sales.units.shape == (288, 21, 171)
    assert abs(float(sales.units.mean()) - 84.6) < 0.05
    assert abs(float((sales.units == 0).double().mean()) - 0.011) < 0.0005
    assert len(sales.negative) == 10
    assert float(sales.units.min()) == -1632
    demand = sales.demand(negative="zero")
    assert float(demand.min()) == 0
    assert int((demand != sales.units).sum()) == 10
    with pytest.raises(DataError, match="got 10 negative cells, the first, .* units, of product"):
        sales.demand(negative="refuse")


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    shuffled = read(grid(tmp_path, lambda t: t.sample(frac=1, random_state=0)))
    assert torch.equal(shuffled.units, read(grid(tmp_path)).units)
    assert shuffled.units[2, 1, 3] == 213
    assert torch.equal(shuffled.demand(negative="refuse"), shuffled.units)


def test_negative_cells_are_reported_and_zero_only_when_asked(tmp_path: Path) -> None:
    sales = read(grid(tmp_path, lambda t: t.assign(units=t.units.where(t.units != 112, -5))))
    assert sales.negative.tolist() == [[1, 1, 2]]
    assert sales.demand(negative="zero")[1, 1, 2] == 0
    with pytest.raises(DataError, match="1 negative cells, the first, -5 units, of product 1 in store 1, week 2"):
        sales.demand(negative="refuse")
    with pytest.raises(InputError, match="negative must be one of refuse, zero; got 'clip'"):
        sales.demand(negative="clip")


def test_files_that_are_not_the_grid(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every product, store and week once, got 1 cells otherwise, the first 0 times: product 0, store 1, week 1"):
        read(grid(tmp_path, lambda t: t.drop(5)))
    with pytest.raises(DataError, match="the first 2 times: product 0, store 0, week 0"):
        read(grid(tmp_path, lambda t: pd.concat([t, t[:1]])))
    with pytest.raises(DataError, match="week must lie in 0 ... 3, got 0 ... 9"):
        read(grid(tmp_path, lambda t: t.assign(week=t.week.where(t.week != 3, 9))))
    with pytest.raises(DataError, match="units must hold integers, got float64"):
        read(grid(tmp_path, lambda t: t.assign(units=t.units + 0.5)))
    with pytest.raises(DataError, match="must be a Parquet file with the columns"):
        read(grid(tmp_path, lambda t: t.drop(columns="units")))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(DataError, match="must be a Parquet file"):
        read(tmp_path / "text.parquet")
    with pytest.raises(DataNotFoundError, match="favorita_21"):
        favorita.load(str(tmp_path))
