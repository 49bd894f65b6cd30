"""Figures of a simulated inventory: trajectories with bands, what the cost is made of, how it spreads, and the surface of a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy

from dpsc import checks
from dpsc.errors import InputError, ShapeError
from dpsc.report.figures import COLOURS, DASHES, INK, Values, axes_grid, literal, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def trajectories(
    series: Mapping[str, Mapping[str, Values]], *, x_label: str, bands: Sequence[float] = (0.1, 0.25), first: int = 0, each: str = "futures"
) -> Figure:
    """How stock, orders, sales ... move: the median future in bands of quantiles, one panel a quantity on a common time axis.

    Args:
        series: quantity with its unit -> policy -> `(T, S)` periods x futures.
        x_label: of the time axis, with its unit.
        bands: lower quantiles q in (0, 1/2), the widest band first; each is drawn from q to 1 - q.
        first: number of the first period.
        each: what the S columns are.
    Raises: InputError, ShapeError.
    """
    panels = {
        quantity: {name: _table(f"{quantity}, {name}", values) for name, values in _named("a quantity", lines).items()} for quantity, lines in series.items()
    }
    _named("series", panels)
    if not bands or any(not 0 < q < 0.5 for q in bands):
        raise InputError(f"bands must be quantiles strictly between 0 and 1/2, got {tuple(bands)}")
    policies = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure, axes_list = axes_grid(len(panels), width=7.6, height=0.9 + 1.75 * len(panels), share_x=True)
    for axes, (quantity, lines) in zip(axes_list, panels.items(), strict=True):
        for name, values in lines.items():
            place = policies.index(name)
            colour, dash = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
            period = numpy.arange(first, first + len(values))
            for q in bands:
                low, high = numpy.quantile(values, [q, 1 - q], axis=1)
                axes.fill_between(period, low, high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(period, numpy.median(values, axis=1), color=colour, linestyle=dash, linewidth=1.7, label=literal(name))
        axes.set_title(literal(quantity), loc="left", fontsize=10, color=INK)
    words = ", ".join(f"{100 * q:g} to {100 * (1 - q):g}" for q in bands)
    axes_list[-1].set_xlabel(literal(f"{x_label}   (line: median; bands: {words} % of the {each})"), fontsize=9, color=INK)
    if len(policies) > 1:
        handles = {handle.get_label(): handle for axes in axes_list for handle in axes.get_lines()}
        figure.legend(handles=list(handles.values()), loc="outside upper right", ncols=min(len(policies), 4), frameon=False, fontsize=9, labelcolor=INK)
    return figure


def cost_breakdown(costs: Mapping[str, Mapping[str, float]], *, label: str) -> Figure:
    """What the cost of each policy is made of: one stacked bar a policy, the total behind it. Negative parts (revenue) are stacked to the left of zero.

    Args:
        costs: policy -> component -> mean cost.
        label: of the axis, with its unit.
    Raises: InputError for no policy, no component or a number that is not finite.
    """
    rows = {policy: {part: float(value) for part, value in _named("a policy", parts).items()} for policy, parts in _named("costs", costs).items()}
    for policy, parts in rows.items():
        for part, value in parts.items():
            if not numpy.isfinite(value):
                raise InputError(f"{part} of {policy} must be finite, got {value}")
    components = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    figure, (axes,) = axes_grid(1, width=7.6, height=1.5 + 0.5 * len(rows))
    right, left = numpy.zeros(len(rows)), numpy.zeros(len(rows))
    for place, part in enumerate(components):
        lengths = numpy.array([parts.get(part, 0.0) for parts in rows.values()])
        start = numpy.where(lengths >= 0, right, left)
        axes.barh(
            range(len(rows)),
            lengths,
            left=start,
            height=0.6,
            color=COLOURS[place % len(COLOURS)],
            hatch="//" if place >= len(COLOURS) else None,
            edgecolor="white",
            linewidth=0.8,
            label=literal(part),
        )
        right, left = right + numpy.maximum(lengths, 0), left + numpy.minimum(lengths, 0)
    span = max(float((right - left).max()), 1e-300)
    for line, parts in enumerate(rows.values()):
        axes.text(right[line] + 0.015 * span, line, number(sum(parts.values())), va="center", fontsize=9, color=INK)
    low, high = float(left.min()), float(right.max())
    axes.set_xlim(low - 0.03 * span if low < 0 else 0.0, high + 0.14 * span)
    if low < 0:
        axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [literal(policy) for policy in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(literal(label), fontsize=10, color=INK)
    figure.legend(loc="outside upper left", ncols=min(len(components), 5), frameon=False, fontsize=9, labelcolor=INK)
    return figure


def cost_distribution(costs: Mapping[str, Values], *, label: str, level: float = 0.75, each: str = "futures") -> Figure:
    """How the cost of each policy spreads over futures, with its mean, its quantile and its conditional value at risk (the mean of the worst futures).

    Args:
        costs: policy -> cost of each future.
        label: of the axis, with its unit.
        level: of both risk measures, in (0, 1); .75 marks P75 and the mean of the worst quarter.
        each: what a cost is of.
    Raises: InputError, ShapeError.
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie strictly between 0 and 1, got {level!r}")
    sorted_costs = {name: numpy.sort(_finite(name, values, 1)) for name, values in _named("costs", costs).items()}
    low, high = min(v[0] for v in sorted_costs.values()), max(v[-1] for v in sorted_costs.values())
    spread = high - low or 0.1 * max(abs(high), 1.0)
    figure, panels = axes_grid(len(sorted_costs), width=7.6, height=0.9 + 1.55 * len(sorted_costs), share_x=True)
    percent = f"{100 * level:g}"
    for place, (axes, (name, values)) in enumerate(zip(panels, sorted_costs.items(), strict=True)):
        axes.hist(values, bins=numpy.linspace(low, low + spread, 61).tolist(), color=COLOURS[place % len(COLOURS)], alpha=0.65)
        share = (numpy.arange(1, len(values) + 1) - level * len(values)).clip(0, 1)
        marks = {"mean": values.mean(), f"P{percent}": numpy.quantile(values, level), f"CVaR{percent}": (values * share).sum() / share.sum()}
        for dash, (word, value) in zip(("-", "--", ":"), marks.items(), strict=True):
            axes.axvline(value, color=INK, linestyle=dash, linewidth=1.5, label=f"{word} {number(value)}")
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper right")
        axes.set_title(literal(f"{name}, {len(values)} {each}"), loc="left", fontsize=10, color=INK)
        axes.set_ylabel(literal(each), fontsize=9, color=INK)
    panels[-1].set_xlim(low - 0.02 * spread, low + 1.02 * spread)
    panels[-1].set_xlabel(literal(label), fontsize=10, color=INK)
    return figure


def policy_surface(orders: Mapping[str, Values], *, x: Values, y: Values, x_label: str, y_label: str, label: str) -> Figure:
    """What a policy orders as a function of two state variables: one heat map a policy, on one colour scale.

    Args:
        orders: policy -> `(len(y), len(x))` orders.
        x: the state variable across, ascending.
        y: the state variable upwards, ascending.
        x_label: of x, with its unit.
        y_label: of y, with its unit.
        label: of the colours, with its unit.
    Raises: InputError, ShapeError.
    """
    across, up = _finite("x", x, 1), _finite("y", y, 1)
    for name, values in (("x", across), ("y", up)):
        if len(values) < 2 or (numpy.diff(values) <= 0).any():
            raise InputError(f"{name} must hold at least two ascending values, got {values[:6].tolist()}")
    maps = {name: _finite(name, values, 2) for name, values in _named("orders", orders).items()}
    for name, values in maps.items():
        if values.shape != (len(up), len(across)):
            raise ShapeError(f"{name} must have shape (len(y), len(x)) = {(len(up), len(across))}, got {values.shape}")
    low, high = min(v.min() for v in maps.values()), max(v.max() for v in maps.values())
    columns = min(len(maps), 3)
    figure, panels = axes_grid(len(maps), width=1.4 + 3.2 * columns, height=3.3 * -(-len(maps) // columns), columns=columns, grid=False)
    for place, (axes, (name, values)) in enumerate(zip(panels, maps.items(), strict=True)):
        picture = axes.pcolormesh(across, up, values, cmap="cividis", vmin=low, vmax=high if high > low else low + 1, shading="nearest", rasterized=True)
        if values.max() > values.min():
            lines = axes.contour(across, up, values, levels=5, colors="white", linewidths=0.6, alpha=0.7)
            axes.clabel(lines, fontsize=7, fmt="%.3g")
        axes.set_title(literal(name), loc="left", fontsize=10, color=INK)
        axes.set_xlabel(literal(x_label), fontsize=9, color=INK)
        if place % columns == 0:
            axes.set_ylabel(literal(y_label), fontsize=9, color=INK)
    bar = figure.colorbar(picture, ax=panels, pad=0.02)
    bar.set_label(literal(label), fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _named(what: str, mapping: Mapping[str, object]) -> Mapping:
    if not mapping:
        raise InputError(f"{what} must hold at least one entry, got none")
    return mapping


def _table(name: str, values: Values) -> numpy.ndarray:
    table = _finite(name, values, 2)
    if not table.size:
        raise ShapeError(f"{name} must have shape (T, S) with at least one period and one future, got {table.shape}")
    return table


def _finite(name: str, values: Values, dimensions: int) -> numpy.ndarray:
    """Float64 on the CPU, all finite, of so many dimensions."""
    import torch

    tensor = values.detach().cpu().double() if isinstance(values, torch.Tensor) else torch.as_tensor(numpy.asarray(values, dtype=numpy.float64))
    if tensor.dim() != dimensions or not tensor.numel():
        raise ShapeError(f"{name} must have {dimensions} dimension{'s' if dimensions > 1 else ''} and not be empty, got shape {tuple(tensor.shape)}")
    checks.finite(name, tensor)
    return tensor.numpy()
