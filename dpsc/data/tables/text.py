"""A user's own input-output table as a CSV file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas
import torch

from dpsc import checks
from dpsc.data.tables.table import Table, checked_table, labels
from dpsc.errors import DataError, DataNotFoundError

WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how Excel files begin, new and old
SEPARATORS = (",", ";", "\t", "|")  # the first wins where several fit alike
DECLARED = re.compile(r"\A\s*sep=(.)\r?\n", re.IGNORECASE)  # a first line that some spreadsheets write and read
SAME = 1e-6  # relative difference below which a column is the total of others


def read_csv(
    path: str | os.PathLike[str],
    *,
    output: str = "output",
    final_demand: Sequence[str] | None = None,
    other_rows: Sequence[str] = (),
    other_columns: Sequence[str] = (),
    balance: str = "refuse",
    negative_final_demand: str = "keep",
    separator: str | None = None,
    decimal: str | None = None,
) -> Table:
    """Read a table: the first column names the selling sectors, the first row the buying ones.

    Columns that bear the name of a row are the square of flows, in any order; the column `output`, where there is one, is output; every other
    column is a category of final demand. Empty cells are zero.

        ,       farms, mills, households, exports, output
        farms,     10,    60,         30,       0,    100
        mills,     20,    10,        120,      50,    200

    Args:
        path: of the file.
        output: name of the column of output, whose capitals do not matter; a file without it is fine, its output is what it sells.
        final_demand: names of the columns of final demand. Without them every column that is no sector is one, so that a sector whose row is missing is
            taken for final demand: give them where that must not happen.
        other_rows: names of rows that are no sectors (wages, taxes, imports) and are left out.
        other_columns: names of columns that are neither sectors nor final demand and are left out (totals).
        balance: see `checked_table`.
        negative_final_demand: see `checked_table`.
        separator: between cells; None takes the one of `;`, tab, `|` and `,` that makes rows of one length, and the findings say which.
        decimal: sign between units and fractions, a point or a comma. None is a point, but a comma where cells hold commas, none a point, and the
            separator is another sign; where every such comma could separate thousands (1,234) it must be said.
    Raises: DataNotFoundError; DataError for text where a number belongs, rows of different lengths, a missing header, columns that are totals of others, or
        labels that do not match; else as `checked_table`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataNotFoundError(f"there is no input-output table {file} ({'a folder' if file.is_dir() else 'no such file'})")
    if decimal is not None:
        checks.one_of("decimal", decimal, (".", ","))
    between = _separator(file) if separator is None else separator
    header, *body = _cells(file, between)
    point = _decimal(file, body, between) if decimal is None else decimal
    notes = () if (separator or ",", decimal or ".") == (between, point) else (f"Read with {_spelt(between)} between cells and {point!r} before fractions.",)
    columns = labels(f"{file}: columns", header[1:])
    rows = labels(f"{file}: rows", [row[0] for row in body])
    output = next((name for name in columns if output not in columns and name.casefold() == output.casefold()), output)
    for what, given, there in (("other_rows", other_rows, rows), ("other_columns", other_columns, columns), ("final_demand", final_demand or (), columns)):
        for name in given:
            checks.one_of(f"{what} of {file.name}", name, there)
    sectors = [name for name in rows if name not in other_rows]
    unmatched = [name for name in sectors if name not in columns]
    if unmatched:
        described = ", ".join(repr(name) + checks.near(name, [c for c in columns if c not in sectors]) for name in unmatched[: checks.LISTED])
        raise DataError(
            f"{file}: every row must have a column of the same name, but {len(unmatched)} of {len(sectors)} have none: {described}. "
            f"Rows that are no sectors (wages, imports) go into other_rows, here other_rows=[{', '.join(map(_name, unmatched[: checks.LISTED]))}]"
        )
    final = [name for name in columns if name not in sectors and name != output and name not in other_columns]
    strange = [] if final_demand is None else [name for name in final if name not in final_demand]
    if strange:
        raise DataError(
            f"{file}: every column must be a sector with a row of its own, final demand as given ({', '.join(final_demand or ())}), {output}, or one of "
            f"other_columns, got {', '.join(repr(name) + checks.near(name, rows) for name in strange[: checks.LISTED])}"
        )
    values = _numbers(file, body, rows, columns, point).loc[sectors]
    _no_totals(file, values, sectors, final)
    table = checked_table(
        sectors,
        torch.from_numpy(values[sectors].to_numpy(copy=True)),
        torch.from_numpy(values[final].to_numpy(copy=True)) if final else None,
        output=torch.from_numpy(values[output].to_numpy(copy=True)) if output in columns else None,
        categories=final or None,
        balance=balance,
        negative_final_demand=negative_final_demand,
        source=file.name,
    )
    return replace(table, findings=replace(table.findings, notes=notes))


def _separator(file: Path) -> str:
    """The sign that cuts the rows of a file into the same number of cells, at least three; where several do, the one that makes most."""
    text = file.read_bytes().decode("utf-8-sig", errors="replace")
    if declared := DECLARED.match(text):
        return declared[1]
    found: list[tuple[bool, int, str]] = []
    for sign in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=sign, skipinitialspace=True) if any(cell.strip() for cell in row)]
        except csv.Error:
            continue
        widths = {len(row) for row in rows}
        found.append((len(widths) == 1 and min(widths) > 2, max((len(row) for row in rows[:1]), default=0), sign))
    return max(found, key=lambda one: one[:2])[2] if found and max(width for _, width, _ in found) > 1 else ","


def _decimal(file: Path, body: Sequence[Sequence[str]], separator: str) -> str:
    """A comma where numbers hold commas and no points. Raises: DataError where it could as well separate thousands."""
    cells = [cell for row in body for cell in row[1:]]
    commas = [cell for cell in cells if re.fullmatch(r"[-+]?\d+,\d+", cell)]
    if separator == "," or not commas or any(re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", cell, re.IGNORECASE) for cell in cells):
        return "."
    if all(re.fullmatch(r"[-+]?\d{1,3},\d{3}", cell) for cell in commas):
        raise DataError(f"{file}: the comma of {commas[0]!r} may stand before fractions or between thousands; say decimal=',' or take it out")
    return ","


def _name(name: str) -> str:
    """A name as it stands in a list: in quotes where a comma or another sign would cut it."""
    return name if re.fullmatch(r"[\w .-]+", name) else f'"{name}"'


def _spelt(sign: str) -> str:
    return "tabs" if sign == "\t" else repr(sign)


def _cells(file: Path, separator: str) -> list[list[str]]:
    """Cells of the lines that are not empty, as many in each."""
    if not isinstance(separator, str) or len(separator) != 1:
        raise DataError(f"separator must be one character, got {separator!r}")
    raw = file.read_bytes()
    if raw.startswith(WORKBOOKS):
        raise DataError(f"{file} must be a text file, got a workbook: save its sheet as CSV (UTF-8)")
    try:
        text = DECLARED.sub("\n", raw.decode("utf-8-sig"), count=1)
        lines = [(n, [cell.strip() for cell in row]) for n, row in enumerate(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True), 1)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} must be a table of text in UTF-8 (save it as CSV UTF-8) with {separator!r} between cells: {error}") from error
    lines = [(n, row) for n, row in lines if any(row)]
    width = len(lines[0][1]) if lines else 0
    if len(lines) < 2 or width < 3:
        seen = [other for other in SEPARATORS if other != separator and other in text.partition("\n")[0]]
        raise DataError(
            f"{file} must have a first column of sectors, a first row of names and a column of final demand or output besides the flows; "
            f"got {len(lines)} rows and {width} columns with {separator!r} between cells"
            + (f" (separator={seen[0]!r}, perhaps?)" if seen and width < 2 else "")
        )
    header = lines[0][1]
    if all(re.fullmatch(r"[-+]?[\d.,]*\d[\d.,]*(e[-+]?\d+)?", cell, re.IGNORECASE) for cell in header[1:]) and not {row[0] for _, row in lines} & {*header[1:]}:
        raise DataError(f"{file}: the first row must name the columns (sectors, then final demand), got numbers only: {', '.join(header[: checks.LISTED])}")
    uneven = [(n, row) for n, row in lines if len(row) != width]
    if len(uneven) == len(lines) - 1 and all(len(row) == width + 1 for _, row in uneven):
        raise DataError(f"{file}: the first row must begin with a cell above the names of the sectors (it may be empty), got {header[0]!r} there")
    if uneven:
        n, row = uneven[0]
        raise DataError(
            f"{file}: every row must have as many cells as the first, {width}, got {len(row)} in line {n} (row {row[0]!r}); empty cells keep their separators"
        )
    return [row for _, row in lines]


def _numbers(file: Path, body: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], decimal: str) -> pandas.DataFrame:
    text = pandas.DataFrame([row[1:] for row in body], index=list(rows), columns=list(columns), dtype=str)
    point = text.mask(text == "", "0")
    if decimal == ",":  # a point would separate thousands, and is refused like a comma elsewhere
        point = point.apply(lambda column: column.str.replace(".", "?", regex=False).str.replace(",", ".", regex=False))
    values = point.apply(pandas.to_numeric, errors="coerce").astype(float)
    wrong = values.isna()
    if wrong.to_numpy().any():
        row = wrong.index[wrong.any(axis=1)][0]
        column = wrong.columns[wrong.loc[row]][0]
        cell = text.at[row, column]
        hint = ""
        if re.fullmatch(r"[-+]?\d{1,3}([ ,.'\u00a0\u202f]\d{3})+([.,]\d+)?", cell):
            hint = "; write numbers without signs between thousands"
        if decimal == "." and re.fullmatch(r"[-+]?\d+,\d+", cell):
            hint = "; if the comma separates decimals, say decimal=','" + (" (if thousands, remove it)" if hint else "")
        raise DataError(f"{file}: every cell must be a number or empty, got {cell!r} in row {row!r}, column {column!r}{hint}")
    return values


def _no_totals(file: Path, values: pandas.DataFrame, sectors: Sequence[str], final: Sequence[str]) -> None:
    """A column that adds up columns before it would be counted as final demand once more."""
    if len(sectors) < 2:
        return
    flows = values[list(sectors)].sum(axis=1)
    for position, name in enumerate(final):
        before = values[list(final[:position])].sum(axis=1)
        sums = {"the flows": flows}
        if position:
            sums["the flows and the final demand before it"] = flows + before
        if position > 1:
            sums["the final demand before it"] = before
        size = values[name].abs().max()
        for of, total in sums.items():
            if size > 0 and bool(((values[name] - total).abs() <= SAME * total.abs()).all()):
                raise DataError(
                    f"{file}: column {name!r} is the total of {of} in every row, and would be counted twice. If it is output, say output={_name(name)}; else "
                    f"leave it out, other_columns=[{_name(name)}]"
                )
