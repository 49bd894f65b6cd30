"""Figures about posteriors: what they show is what they were given."""

from __future__ import annotations

import io

import pytest
import torch

from dpsc.errors import InputError
from dpsc.report.calibration import coverage_curves, identifiability_map, prior_and_posterior, rank_histograms


def written(figure: object) -> int:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[attr-defined]
    return len(buffer.getvalue())


def test_coverage_curves_hold_the_given_points() -> None:
    figure = coverage_curves({"all": ((0.5, 0.9), (0.52, 0.91))})
    line = figure.axes[0].lines[1]
    assert line.get_xdata().tolist() == [0.5, 0.9]
    assert line.get_ydata().tolist() == [0.52, 0.91]
    assert written(figure) > 3000


def test_rank_histograms_have_one_panel_each_and_the_uniform_band() -> None:
    figure = rank_histograms({"a": [18, 22, 20, 20], "b": [40, 0, 0, 40]})
    assert [bar.get_height() for bar in figure.axes[1].patches if bar.get_width() < 1 and bar.get_x() > -0.5][:4] == [40, 0, 0, 40]
    assert written(figure) > 3000


def test_firms_are_ordered_by_what_the_data_say() -> None:
    members = torch.randn(6, 39, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.arange(6.0)
    figure = prior_and_posterior(members, truth, torch.tensor([0.1, 0.9, 0.5, 0.0, 0.2, 0.1]), labels={"stock": slice(0, 3), "rate": slice(3, 6)})
    assert figure.axes[0].lines[1].get_ydata().tolist() == [1, 2, 0]
    assert figure.axes[1].lines[1].get_ydata().tolist() == [4, 5, 3]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "2", "0"]
    assert figure.axes[0].get_legend() is None, "it stands outside, where it hides nobody"
    assert written(figure) > 3000


def test_identifiability_map_counts_what_is_known() -> None:
    figure = identifiability_map({"stock": torch.tensor([0.9, 0.0, 0.6])}, torch.tensor([1.0, 2.0, 3.0]), size_label="output")
    assert figure.axes[0].get_title(loc="left") == "stock: 2 of 3 known, 1 unheard of"
    assert written(figure) > 3000


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(InputError, match="series must hold at least one curve, got none"):
        coverage_curves({})
    with pytest.raises(InputError, match="counts must hold at least one histogram, got none"):
        rank_histograms({})
