"""Figures about posteriors: coverage, ranks, prior against posterior, what the data can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy
from torch import Tensor

from dpsc.errors import InputError
from dpsc.report.figures import COLOURS, DASHES, FAINT, INK, axes_grid, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def coverage_curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Measured coverage against the nominal one; on the diagonal the intervals keep their promise.

    Args:
        series: name -> (nominal levels, measured shares).
    """
    if not series:
        raise InputError("series must hold at least one curve, got none")
    figure, (axes,) = axes_grid(1, width=5.6, height=4.8)
    low = min(min(*levels, *shares) for levels, shares in series.values()) - 0.05
    axes.plot([low, 1], [low, 1], color=INK, linewidth=1, linestyle="--")
    axes.fill_between([low, 1], [low - 0.05, 0.95], [low + 0.05, 1.05], color=FAINT, alpha=0.5, linewidth=0)
    for position, (name, (levels, shares)) in enumerate(series.items()):
        axes.plot(levels, shares, DASHES[position % len(DASHES)], marker="o", markersize=5, color=COLOURS[position % len(COLOURS)], label=literal(name))
    axes.set(xlim=(low, 1), ylim=(low, 1))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left")
    axes.set_title("band: five points either way", loc="left", fontsize=10, color=INK)
    axes.set_xlabel("nominal level of the interval", fontsize=10, color=INK)
    axes.set_ylabel("share of true values inside", fontsize=10, color=INK)
    return figure


def rank_histograms(counts: Mapping[str, Sequence[float]]) -> Figure:
    """Histograms of the rank of the truth, with the range in which 99 % of the bars of a uniform law lie.

    Args:
        counts: name -> data sets in each bin.
    """
    if not counts:
        raise InputError("counts must hold at least one histogram, got none")
    from scipy.stats import binom

    figure, panels = axes_grid(len(counts), width=3.4 * len(counts) + 0.4, height=3.0, columns=len(counts))
    for position, (axes, (name, bars)) in enumerate(zip(panels, counts.items(), strict=True)):
        total, bins = int(sum(bars)), len(bars)
        low, high = binom.ppf([0.005, 0.995], total, 1 / bins)
        axes.axhspan(low, high, color=FAINT, alpha=0.7, linewidth=0)
        axes.axhline(total / bins, color=INK, linewidth=1, linestyle="--")
        axes.bar(numpy.arange(bins), bars, width=0.85, color=COLOURS[position % len(COLOURS)], alpha=0.85)
        axes.set_title(literal(name), loc="left", fontsize=10, color=INK)
        axes.set_xticks([0, bins - 1], ["lowest", "highest"])
        axes.set_xlabel("rank of the truth", fontsize=10, color=INK)
        if not position:
            axes.set_ylabel("data sets", fontsize=10, color=INK)
    return figure


def prior_and_posterior(members: Tensor, truth: Tensor, contraction: Tensor, *, labels: Mapping[str, slice], shown: int = 30) -> Figure:
    """Each kind of parameter in a panel, the firms that the data say most about first: prior band, posterior interval, truth.

    Args:
        members: `(D, R)` coordinates of posterior draws.
        truth: `(D,)`.
        contraction: `(D,)` 1 - posterior standard deviation, by which the firms are ordered.
        labels: kind -> its rows.
        shown: firms a panel.
    """
    if not labels:
        raise InputError("labels must name at least one kind of parameter, got none")
    figure, panels = axes_grid(len(labels), width=8.4, height=2.7 * len(labels) + 0.7)
    for position, (axes, (name, rows)) in enumerate(zip(panels, labels.items(), strict=True)):
        order = contraction[rows].argsort(descending=True)[:shown].cpu()
        draws, exact = members[rows].detach().cpu().double()[order], truth[rows].detach().cpu().double()[order]
        low, middle, high = numpy.quantile(draws.numpy(), [0.05, 0.5, 0.95], axis=1)
        at = numpy.arange(len(order))
        axes.axhspan(-1.645, 1.645, color=FAINT, alpha=0.6, linewidth=0)
        axes.vlines(at, low, high, color=COLOURS[position % len(COLOURS)], linewidth=3, alpha=0.6)
        axes.plot(at, middle, "o", color=COLOURS[position % len(COLOURS)], markersize=4, label="posterior median, 90 % interval")
        axes.plot(at, exact.numpy(), "x", color=INK, markersize=6, label="truth")
        axes.set_title(literal(f"{name}: {len(order)} firms, the best informed first; grey: 90 % of the prior"), loc="left", fontsize=10, color=INK)
        axes.set_ylabel("coordinate, prior sd", fontsize=9, color=INK)
        axes.set_xticks(at, [str(int(firm)) for firm in order], rotation=90)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(visible=False, axis="x")
    panels[-1].set_xlabel("number of the firm", fontsize=10, color=INK)
    legend = figure.legend(handles=panels[0].get_lines(), frameon=False, fontsize=9, labelcolor=INK, ncols=2, loc="outside upper right")
    for handle in legend.get_lines():
        handle.set_color(INK)  # colours differ by panel
    return figure


def identifiability_map(contraction: Mapping[str, Tensor], size: Tensor, *, size_label: str) -> Figure:
    """What the data tell about each firm against how large the firm is.

    Args:
        contraction: kind of parameter -> `(M,)` 1 - posterior over prior standard deviation: 0 nothing, 1 everything.
        size: `(M,)` > 0.
        size_label: what that is, with its unit.
    """
    if not contraction:
        raise InputError("contraction must hold at least one kind of parameter, got none")
    figure, panels = axes_grid(len(contraction), width=4.2 * len(contraction) + 0.4, height=3.8, columns=len(contraction))
    for position, (axes, (name, values)) in enumerate(zip(panels, contraction.items(), strict=True)):
        share = values.detach().cpu().double().numpy()
        axes.plot(size.detach().cpu().double().numpy(), share, "o", color=COLOURS[position % len(COLOURS)], alpha=0.6, markersize=5, markeredgewidth=0)
        axes.axhline(0.5, color=INK, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(
            literal(f"{name}: {int((share > 0.5).sum())} of {len(share)} known, {int((share < 0.01).sum())} unheard of"), loc="left", fontsize=10, color=INK
        )
        axes.set_xlabel(literal(size_label), fontsize=10, color=INK)
        if not position:
            axes.set_ylabel("share of prior uncertainty removed", fontsize=10, color=INK)
    return figure
