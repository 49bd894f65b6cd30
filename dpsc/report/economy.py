"""Figures of economies under shock: forecasts with bands, output by sector, who supplies whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy

from dpsc.errors import InputError, ShapeError
from dpsc.report.figures import COLOURS, DASHES, INK, Values, _array, _some, axes_grid, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 90  # around a map, legible without overlap


class Band(NamedTuple):
    """Low, middle and high over time, each `(T,)`."""

    low: Values
    middle: Values
    high: Values


def band(draws: Values, level: float = 0.9) -> Band:
    """The median of draws `(T, B)` with the central interval of a level."""
    values = _array("draws", draws)
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"draws must have shape (T, B), neither empty, got {values.shape}")
    low, middle, high = numpy.quantile(values, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1)
    return Band(low, middle, high)


def forecast(
    panels: Mapping[str, Mapping[str, Band]],
    *,
    days: Sequence[date],
    points: Mapping[str, Mapping[str, tuple[Sequence[date], Values]]],
    origin: date,
    y_label: str,
) -> Figure:
    """Bands over days against what was observed, with the day after which nothing was used.

    Args:
        panels: one panel each -> name of a run -> its band over `days`.
        days: T.
        points: panel -> name -> days and values that were observed; the first kind is filled, the others are hollow.
        origin: last day of the data that were used.
        y_label: of the common axis, with its unit.
    """
    from matplotlib.dates import ConciseDateFormatter, MonthLocator, date2num

    figure, made = axes_grid(len(_some("panels", panels)), width=8.4, height=0.5 + 3.0 * len(panels), share_x=True)
    when = numpy.array(days, dtype="datetime64[D]")
    for axes, (title, runs) in zip(made, panels.items(), strict=True):
        for position, (name, (low, middle, high)) in enumerate(runs.items()):
            colour = COLOURS[position % len(COLOURS)]
            axes.fill_between(when, _line(name, low, len(when)), _line(name, high, len(when)), color=colour, alpha=0.18, linewidth=0)
            axes.plot(when, _line(name, middle, len(when)), color=colour, linestyle=DASHES[position % len(DASHES)], linewidth=1.8, label=literal(name))
        for position, (name, (seen, values)) in enumerate(points.get(title, {}).items()):
            filled = INK if position == 0 else "white"
            at = numpy.array(seen, dtype="datetime64[D]")
            axes.plot(at, _array(name, values), "o", color=INK, markerfacecolor=filled, markersize=5.5, zorder=5, label=literal(name))
        axes.axvline(date2num(origin), color="#888888", linewidth=1.2, linestyle=":")
        axes.set_title(literal(title), loc="left", fontsize=10, color=INK)
        axes.set_ylabel(literal(y_label), fontsize=10, color=INK)
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right", ncols=2)
        locator = MonthLocator(interval=max(1, len(when) // 330))
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return figure


def cascades(sectors: Mapping[str, Mapping[str, Band]], *, x: Sequence[date] | Values, x_label: str, y_label: str, columns: int = 3) -> Figure:
    """Output of sectors over time, a small panel each on common axes, a band a run.

    Args:
        sectors: name -> run -> band over `x`.
        x: T days or periods.
        x_label: of the time axis; empty for days.
        y_label: of output, with its unit.
        columns: of panels.
    """
    dated = len(x) > 0 and isinstance(x[0], date)
    across = numpy.array(x, dtype="datetime64[D]") if dated else _array("x", numpy.asarray(x))
    rows = -(-len(_some("sectors", sectors)) // columns)
    figure, made = axes_grid(len(sectors), width=9.2, height=0.7 + 1.55 * rows, columns=columns, share_x=True)
    everything = [_array(name, edge) for name, runs in sectors.items() for one in runs.values() for edge in one]
    low, high = min(v.min() for v in everything), max(v.max() for v in everything)
    margin = 0.05 * (high - low or 1.0)
    for number, (axes, (name, runs)) in enumerate(zip(made, sectors.items(), strict=True)):
        for position, (run, (below, middle, above)) in enumerate(runs.items()):
            colour = COLOURS[position % len(COLOURS)]
            axes.fill_between(across, _line(name, below, len(across)), _line(name, above, len(across)), color=colour, alpha=0.2, linewidth=0)
            axes.plot(across, _line(name, middle, len(across)), color=colour, linestyle=DASHES[position % len(DASHES)], linewidth=1.5, label=literal(run))
        axes.set_title(literal(name if len(name) <= 34 else name[:33] + "…"), loc="left", fontsize=9, color=INK)
        axes.set_ylim(low - margin, high + margin)
        if number % columns:
            axes.tick_params(labelleft=False)
        if number + columns >= len(sectors):  # nothing stands below it
            axes.tick_params(labelbottom=True)
        if dated:
            _quarters(axes)
        elif number + columns >= len(sectors):
            axes.set_xlabel(literal(x_label), fontsize=9, color=INK)
    figure.supylabel(literal(y_label), fontsize=10, color=INK)
    if len(next(iter(sectors.values()))) > 1:
        handles, names = made[0].get_legend_handles_labels()
        figure.legend(handles, names, frameon=False, fontsize=9, labelcolor=INK, loc="outside upper center", ncols=len(names))
    return figure


def panels(parts: Sequence[tuple[str, Mapping[str, Band]]], *, x: Values, x_label: str, columns: int = 2) -> Figure:
    """Bands of different quantities beside each other, each on an axis of its own; a run keeps its colour and dash in all of them.

    Args:
        parts: label of the quantity with its unit, and run -> band over `x`; one panel each.
        x: T periods.
        x_label: of the time axis.
        columns: of panels.
    """
    across = _array("x", x)
    runs = list(dict.fromkeys(run for _, named in parts for run in _some("parts", named)))
    count = len(_some("parts", dict(parts)))
    columns = min(columns, count)
    figure, made = axes_grid(count, width=4.3 * columns + 0.6, height=0.5 + 2.7 * -(-count // columns), columns=columns)
    for axes, (label, named) in zip(made, parts, strict=True):
        for run, (low, middle, high) in named.items():
            position = runs.index(run)
            colour = COLOURS[position % len(COLOURS)]
            axes.fill_between(across, _line(run, low, len(across)), _line(run, high, len(across)), color=colour, alpha=0.2, linewidth=0)
            axes.plot(across, _line(run, middle, len(across)), color=colour, linestyle=DASHES[position % len(DASHES)], linewidth=1.6, label=literal(run))
        axes.set_title(literal(label), loc="left", fontsize=9.5, color=INK)
        axes.set_xlabel(literal(x_label), fontsize=9, color=INK)
        if len(named) > 1:
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="best")
    return figure


def network_map(
    supplier: Values,
    buyer: Values,
    flow: Values,
    *,
    sector: Values,
    sector_names: Sequence[str],
    size: Values,
    value: Values,
    value_label: str,
    size_label: str = "output",
    edges: int = 250,
) -> Figure:
    """Firms around the place of their sector on a circle, the largest flows between them as curves, coloured by a value.

    Args:
        supplier: `(E,)` firm that sells.
        buyer: `(E,)` firm that buys.
        flow: `(E,)`; the largest `edges` of them are drawn, wider where they are larger.
        sector: `(M,)` sector of a firm.
        sector_names: N.
        size: `(M,)`, for example output; the area of a firm.
        value: `(M,)`, for example output lost; its colour.
        value_label: of the colours, with the unit.
        size_label: of the areas.
        edges: how many to draw.
    """
    from matplotlib.collections import LineCollection

    home, area, colour = _array("sector", sector).astype(int), _array("size", size), _array("value", value)
    if not home.shape == area.shape == colour.shape or home.ndim != 1:
        raise ShapeError(f"sector, size and value must share one shape (M,), got {home.shape}, {area.shape} and {colour.shape}")
    if not len(home) or home.min() < 0 or home.max() >= len(sector_names):
        raise InputError(f"sector must hold numbers from 0 to {len(sector_names) - 1}, one a firm, got {len(home)} of them")
    count = numpy.bincount(home, minlength=len(sector_names))
    angle = numpy.pi / 2 - 2 * numpy.pi * numpy.arange(len(sector_names)) / len(sector_names)
    centre = numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1)
    room = min(0.30, 0.85 * numpy.pi / max(len(sector_names), 2))  # half the distance between neighbours
    place = numpy.zeros((len(home), 2))
    for s in range(len(sector_names)):  # a sunflower: equal area a firm, the largest in the middle
        members = numpy.flatnonzero(home == s)
        members = members[numpy.argsort(-area[members])]
        k = numpy.arange(len(members))
        radius = 0.75 * room * numpy.sqrt(k / max(len(members), 1)) if len(members) > 1 else 0 * k
        turn = k * numpy.pi * (3 - 5**0.5)
        place[members] = centre[s] + radius[:, None] * numpy.stack([numpy.cos(turn), numpy.sin(turn)], 1)
    figure, (axes,) = axes_grid(1, width=8.2, height=7.4, grid=False)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    start, end, amount = _array("supplier", supplier).astype(int), _array("buyer", buyer).astype(int), _array("flow", flow)
    others = numpy.flatnonzero(start != end)
    kept = others[numpy.argsort(-amount[others])[:edges]][::-1]
    if len(kept):
        t = numpy.linspace(0, 1, 24)[:, None]
        curves = [
            (1 - t) ** 2 * place[i] + 2 * t * (1 - t) * 0.35 * (place[i] + place[j]) / 2 + t**2 * place[j] for i, j in zip(start[kept], end[kept], strict=True)
        ]
        strength = numpy.sqrt(amount[kept] / amount[kept].max())
        axes.add_collection(LineCollection(curves, linewidths=0.3 + 2.2 * strength, colors=[(0.35, 0.35, 0.35, 0.12 + 0.38 * s) for s in strength], zorder=1))
    largest = 320 if len(home) <= 80 else max(18.0, 9000 / len(home))
    picture = axes.scatter(
        place[:, 0], place[:, 1], s=6 + largest * area / area.max(), c=colour, cmap="viridis_r", edgecolors="white", linewidths=0.5, zorder=3
    )
    for s, name in _labels(sector_names, count, numpy.bincount(home, area, minlength=len(sector_names))):
        if count[s]:
            outer = 1 + room + 0.02
            flip = numpy.cos(angle[s]) < -1e-9
            axes.text(
                outer * numpy.cos(angle[s]),
                outer * numpy.sin(angle[s]),
                literal(name if len(name) <= 22 else name[:21] + "…"),
                rotation=float(numpy.degrees(angle[s])) + (180 if flip else 0) if len(sector_names) > 14 else 0,
                rotation_mode="anchor",
                ha="right" if flip else "left" if numpy.cos(angle[s]) > 1e-9 or len(sector_names) > 14 else "center",
                va="center" if len(sector_names) > 14 or abs(numpy.cos(angle[s])) > 1e-9 else "bottom" if numpy.sin(angle[s]) > 0 else "top",
                fontsize=8 if len(sector_names) <= 40 else 6.5,
                color=INK,
            )
    longest = max((len(name) for s, name in _labels(sector_names, count, numpy.bincount(home, area, minlength=len(sector_names)))), default=0)
    edge = 1.04 + room + 0.018 * min(longest, 22)
    axes.set_xlim(-edge - 0.08, edge + 0.08)
    axes.set_ylim(-edge if len(sector_names) > 14 else -1.1 - room, edge if len(sector_names) > 14 else 1.1 + room)
    drawn = f"the {len(kept)} largest flows" if len(kept) < len(others) else "flows"
    axes.set_xlabel(literal(f"area of a dot: {size_label}; lines: {drawn}, wider and darker where larger"), fontsize=9, color=INK)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label(literal(value_label), fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _labels(names: Sequence[str], count: numpy.ndarray, size: numpy.ndarray) -> list[tuple[int, str]]:
    """Place and words of labels around a map: all sectors; if too many, their regions (before a hyphen) where these lie together, else the largest."""
    there = [s for s in range(len(names)) if count[s]]
    if len(there) <= MOST_LABELS:
        return [(s, names[s]) for s in there]
    regions: dict[str, list[int]] = {}
    for s in there:
        regions.setdefault(names[s].partition("-")[0], []).append(s)
    if len(regions) <= MOST_LABELS and all(part[-1] - part[0] < 1.5 * len(part) for part in regions.values()):
        return [(part[len(part) // 2], region) for region, part in regions.items()]
    return [(s, names[s]) for s in sorted(sorted(there, key=lambda s: -size[s])[: MOST_LABELS // 3])]


def _line(name: str, values: Values, length: int) -> numpy.ndarray:
    array = _array(name, values)
    if array.shape != (length,):
        raise ShapeError(f"{name} must have shape (T,) = ({length},), got {array.shape}")
    return array


def _quarters(axes: Axes) -> None:
    from matplotlib.dates import ConciseDateFormatter, MonthLocator

    locator = MonthLocator(bymonth=(1, 4, 7, 10))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(axis="x", labelsize=8)
