"""Published or promised numbers, against what a run measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpsc import checks
from dpsc.errors import ConfigError

RELATIONS = ("=", "<=", ">=")
KEYS = ("name", "expected", "tolerance", "relation", "source")

# A difference that equals the tolerance in decimals may exceed it by a rounding error in binary: 16.96 - 16.91 > 0.05.
ROUNDING = 1e-12


def check_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as a config spells them, checked and completed with their defaults.

    Args:
        rows: mappings with `name` (of a metric), `expected` (a number), `tolerance` (>= 0, default 0), `relation` (`=`, `<=` or `>=`,
            default `=`) and `source` (who says so). A matrix is spelled as one row an entry.
    Returns: plain dictionaries with exactly these keys.
    Raises: ConfigError.
    """
    complete: list[dict[str, Any]] = []
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not row["name"]:
            raise ConfigError(f"expected[{position}] must be a mapping with the name of a metric, got {row!r}")
        where = f"expected row {row['name']!r}"
        for key in row:
            if key not in KEYS:
                raise ConfigError(f"{where} takes the keys {', '.join(KEYS)}; got {key!r}{checks.near(str(key), KEYS)}")
        if any(row["name"] == earlier["name"] for earlier in complete):
            raise ConfigError(f"{where} must be given once, got it twice")
        expected, tolerance, relation, source = row.get("expected"), row.get("tolerance", 0.0), row.get("relation", "="), row.get("source")
        if not _finite(expected):
            raise ConfigError(f"{where}: expected must be a finite number, got {expected!r}")
        if not _finite(tolerance) or tolerance < 0:
            raise ConfigError(f"{where}: tolerance must be a finite number >= 0, got {tolerance!r}")
        if relation not in RELATIONS:
            raise ConfigError(f"{where}: relation must be one of {' '.join(RELATIONS)}; got {relation!r}")
        if not isinstance(source, str) or not source.strip():
            raise ConfigError(f"{where}: source must say where the number comes from, got {source!r}")
        complete.append({"name": row["name"], "expected": expected, "tolerance": tolerance, "relation": relation, "source": source.strip()})
    return complete


def compare(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, float], applicable: bool) -> list[dict[str, Any]]:
    """Expected against measured.

    A row `=` is ok when |measured - expected| <= tolerance, `<=` when measured <= expected + tolerance, `>=` when measured >= expected - tolerance.

    Args:
        rows: see `check_rows`.
        metrics: name -> measured number; a missing or NaN metric is measured null and not ok.
        applicable: False when the configuration is not the shipped one; then `ok` is None in every row.
    Returns: one dictionary a row: name, expected, measured, tolerance, relation, ok, source.
    Raises: ConfigError.
    """
    compared = []
    for row in check_rows(rows):
        value = metrics.get(row["name"])
        measured = None if value is None or math.isnan(value) else value
        ok = _holds(measured, row) if applicable else None
        compared.append(
            {
                "name": row["name"],
                "expected": row["expected"],
                "measured": measured,
                "tolerance": row["tolerance"],
                "relation": row["relation"],
                "ok": ok,
                "source": row["source"],
            }
        )
    return compared


def all_ok(compared: Sequence[Mapping[str, Any]]) -> bool:
    """No applicable row failed."""
    return all(row["ok"] is not False for row in compared)


def _holds(measured: float | None, row: Mapping[str, Any]) -> bool:
    if measured is None:
        return False
    slack = row["tolerance"] + ROUNDING * max(1.0, abs(row["expected"]))
    above, below = measured <= row["expected"] + slack, measured >= row["expected"] - slack
    return {"=": above and below, "<=": above, ">=": below}[row["relation"]]


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
