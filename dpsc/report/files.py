"""Files of a run folder, each written whole or not at all."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsc import storage
from dpsc.errors import ConfigError, InputError
from dpsc.report.outcome import file_names

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a text cell that begins with one of these


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one in the same folder: a reader sees the old file or the new one, never a half.

    Raises: ConfigError, naming the folder and the reason.
    """
    try:
        storage.write(path, content)
    except OSError as error:
        raise ConfigError(f"run folder must be writable, but {path.name} cannot be written to {path.parent}: {error.strerror or error}") from error


def write_json(path: Path, content: object) -> None:
    """Write strict JSON: a NaN or an infinity raises instead of producing a file that other readers refuse."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_tables(folder: Path, tables: Mapping[str, pandas.DataFrame]) -> None:
    """Write `<folder>/<name>.csv`; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    import pandas

    file_names("a table", tables)
    for name, table in tables.items():
        if not isinstance(table, pandas.DataFrame):
            raise InputError(f"table {name!r} must be a pandas.DataFrame, got {type(table).__name__}")
        safe = table.copy()
        # A mixed or text column may hold anything; numbers, booleans and times cannot begin a formula that is not a number.
        for position in range(safe.shape[1]):
            column = safe.iloc[:, position]
            if not (pandas.api.types.is_numeric_dtype(column.dtype) or pandas.api.types.is_datetime64_any_dtype(column.dtype)):
                safe.isetitem(position, column.astype(object).map(guarded))
        safe.columns, safe.index = _guarded_labels(safe.columns), _guarded_labels(safe.index)
        text = safe.to_csv(index=not isinstance(table.index, pandas.RangeIndex), lineterminator="\n")
        write_bytes(folder / f"{name}.csv", text.encode())


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Write `<folder>/<name>.png`, and return the pictures, for the page."""
    file_names("a figure", figures)
    pictures = {}
    for name, figure in figures.items():
        if not hasattr(figure, "savefig"):
            raise InputError(f"figure {name!r} must be a matplotlib.figure.Figure, got {type(figure).__name__}")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=144)
        pictures[name] = buffer.getvalue()
        write_bytes(folder / f"{name}.png", pictures[name])
    return pictures


def guarded(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one and is no number gets a leading apostrophe."""
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell if cell.strip() == cell else "'" + cell


def plain(value: Any) -> Any:
    """A configuration as strict JSON can hold it: mappings, lists, text, numbers; anything else (an infinity, a path) as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _guarded_labels(labels: pandas.Index) -> pandas.Index:
    if len(labels) == 0:
        return labels
    safe = labels.map(lambda label: tuple(map(guarded, label)) if isinstance(label, tuple) else guarded(label))
    return safe.set_names([guarded(name) for name in labels.names])
