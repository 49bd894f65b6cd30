"""The page of a run: one HTML file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsc.report.outcome import Outcome, Section

if TYPE_CHECKING:
    import jinja2
    import pandas

ROWS_SHOWN = 50


def render(
    outcome: Outcome,
    *,
    metrics: Mapping[str, float],
    compared: Sequence[Mapping[str, Any]],
    not_applicable: Sequence[str],
    pictures: Mapping[str, bytes],
    facts: Mapping[str, Any],
    command: str,
    source: str,
    configuration: str,
) -> str:
    """The page as text. Every word of the outcome is escaped.

    Args:
        outcome: of the flow; its figures come as `pictures`.
        metrics: name -> plain number.
        compared: rows of `dpsc.report.compare`.
        not_applicable: the overrides because of which the rows do not apply.
        pictures: figure name -> PNG.
        facts: the record of the run.
        command: repeats the run.
        source: where the problem comes from.
        configuration: the whole configuration as text.
    """
    return _template().render(
        title=outcome.title,
        summary=paragraphs(outcome.summary),
        verdict=verdict(compared),
        compared=compared,
        not_applicable=not_applicable,
        sections=[
            {"title": section.title, "paragraphs": paragraphs(section.text), "figures": section.figures, "tables": section.tables}
            for section in [*outcome.sections, *_rest(outcome)]
        ],
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        tables={name: table_cells(table) for name, table in outcome.tables.items()},
        metrics=metrics,
        facts={key: value if isinstance(value, (str, int, float)) else json.dumps(value, indent=1, ensure_ascii=False) for key, value in facts.items()},
        command=command,
        source=paragraphs(source),
        configuration=configuration,
    )


def verdict(compared: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A word for the style sheet (`met`, `missed`, `none`) and the sentence of the badge."""
    failed, judged = sum(row["ok"] is False for row in compared), sum(row["ok"] is not None for row in compared)
    if not compared:
        return "none", "no expected numbers"
    if not judged:
        return "none", "expected numbers not applicable"
    if failed:
        return "missed", f"{failed} of {judged} expected numbers missed"
    return "met", f"all {judged} expected numbers met" if judged > 1 else "the expected number met"


def paragraphs(text: str) -> list[str]:
    """Blank lines separate paragraphs."""
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def number(value: object) -> str:
    """A number for people: integers whole, others to six digits; None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:d}" if isinstance(value, int) else f"{value:.6g}"


def table_cells(table: pandas.DataFrame) -> dict[str, Any]:
    """A data frame as text, with the columns of numbers told apart; long ones are cut to their first rows."""
    import pandas

    shown = table.head(ROWS_SHOWN)
    with_index = not isinstance(table.index, pandas.RangeIndex)
    numeric = [pandas.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
    header = [*(["" if table.index.name is None else str(table.index.name)] if with_index else []), *map(str, table.columns)]
    body = []
    for label, row in zip(shown.index, shown.itertuples(index=False, name=None), strict=True):
        body.append([*([str(label)] if with_index else []), *("–" if _missing(cell) else number(_plain(cell)) for cell in row)])
    return {"header": header, "numeric": [*([False] if with_index else []), *numeric], "body": body, "shown": len(shown), "rows": len(table)}


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    return environment.get_template("page.html.jinja")


def _plain(cell: object) -> object:
    return cell.item() if getattr(cell, "ndim", None) == 0 else cell  # type: ignore[attr-defined]


def _missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ in ("NAType", "NaTType")


def _rest(outcome: Outcome) -> list[Section]:
    """What no section shows is not lost."""
    figures = tuple(name for name in outcome.figures if not any(name in section.figures for section in outcome.sections))
    tables = tuple(name for name in outcome.tables if not any(name in section.tables for section in outcome.sections))
    return [Section("More figures and tables", figures=figures, tables=tables)] if figures or tables else []
