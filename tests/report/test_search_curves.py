"""Search curves: the smallest value so far, against evaluations and against seconds."""

import pytest

from dpsc.errors import InputError, ShapeError
from dpsc.report.search_curves import SearchTrace, search_curves
from tests.report.test_figures import words


def test_curves_show_the_best_so_far_on_both_axes() -> None:
    ours = SearchTrace([1, 10, 100], [0.0, 0.5, 2.0], [9.0, 12.0, 4.0])
    theirs = SearchTrace([1, 5], [0.1, 0.2], [9.0, 8.0])
    figure = search_curves({"small": {"ours": ours, "theirs": theirs}, "large": {"theirs": theirs}}, label="P75, money", best_known={"small": 3.5})
    count, second, large, _ = figure.axes
    assert count.lines[0].get_ydata().tolist() == [9, 9, 4]
    assert count.lines[0].get_xdata().tolist() == [1, 10, 100]
    assert second.lines[0].get_xdata().tolist() == [0.001, 0.5, 2.0]
    assert count.get_xscale() == second.get_xscale() == count.get_yscale() == "log"
    assert large.lines[0].get_color() == count.lines[1].get_color()
    assert count.lines[2].get_ydata()[0] == 3.5
    assert {"small", "large", "ours", "theirs", "best known", "evaluations", "seconds", "P75, money"} <= set(words(figure).split(" | "))


def test_values_at_or_below_zero_keep_a_plain_axis() -> None:
    figure = search_curves({"p": {"m": SearchTrace([1, 2], [0.0, 1.0], [1.0, -1.0])}}, label="cost")
    assert figure.axes[0].get_yscale() == "linear"
    words(figure)


def test_a_short_range_of_evaluations_has_numbers_that_stand_apart() -> None:
    figure = search_curves({"p": {"m": SearchTrace([20, 40, 300], [0.01, 1.0, 30.0], [3.0, 2.0, 1.0])}}, label="cost")
    words(figure)
    low, high = figure.axes[0].get_xlim()
    shown = [tick.get_text() for tick in figure.axes[0].get_xticklabels(which="both") if tick.get_text() and low <= tick.get_position()[0] <= high]
    assert shown == ["20", "50", "100", "200"]


def test_the_known_value_bears_its_name() -> None:
    figure = search_curves({"p": {"m": SearchTrace([1, 2], [0.0, 1.0], [3.0, 2.0])}}, label="cost", best_known={"p": 1.0}, known_label="the truth")
    assert "the truth" in words(figure).split(" | ")


def test_bad_traces_are_named() -> None:
    with pytest.raises(InputError, match="problems must hold at least one entry"):
        search_curves({}, label="cost")
    with pytest.raises(InputError, match="p must hold at least one method"):
        search_curves({"p": {}}, label="cost")
    with pytest.raises(ShapeError, match="the trace of m on p must have as many evaluations and seconds as values, at least one, got 1, 1, 2"):
        search_curves({"p": {"m": SearchTrace([1], [1.0], [1.0, 2.0])}}, label="cost")
    with pytest.raises(InputError, match="the evaluations of m on p must be finite, >= 1 and not fall"):
        search_curves({"p": {"m": SearchTrace([2, 1], [1.0, 2.0], [1.0, 2.0])}}, label="cost")
    with pytest.raises(InputError, match="the values of m on p must be finite, got nan"):
        search_curves({"p": {"m": SearchTrace([1], [1.0], [float("nan")])}}, label="cost")
