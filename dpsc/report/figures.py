"""Figures for the report: plain numbers in, a matplotlib figure out, no global state.

Colours are those of Okabe and Ito, which people with colour-blindness can tell apart; lines differ in their dashes as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy
from torch import Tensor

from dpsc.errors import InputError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Tensor | numpy.ndarray | Sequence[float]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
DASHES = ("-", "--", "-.", ":")
INK, FAINT = "#222222", "#D9D9D9"
STRIP_BELOW = 40  # so few values are shown one by one
CELLS_WITH_NUMBERS = 400
NARROWEST_WITH_NUMBER = 0.33  # inches


def distribution(series: Mapping[str, Values], *, label: str) -> Figure:
    """How the values of each series spread: one panel a series on a common axis, with the mean marked.

    Args:
        series: name -> values, one per instance (NaN are left out, and said so).
        label: of the common axis, with its unit.
    """
    cleaned = {name: _finite(name, values) for name, values in _some("series", series).items()}
    figure, panels = axes_grid(len(cleaned), width=7.2, height=0.7 + 1.35 * len(cleaned), share_x=True)
    low, high = min(v.min() for v, _ in cleaned.values()), max(v.max() for v, _ in cleaned.values())
    spread = high - low or max(abs(high), 1.0) * 0.1
    edges = numpy.linspace(low, low + spread, 41)
    for position, (axes, (name, (values, dropped))) in enumerate(zip(panels, cleaned.items(), strict=True)):
        colour = COLOURS[position % len(COLOURS)]
        if len(values) < STRIP_BELOW:
            heights = 0.5 + 0.28 * numpy.sin(2.4 * numpy.arange(len(values)))  # spread without chance, so that a figure can be repeated
            axes.plot(values, heights, "o", color=colour, alpha=0.7, markersize=5, markeredgewidth=0)
            axes.set_ylim(0, 1)
            axes.set_yticks([])
        else:
            axes.hist(values, bins=edges.tolist(), color=colour, alpha=0.75)
            axes.set_ylabel("instances", fontsize=9, color=INK)
        axes.axvline(values.mean(), color=INK, linewidth=1.6)
        note = f"{name}: mean {number(values.mean())}, {len(values)} values" + (f", {dropped} not finite left out" if dropped else "")
        axes.set_title(literal(note), loc="left", fontsize=10, color=INK)
    panels[-1].set_xlim(low - 0.02 * spread, low + 1.02 * spread)
    panels[-1].set_xlabel(literal(label), fontsize=10, color=INK)
    return figure


def scatter_pairs(x: Values, y: Values, *, x_label: str, y_label: str) -> Figure:
    """Two values of each instance against each other, with the diagonal and the share of instances on either side of it."""
    across, up = _array(x_label, x), _array(y_label, y)
    if across.shape != up.shape or across.ndim != 1:
        raise ShapeError(f"{y_label} must have the shape of {x_label}, {across.shape}, with one dimension, got {up.shape}")
    keep = numpy.isfinite(across) & numpy.isfinite(up)
    across, up = across[keep], up[keep]
    if not len(across):
        raise InputError(f"{x_label} and {y_label} must hold at least one pair of finite values, got none")
    figure, (axes,) = axes_grid(1, width=6.0, height=5.6)
    low, high = min(across.min(), up.min()), max(across.max(), up.max())
    margin = 0.04 * (high - low) or 0.1 * max(abs(high), 1.0)
    low, high = low - margin, high + margin
    axes.fill_between([low, high], [low, high], low, color=COLOURS[2], alpha=0.09, linewidth=0)
    axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle="--")
    axes.plot(across, up, "o", color=COLOURS[0], alpha=max(0.15, min(0.8, 30 / len(across) ** 0.5 / 3)), markersize=5, markeredgewidth=0)
    tie = numpy.isclose(across, up, rtol=1e-9, atol=1e-12)
    below, above = float(((up < across) & ~tie).mean()), float(((up > across) & ~tie).mean())
    axes.set_title(
        f"{len(across)} instances: {below:.0%} below the diagonal, {above:.0%} above" + (f", {tie.mean():.0%} on it" if tie.any() else ""),
        loc="left",
        fontsize=10,
        color=INK,
    )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(literal(x_label), fontsize=10, color=INK)
    axes.set_ylabel(literal(y_label), fontsize=10, color=INK)
    return figure


def curves(series: Mapping[str, Values], *, x_label: str, y_label: str) -> Figure:
    """Lines over 1, 2, 3 ... A series of shape (repetitions, steps) becomes its mean in a band from the 10th to the 90th percentile."""
    from matplotlib.ticker import MaxNLocator

    lines = {name: _array(name, values) for name, values in _some("series", series).items()}
    figure, (axes,) = axes_grid(1, width=7.2, height=4.0)
    for position, (name, values) in enumerate(lines.items()):
        if values.ndim not in (1, 2) or not values.size:
            raise ShapeError(f"{name} must have shape (steps,) or (repetitions, steps), neither empty, got {values.shape}")
        colour, dash = COLOURS[position % len(COLOURS)], DASHES[position % len(DASHES)]
        steps = numpy.arange(1, values.shape[-1] + 1)
        if values.ndim == 2:
            lower, upper = numpy.quantile(values, [0.1, 0.9], axis=0)
            axes.fill_between(steps, lower, upper, color=colour, alpha=0.15, linewidth=0)
            values = values.mean(axis=0)
        axes.plot(steps, values, color=colour, linestyle=dash, linewidth=1.8, marker="o" if len(steps) == 1 else "", label=literal(name))
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    else:
        axes.set_title(literal(next(iter(lines))), loc="left", fontsize=10, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(literal(x_label), fontsize=10, color=INK)
    axes.set_ylabel(literal(y_label), fontsize=10, color=INK)
    return figure


def matrices(named: Mapping[str, Values], *, row_names: Sequence[str], column_names: Sequence[str]) -> Figure:
    """Matrices side by side (learned weights, sensitivities) on one colour scale, with the numbers in the cells where they fit."""
    grids = {name: _array(name, values) for name, values in _some("named", named).items()}
    shape = (len(row_names), len(column_names))
    for name, values in grids.items():
        if values.shape != shape:
            raise ShapeError(f"{name} must have shape (row_names, column_names) = {shape}, got {values.shape}")
    largest = max((float(numpy.abs(values[numpy.isfinite(values)]).max(initial=0.0)) for values in grids.values()), default=0.0) or 1.0
    wide = min(4.0, max(1.7, 0.44 * shape[1] + 0.3))
    tall = min(7.0, max(1.9, 0.38 * shape[0] + 1.3))
    columns = min(len(grids), max(1, int(8.4 // wide)))
    rows = -(-len(grids) // columns)
    figure, panels = axes_grid(len(grids), width=wide * columns + 1.6, height=tall * rows, columns=columns, grid=False)
    for position, (axes, (name, values)) in enumerate(zip(panels, grids.items(), strict=True)):
        picture = axes.imshow(values, cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto")
        axes.set_title(literal(name), loc="left", fontsize=10, color=INK)
        every = -(-shape[1] // 12) if wide / shape[1] < NARROWEST_WITH_NUMBER else 1  # as many names as there is room for
        names = [literal(column) for column in column_names[::every]]
        axes.set_xticks(range(0, shape[1], every), names, fontsize=8, rotation=0 if max(map(len, column_names), default=0) <= 6 else 40)
        axes.set_yticks([] if position % columns else range(shape[0]), [] if position % columns else [literal(row) for row in row_names], fontsize=8)
        if values.size <= CELLS_WITH_NUMBERS and wide / shape[1] >= NARROWEST_WITH_NUMBER:
            for (row, column), value in numpy.ndenumerate(values):
                ink = "white" if abs(value) > 0.5 * largest else INK
                axes.text(column, row, f"{value:.2g}" if abs(value) < 0.01 and value else f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    bar = figure.colorbar(picture, ax=panels, shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def intervals(rows: Mapping[str, tuple[float, float, float]], *, label: str) -> Figure:
    """Estimates with their confidence intervals, one a line.

    Args:
        rows: name -> (mean, low, high).
        label: of the axis, with its unit and the level of the intervals.
    """
    triples = {name: _array(name, triple) for name, triple in _some("rows", rows).items()}
    for name, triple in triples.items():
        if triple.shape != (3,) or not triple[1] <= triple[0] <= triple[2]:
            raise InputError(f"{name} must be (mean, low, high) with low <= mean <= high, got {tuple(triple)}")
    figure, (axes,) = axes_grid(1, width=7.2, height=0.9 + 0.45 * len(triples))
    for position, (mean, low, high) in enumerate(triples.values()):
        axes.plot([low, high], [position, position], color=COLOURS[0], linewidth=2.2, solid_capstyle="butt", alpha=0.6)
        axes.plot([low, high], [position, position], "|", color=COLOURS[0], markersize=9)
        axes.plot([mean], [position], "o", color=COLOURS[0], markersize=6)
        axes.annotate(
            f"{number(mean)}  [{number(low)}, {number(high)}]",
            (1.01, position),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=INK,
            annotation_clip=False,
        )
    lowest, highest = axes.get_xlim()
    if lowest <= 0 <= highest:
        axes.axvline(0, color=INK, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(triples)), [literal(name) for name in triples], fontsize=9)
    axes.set_ylim(len(triples) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(literal(label), fontsize=10, color=INK)
    return figure


def axes_grid(count: int, *, width: float, height: float, columns: int = 1, share_x: bool = False, grid: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes, in the house look."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    made = figure.subplots(-(-count // columns), columns, sharex=share_x, squeeze=False).ravel().tolist()
    for axes in made:
        for side in ("top", "right", *(() if grid else ("left", "bottom"))):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#888888")
        axes.tick_params(colors=INK, labelsize=9, length=3 if grid else 0)
        axes.set_axisbelow(True)
        if grid:
            axes.grid(color=FAINT, linewidth=0.6)
    for unused in made[count:]:
        unused.set_visible(False)
    return figure, made[:count]


def _some(what: str, named: Mapping[str, Any]) -> Mapping[str, Any]:
    if not named:
        raise InputError(f"{what} must hold at least one entry, got none")
    return named


def _array(name: str, values: Values) -> numpy.ndarray:
    """Float64 on the CPU, whatever came."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        return numpy.asarray(values, dtype=numpy.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must hold numbers, got {type(values).__name__}") from None


def _finite(name: str, values: Values) -> tuple[numpy.ndarray, int]:
    array = _array(name, values).ravel()
    kept = array[numpy.isfinite(array)]
    if not len(kept):
        raise InputError(f"{name} must hold at least one finite value, got {len(array)} values")
    return kept, len(array) - len(kept)


def literal(words: str) -> str:
    """Words as they stand: matplotlib would set what is between two dollar signs as a formula."""
    return words.replace("$", r"\$")


def number(value: float) -> str:
    """Four digits, and no powers of ten where whole numbers will do: 0.01234, 67306, 100560."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
