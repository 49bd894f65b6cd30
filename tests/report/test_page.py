"""The page: complete, self-contained, and nothing on it is taken for HTML."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas
import pytest

from dpsc.report import Outcome, RunRecord, Section
from dpsc.report.figures import curves
from dpsc.report.page import number, paragraphs, verdict

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(1)>\'"&{{ 7*7 }}'

OURS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "section", "pre", "code", "details", "summary"}
OURS |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"}


class Page(HTMLParser):
    """Tags and attributes of a page, and the words between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def page(folder: Path, outcome: Outcome, rows: list[dict[str, Any]] | None = None, **more: Any) -> Page:
    facts = {"seed": 7, "device": "cpu", "threads": 1, "configuration": {"text": HOSTILE}}
    record = RunRecord(folder, name=HOSTILE, command=f"python -m experiments.run title={HOSTILE}", **facts)
    record.write(outcome, rows or [], **more)
    record.finish(0)
    return Page((folder / "report.html").read_text())


def test_every_name_is_escaped(tmp_path: Path) -> None:
    outcome = Outcome(
        metrics={HOSTILE: 1.0},
        title=HOSTILE,
        summary=HOSTILE,
        sections=[Section(HOSTILE, HOSTILE, tables=("t",))],
        tables={"t": pandas.DataFrame({HOSTILE: [HOSTILE]}, index=pandas.Index([HOSTILE], name=HOSTILE))},
    )
    rows = [{"name": HOSTILE, "expected": 1.0, "source": HOSTILE}]
    found = page(tmp_path, outcome, rows, not_applicable=[f"title={HOSTILE}"], configuration=HOSTILE, source=HOSTILE)
    assert {tag for tag, _ in found.tags} <= OURS
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert not [attributes for tag, attributes in found.tags if tag == "img"]
    text = "\n".join(found.words)
    # title twice, summary, section, its text, table (header, cell, index, its name), metric, row, source, override, configuration, source, command, record
    assert text.count(HOSTILE) >= 16


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    outcome = Outcome(
        metrics={"cost": 1.0},
        title="t",
        summary="s",
        sections=[Section("x", figures=("loss",))],
        figures={"loss": curves({"a": [1.0]}, x_label="x", y_label="y")},
    )
    found = page(tmp_path, outcome)
    sources = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href", "action", "srcset", "data")]
    assert len(sources) == 1
    assert str(sources[0]).startswith("data:image/png;base64,")
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"url\(|@import|<script|<link", text)
    assert "default-src 'none'" in text


def test_badge_and_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "cost", "expected": 1.0, "tolerance": 0.01, "source": "table 1"},
        {"name": "wins_pct", "expected": 95, "relation": ">=", "source": "table 2"},
        {"name": "gone", "expected": 3.0, "relation": "<=", "source": "table 3"},
    ]
    found = page(tmp_path, Outcome(metrics={"cost": 1.0004, "wins_pct": 97}, title="t", summary="s"), rows)
    assert "✗ 1 of 3 expected numbers missed" in found.words
    shown = [word for word in found.words if word]
    assert {"±0.01", "1.0004", "≥ 95", "97", "≤ 3", "not measured", "table 3"} <= set(shown)
    assert (shown.count("✓"), shown.count("✗")) == (2, 1)


def test_not_applicable_names_the_overrides(tmp_path: Path) -> None:
    rows = [{"name": "cost", "expected": 1.0, "source": "table 1"}]
    found = page(tmp_path, Outcome(metrics={"cost": 2.0}, title="t", summary="s"), rows, not_applicable=["seed=3", "+flow.x=1"])
    assert {"○ expected numbers not applicable", "not applicable", "seed=3", "+flow.x=1", "2"} <= set(found.words)


def test_what_no_section_shows_is_shown_at_the_end(tmp_path: Path) -> None:
    tables = {"shown": pandas.DataFrame({"a": [1]}), "left": pandas.DataFrame({"b": range(1000)})}
    found = page(tmp_path, Outcome(metrics={}, title="t", summary="s", sections=[Section("x", tables=("shown",))], tables=tables))
    assert "More figures and tables" in found.words
    assert "tables/left.csv: the first 50 of 1000 rows" in found.words
    assert "999" not in found.words
    assert found.words.count("tables/shown.csv") == 1


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], ("none", "no expected numbers")),
        ([None, None], ("none", "expected numbers not applicable")),
        ([True, True], ("met", "all 2 expected numbers met")),
        ([True], ("met", "the expected number met")),
        ([True, False], ("missed", "1 of 2 expected numbers missed")),
    ],
)
def test_verdict(verdicts: list[bool | None], expected: tuple[str, str]) -> None:
    assert verdict([{"ok": ok} for ok in verdicts]) == expected


def test_numbers_for_people() -> None:
    assert [number(value) for value in (12, 0.65449999, 1e-9, -3.0, None, "text", True)] == ["12", "0.6545", "1e-09", "-3", "–", "text", "True"]


def test_paragraphs_are_separated_by_blank_lines() -> None:
    assert paragraphs("one\nline\n \n\ntwo  spaces\r\n\r\nthree") == ["one line", "two spaces", "three"]
    assert paragraphs("  \n\n ") == []
