"""The page of a result: whole, without anything from elsewhere, also where nothing is known."""

from html.parser import HTMLParser
from typing import Any

from gates.evidence import EngineIdentity
from gates.samples import Outcome, Sample
from gates.usage import FRONT_END, RUNTIME, Usage
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import Setting
from pytest_phase5.load.document import document
from pytest_phase5.load.page import page
from pytest_phase5.load.profiles import PROFILES
from pytest_phase5.load.running import PartResult, ProfileResult

ENGINE = Engine(
    url="http://127.0.0.1:1", h2_url=None, flag_set="off",
    identity=EngineIdentity(
        flag_set="off", model="tiny <b>", model_sha256="aa", engine_version="0", commit="c",
        config_sha256="f",
    ),
)  # fmt: skip
EMPTY = ("link", "meta")


class Balance(HTMLParser):
    """Knows when a tag is not closed, and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def a_sample(index: int, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "index": index, "arm": "treatment", "block": 1, "scheduled": index / 10,
        "sent": index / 10, "first_token": index / 10 + 0.05, "end": index / 10 + 0.2,
        "outcome": Outcome.OK, "output_tokens": 5,
    }  # fmt: skip
    return Sample(**fields | changes)


def paged(name: str, *samples: Sample, usage: tuple[Usage, ...] = (), **changes: Any) -> str:
    parts = tuple(
        PartResult(
            part=part, engine=ENGINE, driver="http1", samples=samples, usage=usage, **changes
        )
        for part in PROFILES[name].parts
    )
    result = ProfileResult(profile=PROFILES[name], setting=Setting(url=""), parts=parts)
    return page(result, document(result, machine="here & now", created="2025"))


def checked(text: str) -> Balance:
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert balance.loads == ["data:,"]
    assert "script" not in balance.tags
    return balance


def test_a_page_is_whole_loads_nothing_and_shows_every_part() -> None:
    usage = tuple(
        Usage(part=part, at=float(at), requests=at, rss_bytes=(90 + at) * 2**20)
        for at in range(5)
        for part in (FRONT_END, RUNTIME)
    )
    samples = [a_sample(index) for index in range(50)]
    balance = checked(text := paged("throughput", *samples, usage=usage))
    assert balance.tags.count("section") == len(PROFILES["throughput"].parts)
    assert balance.tags.count("svg") == 4 * balance.tags.count("section")
    assert "here &amp; now" in text
    assert "tiny &lt;b&gt;" in text


def test_a_page_of_nothing_says_so_in_each_place() -> None:
    text = paged("spike", complete=False, reasons=("no <row>",))
    balance = checked(text)
    assert balance.tags.count("svg") == 0
    assert text.count(": no reading") == 4
    assert "invalid, incomplete" in text
    assert "spike: invalid: no &lt;row&gt;" in text


def test_a_page_marks_who_was_not_answered() -> None:
    lost = a_sample(3, outcome=Outcome.SHED, first_token=None)
    text = paged("spike", a_sample(1), lost)
    assert 'class="dots s1"' in text
    assert "shed 1" in text
    checked(text)


def test_all_requests_failing_is_shown_without_a_time() -> None:
    failed = [a_sample(i, outcome=Outcome.FAILED, first_token=None) for i in range(3)]
    checked(text := paged("spike", *failed))
    assert "Time to first token, ms: no reading" in text
    assert "failed 3" in text
