"""The report in a real browser: silent, asking nobody, in every medium, and by keyboard."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser

from gates.evidence import EngineIdentity, Measurement, write_measurement
from gates.policy import load_policy
from gates.samples import Outcome, Sample
from pytest_phase5.reporting.writing import write_report

#: A hold, with intervals.
VERDICT = Path(__file__).resolve().parents[1] / "unit/pytest_phase5/reporting/picture_verdict.json"

ENGINE = EngineIdentity(
    flag_set="all",
    model="tiny",
    model_sha256="aa",
    engine_version="0.1.0",
    commit="c0ffee",
    config_sha256="cf",
)


def sample(index: int, arm: str) -> Sample:
    return Sample(
        index=index,
        arm=arm,
        block=index,
        scheduled=float(index),
        sent=float(index),
        first_token=index + 0.05 + 0.001 * (index % 40),
        end=index + 0.2 + 0.001 * (index % 60),
        outcome=Outcome.OK,
        flags="all",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something for each part to show, and a real verdict of another one."""
    found = tmp_path_factory.mktemp("phase5-report")
    measured = Measurement(
        run="r",
        item="suite::test_pace",
        attempt=1,
        criteria=("error_rate", "ttft_p95_vs_control"),
        arms={"treatment": ENGINE, "control": ENGINE},
        machine="linux",
        created="2026-03-01T12:00:00+00:00",
        samples=tuple(sample(i, ("treatment", "control")[i % 2]) for i in range(400)),
    )
    write_measurement(found / "evidence", measured)
    (found / "verdict.json").write_bytes(VERDICT.read_bytes())
    write_report(found, load_policy())
    return found


@pytest.fixture(scope="module")
def tab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.open(folder / "report.html")
        yield found


def test_the_page_says_nothing_on_the_console_and_asks_nobody(tab: Browser, folder: Path) -> None:
    said = [e for e in tab.events if e["method"] in LOUD]
    asked = [
        event["params"]["request"]["url"]
        for event in tab.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {
        (folder / "report.html").as_uri()
    }
    assert tab.ask("document.getElementById('word').textContent") == "hold"
    assert tab.ask("document.querySelectorAll('script').length") == 0


LOUD = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")

#: What decides whether words can be read: their colours, as the browser paints them.
COLOURS = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"


def test_it_is_light_or_dark_as_the_reader_has_it_and_light_on_paper(tab: Browser) -> None:
    tab.media(scheme="light")
    light = tab.ask(COLOURS)
    tab.media(scheme="dark")
    dark = tab.ask(COLOURS)
    assert light == ["rgb(31, 35, 40)", "rgb(255, 255, 255)"]
    assert dark == ["rgb(230, 237, 243)", "rgb(13, 17, 23)"]
    tab.media("print", "dark")
    assert tab.ask(COLOURS) == light
    assert tab.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    tab.media()


@pytest.mark.parametrize(("kind", "wide"), [("screen", 1180), ("screen", 360), ("print", 760)])
def test_nothing_is_cut_off_at_the_side(tab: Browser, kind: str, wide: int) -> None:
    tab.media(kind)
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=wide,
        height=800,
        deviceScaleFactor=1,
        mobile=False,
    )
    assert tab.ask("document.documentElement.scrollWidth") <= wide
    tab.media()


def test_the_keyboard_reaches_every_part_in_order_and_shows_where_it_is(tab: Browser) -> None:
    reached = []
    for _ in range(12):
        tab.tab()
        reached.append(tab.ask("document.activeElement.getAttribute('href') || '-'"))
        assert tab.ask("getComputedStyle(document.activeElement).outlineStyle") != "none"
    parts = [href for href in reached if href != "-"]
    assert parts[:4] == ["#main", "#flags", "#criteria", "#effects"]
    assert tab.ask("[...document.querySelectorAll('a')].every(a => document.querySelector(a.hash))")


def test_tables_and_pictures_have_names(tab: Browser) -> None:
    assert tab.ask("[...document.querySelectorAll('th')].every(th => th.scope)")
    assert tab.ask("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert tab.ask("document.querySelectorAll('svg.forest').length") > 0
    assert tab.ask("document.querySelectorAll('main h2').length") == 8
    assert tab.ask("document.documentElement.lang") == "en"
