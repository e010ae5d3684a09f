"""Charts: axes from zero, no extreme lost, and nothing silently empty."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.plots import Axes, Series, chart, thinned

POINTS = st.lists(
    st.tuples(st.floats(0, 1e4, allow_subnormal=False), st.floats(0, 1e6)), min_size=1, max_size=300
).map(sorted)


@given(points=POINTS)
def test_every_point_is_inside_the_picture(points: list[tuple[float, float]]) -> None:
    axes = Axes.of(points)
    for x, y in points:
        assert 0 <= axes.x(x) <= 560
        assert 0 <= axes.y(y) <= 190
    assert axes.left == 0
    assert axes.top >= max(y for _, y in points)


@given(points=POINTS, stretches=st.integers(1, 40))
def test_thinning_keeps_the_extremes_and_invents_nothing(
    points: list[tuple[float, float]], stretches: int
) -> None:
    kept = thinned(points, stretches)
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    assert {min(y for _, y in kept), max(y for _, y in kept)} == {
        min(y for _, y in points),
        max(y for _, y in points),
    }
    assert len(kept) <= 3 * (stretches + 1)


def parsed(figure: str) -> ET.Element:
    return ET.fromstring(figure)  # noqa: S314 - our own


def classes(figure: str) -> list[str]:
    return [element.get("class", "") for element in parsed(figure).iter("path")]


def test_the_numbers_at_the_axes_are_round_and_begin_at_zero() -> None:
    figure = chart("t", [Series("a", [(0.0, 71.0), (9.6, 93.0)])])
    up = [text.text for text in parsed(figure).iter("text") if text.get("class") == "up"]
    along = [text.text for text in parsed(figure).iter("text") if text.get("class") == "along"]
    assert up == ["0", "20", "40", "60", "80", "100"]
    assert along == ["0", "2", "4", "6", "8", "seconds"]


@pytest.mark.parametrize(("limit", "drawn"), [(50.0, True), (500.0, False)])
def test_a_limit_is_drawn_where_it_is_in_sight_and_named_in_any_case(
    limit: float, *, drawn: bool
) -> None:
    figure = chart("t", [Series("a", [(0.0, 90.0)])], limit=("good", limit))
    assert ("limit" in classes(figure)) == drawn
    assert ("above what is drawn" in figure) != drawn
    assert "good" in figure


def test_a_series_without_points_is_named_and_a_chart_without_any_says_so() -> None:
    figure = chart("t", [Series("a", [(0.0, 1.0)]), Series("b", [], "line")])
    assert "b: none" in figure
    assert "line s1" not in classes(figure)
    assert chart("Memory, MiB", [Series("a", [])]) == (
        "<figure><figcaption>Memory, MiB: no reading</figcaption></figure>"
    )


def test_names_cannot_break_the_page() -> None:
    figure = chart("<b>", [Series("<script>", [(0.0, 1.0)])], limit=("<i>", 1.0))
    assert not re.findall("<script>|<i>", figure)
    parsed(figure)
