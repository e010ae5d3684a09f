"""The picture that the pages show is the one that the program draws."""

from pathlib import Path
from xml.etree import ElementTree as ET

from gates.policy import load_policy
from gates.shown import shown
from gates.verdict import from_json
from pytest_phase5.reporting.picture import picture

ROOT = Path(__file__).resolve().parents[4]
PICTURE = ROOT / "docs" / "phase5" / "images" / "report.svg"
VERDICT = from_json(Path(__file__).with_name("picture_verdict.json").read_text("utf-8"))


def test_the_picture_is_current() -> None:
    drawn = picture(VERDICT, load_policy().criteria)
    again = "python -m pytest_phase5.reporting.picture VERDICT OUT"
    assert PICTURE.read_text("utf-8") == drawn, again


def test_the_picture_states_the_numbers_of_its_verdict() -> None:
    root = ET.fromstring(PICTURE.read_text("utf-8"))  # noqa: S314 - our own file
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for row in VERDICT.criteria:
        told = shown(row)
        at = texts.index(told.id)
        assert texts[at + 1 : at + 6] == [
            told.outcome,
            told.estimate,
            told.interval,
            told.limit,
            told.n,
        ]
