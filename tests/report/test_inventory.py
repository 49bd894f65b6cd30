"""Figures of a simulated inventory: what they show follows from the numbers that went in."""

import numpy
import pytest
import torch

from dpsc.errors import InputError, ShapeError
from dpsc.report.inventory import cost_breakdown, cost_distribution, policy_surface, trajectories
from tests.report.test_figures import words


def test_trajectories_draw_the_median_and_the_quantile_bands() -> None:
    futures = torch.arange(11.0).expand(4, 11) + torch.arange(4.0)[:, None]  # quantile q of period t is 10 q + t
    figure = trajectories({"stock, units": {"ours": futures, "theirs": futures + 1}, "orders, units": {"ours": futures}}, x_label="week", first=3)
    stock, orders = figure.axes
    assert stock.lines[0].get_xdata().tolist() == [3, 4, 5, 6]
    assert stock.lines[0].get_ydata().tolist() == [5, 6, 7, 8]
    assert len(stock.lines) == 2
    assert len(orders.lines) == 1
    wide = stock.collections[0].get_paths()[0].vertices[:, 1]
    assert (wide.min(), wide.max()) == (1.0, 12.0)
    assert "bands: 10 to 90, 25 to 75 % of the futures" in words(figure)


def test_cost_breakdown_stacks_the_parts_and_writes_the_total() -> None:
    figure = cost_breakdown({"a": {"holding": 3.0, "lost sales": 2.0, "revenue": -4.0}, "b": {"holding": 1.0}}, label="money a week")
    bars = figure.axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 3), (0, 1), (3, 2), (1, 0), (0, -4), (1, 0)]
    text = words(figure)
    assert "revenue" in text
    assert {"1", "a", "b", "money a week"} <= set(text.split(" | "))


def test_cost_distribution_marks_the_quantile_and_the_mean_of_the_worst() -> None:
    values = torch.arange(1.0, 11.0)  # the worst quarter of ten: 10, 9 and half of 8
    figure = cost_distribution({"ours": values}, label="money", level=0.75)
    mean, quantile, tail = (line.get_xdata()[0] for line in figure.axes[0].lines)
    assert mean == 5.5
    assert quantile == 7.75
    assert abs(tail - (10 + 9 + 0.5 * 8) / 2.5) < 1e-12
    assert "CVaR75 9.2" in words(figure)


def test_policy_surface_has_one_scale_for_all() -> None:
    x, y = numpy.arange(4.0), numpy.arange(3.0)
    figure = policy_surface({"a": numpy.zeros((3, 4)), "b": numpy.arange(12.0).reshape(3, 4)}, x=x, y=y, x_label="stock", y_label="due", label="order, units")
    first, second = (axes.collections[0] for axes in figure.axes[:2])
    assert first.get_clim() == second.get_clim() == (0, 11)
    figure.canvas.draw()
    assert figure.axes[2].get_ylabel() == "order, units"


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="series must hold at least one entry"):
        trajectories({}, x_label="week")
    with pytest.raises(ShapeError, match=r"stock, ours must have 2 dimensions .* got shape \(3,\)"):
        trajectories({"stock": {"ours": torch.ones(3)}}, x_label="week")
    with pytest.raises(InputError, match=r"bands must be quantiles strictly between 0 and 1/2, got \(0.6,\)"):
        trajectories({"stock": {"ours": torch.ones(3, 2)}}, x_label="week", bands=(0.6,))
    with pytest.raises(InputError, match="holding of a must be finite, got nan"):
        cost_breakdown({"a": {"holding": float("nan")}}, label="money")
    with pytest.raises(InputError, match="ours must be finite, got 1 of 2"):
        cost_distribution({"ours": [1.0, float("inf")]}, label="money")
    with pytest.raises(InputError, match="level must lie strictly between 0 and 1"):
        cost_distribution({"ours": [1.0]}, label="money", level=1.0)
    with pytest.raises(ShapeError, match=r"a must have shape \(len\(y\), len\(x\)\) = \(2, 3\), got \(3, 2\)"):
        policy_surface({"a": torch.ones(3, 2)}, x=[0.0, 1, 2], y=[0.0, 1], x_label="x", y_label="y", label="order")
    with pytest.raises(InputError, match="x must hold at least two ascending values"):
        policy_surface({"a": torch.ones(1, 2)}, x=[1.0, 0.0], y=[0.0, 1], x_label="x", y_label="y", label="order")
