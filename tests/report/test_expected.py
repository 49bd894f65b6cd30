"""Rows of expected numbers: relations, tolerances, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsc.errors import ConfigError
from dpsc.report import check_rows, compare
from dpsc.report.expected import all_ok

ROW = {"name": "cost", "expected": 2.0, "tolerance": 0.5, "relation": "=", "source": "a table"}


@pytest.mark.parametrize(
    ("relation", "measured", "ok"),
    [
        ("=", 2.5, True),
        ("=", 1.5, True),
        ("=", 2.51, False),
        ("=", 1.49, False),
        ("<=", -100.0, True),
        ("<=", 2.5, True),
        ("<=", 2.51, False),
        (">=", 100.0, True),
        (">=", 1.5, True),
        (">=", 1.49, False),
    ],
)
def test_relations(relation: str, measured: float, ok: bool) -> None:
    assert compare([{**ROW, "relation": relation}], {"cost": measured}, True)[0]["ok"] is ok


def test_row_as_written_to_the_file() -> None:
    assert compare([ROW], {"cost": 1.75, "other": 3.0}, True) == [{**ROW, "measured": 1.75, "ok": True}]


def test_defaults_are_exact_equality() -> None:
    row = {"name": "count", "expected": 12, "source": "a table"}
    assert check_rows([row]) == [{**row, "tolerance": 0.0, "relation": "="}]
    assert compare([row], {"count": 12}, True)[0]["ok"] is True
    assert compare([row], {"count": 12.001}, True)[0]["ok"] is False


def test_decimal_tolerance_is_met_on_its_border() -> None:
    assert abs(16.91 - 16.96) > 0.05  # in binary
    assert compare([{"name": "pct", "expected": 16.96, "tolerance": 0.05, "source": "a table"}], {"pct": 16.91}, True)[0]["ok"] is True


@pytest.mark.parametrize("metrics", [{}, {"cost": math.nan}])
def test_a_metric_that_is_missing_or_nan_is_not_ok(metrics: dict[str, float]) -> None:
    row = compare([ROW], metrics, True)[0]
    assert row["measured"] is None
    assert row["ok"] is False
    assert not all_ok([row])


def test_not_applicable_rows_are_measured_but_not_judged() -> None:
    rows = compare([ROW, {**ROW, "name": "gone"}], {"cost": 99.0}, False)
    assert [row["ok"] for row in rows] == [None, None]
    assert [row["measured"] for row in rows] == [99.0, None]
    assert all_ok(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, ROW], "'cost' must be given once, got it twice"),
        ([{**ROW, "relation": "<"}], "relation must be one of = <= >=; got '<'"),
        ([{**ROW, "source": " "}], "source must say where the number comes from, got ' '"),
        ([{key: value for key, value in ROW.items() if key != "source"}], "source must say where the number comes from, got None"),
        ([{**ROW, "tolerance": -1e-9}], "tolerance must be a finite number >= 0, got -1e-09"),
        ([{**ROW, "tolerance": math.inf}], "tolerance must be a finite number >= 0, got inf"),
        ([{**ROW, "expected": math.nan}], "expected must be a finite number, got nan"),
        ([{**ROW, "expected": "0.5"}], "expected must be a finite number, got '0.5'"),
        ([{**ROW, "expected": True}], "expected must be a finite number, got True"),
        ([{**ROW, "tolerence": 1}], r"got 'tolerence' \(did you mean tolerance"),
        ([{"expected": 1.0, "source": "a"}], r"expected\[0\] must be a mapping with the name of a metric"),
        (["cost = 1"], r"expected\[0\] must be a mapping with the name of a metric, got 'cost = 1'"),
    ],
)
def test_what_is_refused(rows: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(rows, {"cost": 2.0}, True)


@given(expected=st.floats(-1e6, 1e6), tolerance=st.floats(0, 1e3), measured=st.floats(allow_nan=False, allow_infinity=False, min_value=-1e7, max_value=1e7))
def test_equality_is_both_inequalities(expected: float, tolerance: float, measured: float) -> None:
    verdicts = {
        relation: compare([{"name": "x", "expected": expected, "tolerance": tolerance, "relation": relation, "source": "s"}], {"x": measured}, True)[0]["ok"]
        for relation in ("=", "<=", ">=")
    }
    assert verdicts["="] == (verdicts["<="] and verdicts[">="])
    assert verdicts["<="] or verdicts[">="]
