"""What a flow hands to the report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dpsc import checks
from dpsc.errors import InputError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Section:
    """One part of the report page.

    Attributes:
        title: heading.
        text: plain paragraphs separated by blank lines, for a reader who has never seen the code; shown literally, never as HTML.
        figures: keys of `Outcome.figures`, shown in this order.
        tables: keys of `Outcome.tables`, shown in this order.
    """

    title: str
    text: str = ""
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a flow returns.

    Nothing is checked here, so that a slip in one part (a metric that is NaN) cannot lose the others: `RunRecord.write` saves what was
    learned first, then tables and figures, and checks each part when its turn comes.

    Attributes:
        metrics: name -> finite number, the unit in the name where there is one.
        title: title of the page.
        summary: two or three sentences at the top of the page.
        sections: parts of the page, in order.
        tables: name -> data frame; saved as `tables/<name>.csv`.
        figures: name -> figure; saved as `figures/<name>.png`.
        learned: name -> state dict of tensors; saved as `learned/<name>.pt`, read again by `load_learned`.
    """

    metrics: Mapping[str, float]
    title: str
    summary: str
    sections: Sequence[Section] = ()
    tables: Mapping[str, pandas.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    learned: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def file_names(what: str, names: Iterable[str]) -> None:
    """Names that become file names: letters, digits, `_`, `.` and `-`, at most 100, beginning with a letter or a digit."""
    for name in names:
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise InputError(f"{what} must be named with letters, digits, '_', '.' or '-' only (the name becomes a file name), got {name!r}")


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Metrics as plain numbers: zero-dimensional tensors and arrays become Python numbers; anything that is not finite is refused."""
    numbers: dict[str, int | float] = {}
    for name, value in metrics.items():
        number = value.item() if getattr(value, "ndim", None) == 0 else value
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InputError(f"metric {name!r} must be a finite number, got {value!r}")
        numbers[str(name)] = number
    return numbers


def section_keys(outcome: Outcome) -> None:
    """Every figure and table that a section shows must be there."""
    for section in outcome.sections:
        for kind, shown, there in (("figure", section.figures, outcome.figures), ("table", section.tables, outcome.tables)):
            for key in shown:
                if key not in there:
                    known = ", ".join(there) or "(none)"
                    raise InputError(f"section {section.title!r} shows the {kind} {key!r}, expected one of {known}{checks.near(key, there)}")
