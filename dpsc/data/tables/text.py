"""A user's own input-output table as a CSV file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas
import torch

from dpsc import checks
from dpsc.data.tables.table import Table, checked_table, labels
from dpsc.errors import DataError, DataNotFoundError


def read_csv(
    path: str | os.PathLike[str],
    *,
    output: str = "output",
    other_rows: Sequence[str] = (),
    other_columns: Sequence[str] = (),
    balance: str = "refuse",
    negative_final_demand: str = "keep",
    separator: str = ",",
) -> Table:
    """Read a table: the first column names the selling sectors, the first row the buying ones.

    Columns that bear the name of a row are the square of flows, in any order; the column `output`, where there is one, is output; every other
    column is a category of final demand. Empty cells are zero.

        ,       farms, mills, households, exports, output
        farms,     10,    60,         30,       0,    100
        mills,     20,    10,        120,      50,    200

    Args:
        path: of the file.
        output: name of the column of output; a file without it is fine, its output is what it sells.
        other_rows: names of rows that are no sectors (wages, taxes, imports) and are left out.
        other_columns: names of columns that are neither sectors nor final demand and are left out (totals).
        balance: see `checked_table`.
        negative_final_demand: see `checked_table`.
        separator: between cells.
    Raises: DataNotFoundError; DataError for text where a number belongs, or labels that do not match; else as `checked_table`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataNotFoundError(f"there is no input-output table {file} ({'a folder' if file.is_dir() else 'no such file'})")
    try:
        frame = pandas.read_csv(file, header=None, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except (ValueError, OSError, UnicodeError) as error:
        raise DataError(f"{file} must be a table of text with {separator!r} between cells: {str(error).strip().splitlines()[0]}") from error
    if frame.shape[0] < 2 or frame.shape[1] < 3:
        raise DataError(
            f"{file} must have a first column of sectors, a first row of names and a column of final demand or output besides the flows; "
            f"got {frame.shape[0]} rows and {frame.shape[1]} columns with {separator!r} between cells"
        )
    columns = labels(f"{file}: columns", frame.iloc[0, 1:].tolist())
    rows = labels(f"{file}: rows", frame.iloc[1:, 0].tolist())
    for what, given, there in (("other_rows", other_rows, rows), ("other_columns", other_columns, columns)):
        for name in given:
            checks.one_of(f"{what} of {file.name}", name, there)
    sectors = [name for name in rows if name not in other_rows]
    unmatched = [name for name in sectors if name not in columns]
    if unmatched:
        described = ", ".join(repr(name) + checks.near(name, [c for c in columns if c not in sectors]) for name in unmatched[: checks.LISTED])
        raise DataError(
            f"{file}: every row must have a column of the same name, but {len(unmatched)} of {len(sectors)} have none: {described}. "
            "Rows that are no sectors (wages, imports) go into other_rows"
        )
    final = [name for name in columns if name not in sectors and name != output and name not in other_columns]
    values = _numbers(file, frame.iloc[1:, 1:], rows, columns)
    values = values.loc[sectors]
    return checked_table(
        sectors,
        torch.from_numpy(values[sectors].to_numpy(copy=True)),
        torch.from_numpy(values[final].to_numpy(copy=True)) if final else None,
        output=torch.from_numpy(values[output].to_numpy(copy=True)) if output in columns else None,
        categories=final or None,
        balance=balance,
        negative_final_demand=negative_final_demand,
        source=file.name,
    )


def _numbers(file: Path, cells: pandas.DataFrame, rows: Sequence[str], columns: Sequence[str]) -> pandas.DataFrame:
    text = cells.set_axis(list(rows), axis=0).set_axis(list(columns), axis=1)
    text = text.apply(lambda column: column.str.strip())
    values = text.mask(text == "", "0").apply(pandas.to_numeric, errors="coerce").astype(float)
    wrong = values.isna()
    if wrong.to_numpy().any():
        row = wrong.index[wrong.any(axis=1)][0]
        column = wrong.columns[wrong.loc[row]][0]
        raise DataError(f"{file}: every cell must be a number or empty, got {text.at[row, column]!r} in row {row!r}, column {column!r}")
    return values
