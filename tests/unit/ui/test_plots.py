"""Plots as SVG: within their frame, told to those who do not see them, with their numbers in a table."""

import re
from xml.etree import ElementTree

import pytest

from gcr_core.ui import plots

HOSTILE = '<b onclick="x">&'
POINTS = [(1, 0.5), (2, 0.75), (10, 1.0)]


def drawn(points=POINTS, name="One", **more):
    curve = plots.Curve(name, "generative of-0", points, **more)
    up = plots.shares("recall", [y for _, y in points])
    figure = plots.plot("p", "Recall", "It grows.", plots.whole_numbers("k", 10), up, [curve])
    return ElementTree.fromstring(figure.replace("&nbsp;", " "))


def test_a_plot_is_an_image_with_a_title_a_description_and_a_table():
    figure = drawn()
    svg = figure.find("svg")
    assert svg.get("role") == "img"
    named = {each.get("id"): each.text for each in svg if each.tag in ("title", "desc")}
    assert [named[id] for id in svg.get("aria-labelledby").split()] == ["Recall", "It grows."]
    rows = [[cell.text for cell in row] for row in figure.iter("tr")]
    assert rows == [["side", "k", "recall"], ["One", "1", "50.0 %"], ["One", "2", "75.0 %"], ["One", "10", "100.0 %"]]


def test_text_from_outside_is_text():
    assert drawn(name=HOSTILE).find(".//tbody/tr/th").text == HOSTILE


@pytest.mark.parametrize("points", [POINTS, [(1, 0.0)], [(1, 1.0)], [(1, 0.98), (10, 0.99)], []])
def test_all_that_is_drawn_lies_in_the_frame(points):
    figure = drawn(points, bars={1: (0.0, 1.0)}) if points else drawn(points)
    for path in figure.findall("svg//path"):
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d")):
            assert plots.LEFT <= float(x) <= plots.WIDTH - plots.RIGHT
            assert plots.TOP <= float(y) <= plots.HEIGHT - plots.BOTTOM


def test_a_single_point_is_a_dot_and_dots_grow_with_what_stands_behind_them():
    assert len(drawn([(1, 0.5)]).findall("svg/g/circle")) == 1
    assert not drawn().findall("svg/g/circle")
    radii = [float(dot.get("r")) for dot in drawn(sizes=[1, 100, 10_000]).findall("svg/g/circle")]
    assert radii == sorted(radii) and radii[-1] == plots.LARGEST_DOT


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 1], ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        ([0.913, 0.984], ["90 %", "92 %", "94 %", "96 %", "98 %", "100 %"]),
        ([0.5, 0.5], ["50 %", "51 %"]),
        ([1.0], ["99 %", "100 %"]),
        ([0.0], ["0 %", "1 %"]),
        ([], ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
    ],
)
def test_an_axis_has_round_numbers_around_its_values(values, ticks):
    axis = plots.shares("x", values)
    assert [axis.written(tick) for tick in axis.ticks] == ticks
    assert all(axis.low <= value + 1e-9 and value <= axis.high + 1e-9 for value in values)
