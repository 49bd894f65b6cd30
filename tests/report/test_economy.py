"""Figures of economies: they show what they were given, and name what they cannot draw."""

from __future__ import annotations

from datetime import date, timedelta

import numpy
import pytest

from dpsc.errors import InputError, ShapeError
from dpsc.report import economy

DAYS = [date(2020, 3, 1) + timedelta(days=k) for k in range(40)]
DRAWS = numpy.random.default_rng(0).normal(0.9, 0.02, (40, 50))


def test_a_band_is_the_median_and_its_interval() -> None:
    low, middle, high = economy.band(numpy.tile(numpy.arange(101.0), (3, 1)), 0.9)
    assert numpy.allclose([low, middle, high], [[5.0] * 3, [50.0] * 3, [95.0] * 3])
    with pytest.raises(ShapeError, match=r"draws must have shape \(T, B\)"):
        economy.band(numpy.zeros(3))


def test_a_forecast_shows_bands_points_and_the_origin() -> None:
    figure = economy.forecast(
        {"GDP": {"blind": economy.band(DRAWS), "known": economy.band(DRAWS - 0.1)}},
        days=DAYS,
        points={"GDP": {"used": ([DAYS[3]], [0.9]), "not seen": ([DAYS[30]], [0.8])}},
        origin=DAYS[20],
        y_label="share",
    )
    (axes,) = figure.axes
    figure.canvas.draw()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["blind", "known", "used", "not seen"]
    with pytest.raises(ShapeError, match=r"blind must have shape \(T,\) = \(39,\)"):
        economy.forecast({"GDP": {"blind": economy.band(DRAWS)}}, days=DAYS[1:], points={}, origin=DAYS[20], y_label="share")


@pytest.mark.parametrize("x", [DAYS, list(range(40))])
def test_cascades_have_one_panel_a_sector(x: list) -> None:
    sectors = {f"sector {k}": {"now": economy.band(DRAWS), "then": economy.band(DRAWS * 0.9)} for k in range(5)}
    figure = economy.cascades(sectors, x=x, x_label="day", y_label="output")
    figure.canvas.draw()
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == list(sectors)
    with pytest.raises(InputError, match=r"sectors must hold at least one entry"):
        economy.cascades({}, x=x, x_label="day", y_label="output")


def test_panels_have_an_axis_each_and_a_run_its_colour() -> None:
    now, then = economy.band(DRAWS), economy.band(DRAWS * 0.9)
    figure = economy.panels([("output", {"now": now, "then": then}), ("price", {"then": then}), ("cash", {"then": now})], x=list(range(40)), x_label="step")
    figure.canvas.draw()
    first, second, third = (axes for axes in figure.axes if axes.get_visible())
    assert [axes.get_title(loc="left") for axes in (first, second, third)] == ["output", "price", "cash"]
    assert first.lines[1].get_color() == second.lines[0].get_color() == third.lines[0].get_color() != first.lines[0].get_color()
    assert first.get_legend() is not None
    assert second.get_legend() is None
    assert first.get_ylim() != third.get_ylim()
    with pytest.raises(InputError, match=r"parts must hold at least one entry"):
        economy.panels([], x=[], x_label="step")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([f"{region}-c{k}" for region in ("AUT", "BEL", "CHN") for k in range(40)], ["AUT", "BEL", "CHN"]),
        ([f"sector {k}" for k in range(120)], [f"sector {k}" for k in range(90, 120)]),
    ],
)
def test_a_map_of_very_many_sectors_names_regions_or_the_largest(names: list[str], shown: list[str]) -> None:
    figure = economy.network_map(
        [0], [1], [1.0], sector=numpy.arange(120), sector_names=names, size=numpy.arange(1.0, 121), value=numpy.ones(120), value_label="lost"
    )
    assert [text.get_text() for text in figure.axes[0].texts] == shown


@pytest.mark.parametrize("sectors", [1, 3, 20])
def test_a_network_map_draws_the_largest_flows(sectors: int) -> None:
    firms = 30
    home = numpy.arange(firms) % sectors
    supplier, buyer = numpy.arange(firms), (numpy.arange(firms) + 1) % firms
    figure = economy.network_map(
        supplier,
        buyer,
        numpy.arange(1.0, firms + 1),
        sector=home,
        sector_names=[f"sector {k}" for k in range(sectors)],
        size=numpy.ones(firms),
        value=numpy.linspace(0, 1, firms),
        value_label="lost",
        edges=7,
    )
    figure.canvas.draw()
    curves, dots = figure.axes[0].collections
    assert len(curves.get_paths()) == 7
    assert figure.axes[0].get_xlabel() == "area of a dot: output; lines: the 7 largest flows, wider and darker where larger"
    assert len(dots.get_offsets()) == firms
    with pytest.raises(InputError, match=r"sector must hold numbers from 0 to 0"):
        economy.network_map([0], [1], [1.0], sector=[0, 1], sector_names=["a"], size=[1, 1], value=[0, 0], value_label="lost")
