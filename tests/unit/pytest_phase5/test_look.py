"""The palette can be read: contrasts as WCAG 2.2 counts them, level AA."""

from collections.abc import Mapping

import pytest

from pytest_phase5.look import DARK, LIGHT

GROUNDS = ("paper", "raised")
#: `line` only separates, and says nothing.
TEXTS = ("ink", "soft", "good", "warn", "bad", "c0")
LINES = ("c0", "c1", "c2", "bad")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(
        weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_black_on_white_has_the_contrast_that_the_standard_gives() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#757575", "#ffffff")


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_every_text_and_line_can_be_told_from_its_ground(
    palette: Mapping[str, str], ground: str
) -> None:
    ratios = {name: contrast(palette[name], palette[ground]) for name in {*TEXTS, *LINES}}
    assert {name: r for name, r in ratios.items() if name in TEXTS and r < 4.5} == {}
    assert {name: r for name, r in ratios.items() if r < 3.0} == {}


def test_light_and_dark_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
