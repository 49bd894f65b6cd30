"""Figures: what they show follows from the numbers that went in."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from matplotlib.figure import Figure

from dpsc.errors import InputError, ShapeError
from dpsc.report.figures import curves, distribution, intervals, matrices, scatter_pairs


def words(figure: Figure) -> str:
    figure.canvas.draw()  # lays the figure out, and fails where it cannot be drawn
    return " | ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text())


def test_distribution_marks_the_means_and_counts_what_it_left_out() -> None:
    many = torch.arange(101.0, requires_grad=True)
    figure = distribution({"two-stage": many, "dfl": [1.0, 3.0, float("nan")]}, label="regret (cost units)")
    assert "two-stage: mean 50, 101 values" in words(figure)
    assert "dfl: mean 2, 2 values, 1 not finite left out" in words(figure)
    assert "regret (cost units)" in words(figure)
    first, second = figure.axes
    assert sum(bar.get_height() for bar in first.patches) == 101
    assert list(second.lines[0].get_xdata()) == [1.0, 3.0]
    assert first.get_xlim() == second.get_xlim()


@pytest.mark.parametrize("values", [[0.0], [5.0] * 60, [-1e-12, 1e12], [1e300, -1e300], numpy.zeros(50)])
def test_distribution_of_awkward_values(values: list[float]) -> None:
    words(distribution({"x": values}, label="units"))


def test_scatter_says_which_share_lies_below() -> None:
    x, y = numpy.array([1.0, 2.0, 3.0, 4.0, numpy.nan]), numpy.array([0.5, 1.0, 3.0, 5.0, 1.0])
    figure = scatter_pairs(x, y, x_label="two-stage (EUR)", y_label="dfl (EUR)")
    assert "4 instances: 50% below the diagonal, 25% above, 25% on it" in words(figure)
    assert "two-stage (EUR)" in words(figure)
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    words(scatter_pairs([1.0], [1.0], x_label="x", y_label="y"))


def test_curves_show_mean_and_band_of_repetitions() -> None:
    runs = numpy.stack([numpy.arange(5.0), numpy.arange(5.0) + 2])
    figure = curves({"repeated": runs, "once": torch.ones(3)}, x_label="epoch", y_label="loss (EUR)")
    assert "repeated" in words(figure)
    repeated, once = figure.axes[0].lines
    numpy.testing.assert_allclose(repeated.get_ydata(), runs.mean(0))
    assert list(repeated.get_xdata()) == [1, 2, 3, 4, 5]
    assert repeated.get_linestyle() != once.get_linestyle()
    assert len(figure.axes[0].collections) == 1
    words(curves({"single step": [1.0]}, x_label="epoch", y_label="loss"))


def test_matrices_share_one_scale_and_show_the_numbers() -> None:
    first, second = numpy.array([[1.0, -2.0]]), numpy.array([[0.25, 0.001]])
    figure = matrices({"first": first, "second": second}, row_names=["r"], column_names=["a", "b"])
    pictures = [axes.images[0] for axes in figure.axes if axes.images]
    assert {picture.get_clim() for picture in pictures} == {(-2.0, 2.0)}
    assert {"-2.00", "0.25", "0.001", "first", "second"} <= set(words(figure).split(" | "))
    words(matrices({f"m{i}": numpy.zeros((2, 9)) for i in range(5)}, row_names=["r", "s"], column_names=[f"column {i}" for i in range(9)]))


def test_intervals() -> None:
    figure = intervals({"reduction": (5.2, 4.5, 5.9), "neural": (0.4, -0.9, 1.6)}, label="%")
    assert "5.2  [4.5, 5.9]" in words(figure)
    assert figure.axes[0].get_yticklabels()[0].get_text() == "reduction"


@pytest.mark.parametrize("name", ["cost ($) and gain ($)", r"$\frac{", "$x$", "a_b^c", "<b>"])
def test_names_are_shown_as_they_stand(name: str) -> None:
    figure = curves({name: [1.0, 2.0], "other": [1.0]}, x_label=name, y_label=name)
    assert name.replace("$", r"\$") in words(figure)
    words(distribution({name: [1.0]}, label=name))
    words(matrices({name: [[1.0]]}, row_names=[name], column_names=[name]))
    words(intervals({name: (1.0, 0.0, 2.0)}, label=name))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: distribution({}, label="x"), InputError, "series must hold at least one entry, got none"),
        (lambda: distribution({"a": [float("nan")]}, label="x"), InputError, "a must hold at least one finite value, got 1 values"),
        (lambda: distribution({"a": "text"}, label="x"), InputError, "a must hold numbers, got str"),
        (lambda: scatter_pairs([1.0], [1.0, 2.0], x_label="x", y_label="y"), ShapeError, r"y must have the shape of x, \(1,\)"),
        (lambda: scatter_pairs([float("nan")], [1.0], x_label="x", y_label="y"), InputError, "at least one pair of finite values"),
        (lambda: curves({"a": numpy.zeros((1, 1, 1))}, x_label="x", y_label="y"), ShapeError, r"a must have shape \(steps,\)"),
        (lambda: curves({"a": []}, x_label="x", y_label="y"), ShapeError, "neither empty"),
        (lambda: matrices({"a": [[1.0]]}, row_names=["r", "s"], column_names=["c"]), ShapeError, r"\(2, 1\), got \(1, 1\)"),
        (lambda: intervals({"a": (0.0, 1.0, 2.0)}, label="x"), InputError, "low <= mean <= high"),
    ],
)
def test_what_is_refused(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


def test_importing_the_room_is_cheap_and_drawing_touches_no_global_state() -> None:
    code = """
import sys, dpsc.report.page
from dpsc.report.figures import curves
print(sorted({"matplotlib", "pandas", "jinja2"} & set(sys.modules)))
curves({"a": [1.0, 2.0]}, x_label="x", y_label="y").canvas.draw()
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[]", "True False"]


def test_a_wide_matrix_has_no_numbers_on_top_of_each_other() -> None:
    wide = matrices({"orders": torch.ones(3, 26)}, row_names=["a", "b", "c"], column_names=[str(i) for i in range(26)])
    assert not wide.axes[0].texts
    assert [label.get_text() for label in wide.axes[0].get_xticklabels()] == [str(i) for i in range(0, 26, 3)]
    narrow = matrices({"weights": torch.ones(2, 5)}, row_names=["a", "b"], column_names=list("vwxyz"))
    assert len(narrow.axes[0].texts) == 10
