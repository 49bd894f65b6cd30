"""Search curves: the best value so far against evaluations and against seconds, several methods in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy

from dpsc.errors import InputError, ShapeError
from dpsc.report.figures import COLOURS, DASHES, INK, axes_grid, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE_MARKERS = "osD^vP*X"


class SearchTrace(NamedTuple):
    """What a search found and when: three sequences of one length, in the order of the evaluations.

    Attributes:
        evaluations: evaluations of the objective done so far, >= 1, not falling.
        seconds: spent so far, >= 0, not falling.
        value: found then; the figure shows the smallest so far, so values of every evaluation may be given.
    """

    evaluations: Sequence[float]
    seconds: Sequence[float]
    value: Sequence[float]


def search_curves(
    problems: Mapping[str, Mapping[str, SearchTrace]], *, label: str, best_known: Mapping[str, float] | None = None, known_label: str = "best known"
) -> Figure:
    """One row a problem; on the left the best value so far against evaluations, on the right against seconds, both axes logarithmic.

    Args:
        problems: problem -> method -> its trace. A method keeps its colour and dash in all rows.
        label: of the value, with its unit.
        best_known: problem -> a known value to draw as a line (an optimum, the best of a long run).
        known_label: what that is.
    Raises: InputError, ShapeError for an empty or ragged trace, or values that are not finite or run backwards.
    """
    if not problems:
        raise InputError("problems must hold at least one entry, got none")
    traces = {problem: {method: _trace(f"{method} on {problem}", t) for method, t in methods.items()} for problem, methods in problems.items()}
    for problem, methods in traces.items():
        if not methods:
            raise InputError(f"{problem} must hold at least one method, got none")
    names = list(dict.fromkeys(method for methods in traces.values() for method in methods))
    figure, axes_list = axes_grid(2 * len(traces), width=10.0, height=0.9 + 2.7 * len(traces), columns=2)
    for row, (problem, methods) in enumerate(traces.items()):
        known = (best_known or {}).get(problem)
        by_count, by_second = axes_list[2 * row : 2 * row + 2]
        for method, (evaluations, seconds, value) in methods.items():
            _draw(by_count, evaluations, value, names.index(method), method)
            _draw(by_second, seconds.clip(1e-3), value, names.index(method), method)
        lowest = min(float(value[-1]) for _, _, value in methods.values())
        for axes in (by_count, by_second):
            axes.set_xscale("log")
            _plain_across(axes)
            if known is not None:
                axes.axhline(known, color=INK, linewidth=1, linestyle=":", label=literal(known_label))
            if min(lowest, lowest if known is None else known) > 0 and max(float(value[0]) for _, _, value in methods.values()) > 0:
                _log_values(axes)
        by_count.set_title(literal(problem), loc="left", fontsize=10, color=INK)
        by_count.set_ylabel(literal(label), fontsize=9, color=INK)
        by_second.sharey(by_count)
    axes_list[-2].set_xlabel("evaluations", fontsize=10, color=INK)
    axes_list[-1].set_xlabel("seconds", fontsize=10, color=INK)
    handles = {handle.get_label(): handle for axes in axes_list for handle in axes.get_lines()}
    figure.legend(handles=list(handles.values()), loc="outside right upper", frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _draw(axes: Axes, across: numpy.ndarray, value: numpy.ndarray, place: int, method: str) -> None:
    axes.plot(
        across,
        value,
        drawstyle="steps-post",
        color=COLOURS[place % len(COLOURS)],
        linestyle=DASHES[place % len(DASHES)],
        linewidth=1.7,
        marker=CURVE_MARKERS[place % len(CURVE_MARKERS)],
        markevery=[len(value) - 1],
        markersize=6,
        label=literal(method),
    )


def _plain_across(axes: Axes) -> None:
    """Plain numbers below, few enough to stand apart; matplotlib would set 2 x 10^1 beside 3 x 10^1 where there are less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,), numticks=9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _log_values(axes: Axes) -> None:
    """A logarithmic axis with plain numbers, however small its range is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high / low > 4 else tuple(numpy.arange(1, 10, 0.5 if high / low > 1.5 else 0.1).tolist()), numticks=8)
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _trace(name: str, trace: SearchTrace) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Arrays, the value as the smallest so far."""
    evaluations, seconds, value = (numpy.asarray(list(part), dtype=numpy.float64) for part in trace)
    if not len(value) or len(evaluations) != len(value) or len(seconds) != len(value):
        raise ShapeError(
            f"the trace of {name} must have as many evaluations and seconds as values, at least one, got {len(evaluations)}, {len(seconds)}, {len(value)}"
        )
    for word, part, low in (("evaluations", evaluations, 1.0), ("seconds", seconds, 0.0)):
        if not numpy.isfinite(part).all() or part.min() < low or (numpy.diff(part) < 0).any():
            raise InputError(f"the {word} of {name} must be finite, >= {low:g} and not fall, got {part[:6].tolist()} ...")
    if not numpy.isfinite(value).all():
        raise InputError(f"the values of {name} must be finite, got {value[~numpy.isfinite(value)][0]}")
    return evaluations, seconds, numpy.minimum.accumulate(value)
