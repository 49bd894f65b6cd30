"""A gradient audit as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from dpsc.errors import InputError
from dpsc.report.figures import COLOURS, INK, axes_grid, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {
    "cosine": "cosine of the mean gradient",
    "norm_ratio": "length, relative",
    "bias": "bias, relative",
    "deviation": "deviation of one estimate, relative",
}
MARKERS = "oDsv^P<>X*"


class Row(Protocol):
    """What the figure reads of a row of `dpsc.relax.audit`."""

    candidate: str
    block: str
    cosine: float
    norm_ratio: float
    bias: float
    deviation: float
    cost: float


def gradient_audit(rows: Sequence[Row]) -> Figure:
    """One line a candidate, one mark a block of parameters; a panel each for cosine, length, bias and standard deviation.

    Args:
        rows: of an audit. The reference's cosine and length are 1, its bias 0; a mark left of zero in the first panel points the wrong way. The price in
            exact evaluations stands behind the name.
    Raises: InputError without rows.
    """
    if not rows:
        raise InputError("an audit figure needs at least one row, got none")
    candidates, blocks = list(dict.fromkeys(r.candidate for r in rows)), list(dict.fromkeys(r.block for r in rows))
    price = {r.candidate: r.cost for r in rows}
    figure, axes = axes_grid(len(MEASURES), width=13.5, height=1.6 + 0.36 * len(candidates), columns=len(MEASURES))
    for axis, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for position, block in enumerate(blocks):
            shown = [(getattr(r, measure), candidates.index(r.candidate)) for r in rows if r.block == block and math.isfinite(getattr(r, measure))]
            whole = block == "all"
            axis.plot(
                [max(value, 1e-6) if measure != "cosine" else value for value, _ in shown],
                [line for _, line in shown],
                MARKERS[position % len(MARKERS)],
                color=INK if whole else COLOURS[position % len(COLOURS)],
                markersize=8 if whole else 5,
                markerfacecolor="none" if whole else None,
                label=literal(block),
                alpha=1.0 if whole else 0.85,
            )
        if measure == "cosine":
            axis.set_xlim(-1.05, 1.05)
            axis.axvline(0, color=INK, linewidth=1, linestyle="--")
        elif any(math.isfinite(getattr(r, measure)) for r in rows):
            axis.set_xscale("log")
        if measure in ("norm_ratio",):
            axis.axvline(1, color=INK, linewidth=1, linestyle="--")
        first = measure == "cosine"
        axis.set_yticks(range(len(candidates)), [literal(f"{c}  ({price[c]:.1f}x)") for c in candidates] if first else [""] * len(candidates), fontsize=9)
        axis.set_ylim(len(candidates) - 0.4, -0.6)
        axis.set_xlabel(literal(label), fontsize=9, color=INK)
    axes[-1].legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
