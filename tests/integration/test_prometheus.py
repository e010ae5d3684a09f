"""Live evidence from the real Prometheus: the same rows as from what it was given."""

import re
import shutil
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from http2 import certificate
from monitored import prometheus, put_in
from probe import HOST, body, probing
from served import until
from told_engine import FIRST, HEADER, OFF, ON, ToldEngine

from gates.exposition import REQUESTS, Sample, Scrape, parse
from gates.ledger import Row, minute_of, row_line
from gates.live import Edge, SourceError, header_for, rows_between
from gates.prometheus import Access, Prometheus
from gates.told import DoubtError, Told

LENGTH = 20


class Given:
    """What was put in, as a source."""

    name = "given"

    def __init__(self, scrapes: list[Scrape]) -> None:
        self._scrapes = scrapes

    def now(self) -> datetime:
        return datetime.now(UTC)

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        for minute in range(first, last + 1):
            latest: dict[str, Scrape] = {}
            for scrape in self._scrapes:  # as Prometheus: within the last five minutes
                if minute * 60 - 300 < scrape.at <= minute * 60:
                    latest[scrape.target] = scrape
            yield Edge(minute=minute, scrapes=tuple(latest[t] for t in sorted(latest)))


def history() -> list[Scrape]:
    """Two engines over some minutes with everything that goes wrong with them."""
    one, two = ToldEngine("e1"), ToldEngine("e2")
    scrapes: list[Scrape] = []
    for number in range(LENGTH + 1):
        minute = FIRST + number
        one.wall = two.wall = minute * 60.0
        if number != 3:
            scrapes.append(one.scrape(minute))
        if number not in {6, 7, 8, 9, 10, 11, 12, 13}:
            scrapes.append(two.scrape(minute, age=30.0 if number == 15 else 3.0))
        one.serve(ON, number % 4, key=f"a{number}")
        two.serve(OFF, number % 5, key=f"b{number}")
        two.serve(ON, 1, "failed", ttft=0.7)
        one.restarts += number == 2
        if number == 4:
            one.restarts = 0
            one.start()
        if number == 18:
            one.metrics.set_flag("ttft_pipeline", 20.0, 3, held=True)
    nan = scrapes[2]
    broken = tuple(
        replace(sample, value=float("nan")) if sample.name == REQUESTS else sample
        for sample in nan.samples
    )
    return [*scrapes[:2], replace(nan, samples=broken), *scrapes[3:]]


@pytest.fixture(scope="module")
def told() -> list[Scrape]:
    return history()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, told: list[Scrape]) -> Path:
    folder = tmp_path_factory.mktemp("prometheus") / "data"
    put_in(folder, told)
    return folder


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    with prometheus(data) as address:
        yield address


def lines(url: str, first: int = 0, last: int = LENGTH - 1, engines: int = 2) -> list[str]:
    with closing(Prometheus(url)) as source:
        rows = rows_between(source, HEADER, FIRST + first, FIRST + last, engines=engines)
        return [row_line(row) for row in rows]


def test_rows_are_those_of_what_was_scraped(url: str, told: list[Scrape]) -> None:
    wanted: list[Row] = list(
        rows_between(Given(told), HEADER, FIRST, FIRST + LENGTH - 1, engines=2)
    )
    assert lines(url) == [row_line(row) for row in wanted]
    assert "tells nan for phase5_requests_total" in wanted[0].invalid
    assert [row.crashes for row in wanted if row.crashes] == [{"e1": 1}]
    assert wanted[-1].paused == "on hold"
    assert sum(not row.invalid for row in wanted) >= 3


def test_minutes_asked_for_in_parts_are_the_same_bytes(url: str) -> None:
    whole = lines(url)
    for begin, end in ((0, 0), (3, 9), (5, 5), (10, LENGTH - 1)):
        assert lines(url, begin, end) == whole[begin : end + 1]


def test_a_restarted_server_tells_the_same(data: Path, url: str, tmp_path: Path) -> None:
    before = lines(url)
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    for _ in range(2):
        with prometheus(copy) as address:
            assert lines(address) == before


def test_a_history_that_is_lost_leaves_no_valid_minute(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with prometheus(tmp_path / "data") as address:
        assert all('"invalid":"' in line for line in lines(address))


#: bcrypt of "secret", of the lowest cost.
HASHED = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"


def test_a_guarded_server_is_read_over_tls_with_a_password(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    cert, key = certificate(tmp_path)
    web = tmp_path / "web.yml"
    web.write_text(
        f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n"
        f"basic_auth_users: {{reader: {HASHED}}}\n"
    )
    access = Access(ca=cert)
    monkeypatch.setenv(access.user, "reader")
    monkeypatch.setenv(access.password, "secret")
    trusted = ssl.create_default_context(cafile=str(cert))
    with prometheus(
        copy,
        options=[f"--web.config.file={web}"],
        base="https",
        verify=trusted,
        auth=("reader", "secret"),
    ) as url:
        with closing(Prometheus(url, access)) as source:
            assert list(rows_between(source, HEADER, FIRST, FIRST))
        with closing(Prometheus(url)) as source, pytest.raises(SourceError, match="CERTIFICATE"):
            source.now()
        monkeypatch.setenv(access.password, "wrong")
        with closing(Prometheus(url, access)) as source, pytest.raises(SourceError, match="401"):
            source.now()


class Target(BaseHTTPRequestHandler):
    """`/metrics` of a fake engine; `text` may be changed."""

    text = ""

    def do_GET(self) -> None:
        self.send_response(200 if self.text else 503)
        self.end_headers()
        self.wfile.write(type(self).text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def target() -> Iterator[tuple[str, type[Target]]]:
    handler = type("Own", (Target,), {"text": ToldEngine("fake").text()})
    with ThreadingHTTPServer((HOST, 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{HOST}:{server.server_port}", handler
        finally:
            server.shutdown()


def seen_next(source: Prometheus) -> dict[str, Scrape]:
    """The last scrapes by the next minute's edge, as far as they have come."""
    (edge,) = source.edges(minute_of(source.now()) + 1, minute_of(source.now()) + 1)
    return {scrape.target.split()[0]: scrape for scrape in edge.scrapes}


def test_what_is_scraped_is_what_engines_tell_and_who_is_silent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with ExitStack() as stack:
        probe = stack.enter_context(probing(tmp_path, "generation: 1\n"))
        other, fake = stack.enter_context(target())
        engine = f"{HOST}:{probe.port()}"
        url = stack.enter_context(prometheus(tmp_path / "data", [engine, other]))
        source = stack.enter_context(closing(Prometheus(url)))
        served = httpx.post(f"{probe.url}/v1/completions", content=body("Once", 4))
        assert served.status_code == 200
        until(lambda: {engine, other} <= seen_next(source).keys())
        until(lambda: Told(seen_next(source)[engine]).requests[OFF]["ok"] == 1)
        found = seen_next(source)
        direct = parse(httpx.get(f"{probe.url}/metrics").text, engine)
        assert _values(found[engine].samples) == _values(direct)
        edge = Edge(minute=FIRST, scrapes=(found[engine],))
        made = header_for(edge, flag="ttft_pipeline", epoch=0, stage="canary", share=0.01)
        assert made.ttft_edges == HEADER.ttft_edges
        # It answers no more: what it told last is not taken for what it would tell.
        fake.text = ""
        until(lambda: seen_next(source).keys() == {engine})
        fake.text = "<html>it works</html>"
        until(lambda: seen_next(source).keys() == {engine})
        fake.text = re.sub(r"(?m)^phase5_build_info.*\n", "", ToldEngine("fake").text())
        until(lambda: other in seen_next(source))
        with pytest.raises(DoubtError, match="does not tell which engine"):
            _ = Told(seen_next(source)[other]).build


def _values(samples: tuple[Sample, ...]) -> dict[object, float]:
    return {(s.name, frozenset(s.labels.items())): s.value for s in samples}
