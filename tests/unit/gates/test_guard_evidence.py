"""Before telemetry counts as lost the engines are read themselves."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import nan

import pytest
from told_engine import FIRST, FLAG, HEADER, OFF, ON, ToldEngine

from gates.direct import Direct
from gates.exposition import Scrape
from gates.guarding.evidence import LEAD, Evidence, Sooner, until_sample
from gates.ledger import CLOSED_AFTER, Row
from gates.live import Edge, SourceError
from gates.prometheus import Access, Prometheus
from gates.standing import Standing

MINUTES = 4
AFTER = datetime.fromtimestamp((FIRST + MINUTES) * 60 + CLOSED_AFTER, UTC)


@dataclass
class Server:
    """A Prometheus that remembers edges, and may be ill."""

    name: str = "prometheus"
    scrapes: dict[int, list[Scrape]] = field(default_factory=dict)
    error: SourceError | None = None

    def now(self) -> datetime:
        if self.error:
            raise self.error
        return AFTER + timedelta(minutes=1)

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        for minute in range(first, last + 1):
            yield Edge(minute=minute, scrapes=tuple(self.scrapes.get(minute, ())))


def served() -> tuple[Server, Direct]:
    """Two engines, seen by a Prometheus, which may fall ill, and by the guard itself."""
    server, direct = told()
    return Server(scrapes={minute: [*each] for minute, each in server.scrapes.items()}), direct


@cache
def told() -> tuple[Server, Direct]:
    """Once: engines take their time to tell."""
    server, direct = Server(), Direct()
    engines = [ToldEngine("e1"), ToldEngine("e2")]
    for minute in range(FIRST, FIRST + MINUTES + 3):
        server.scrapes[minute] = [engine.scrape(minute) for engine in engines]
        direct.keep(
            datetime.fromtimestamp(minute * 60 - LEAD, UTC),
            {f"http://{engine.name}:8000": engine.text() for engine in engines},
        )
        for engine in engines:
            engine.serve(ON, 5)
            engine.serve(OFF, 20)
    return server, direct


def rows(evidence: Evidence) -> list[Row]:
    return list(evidence.rows(HEADER, FIRST, FIRST + MINUTES - 1))


def empty(server: Server) -> None:
    server.scrapes.clear()


def down(server: Server) -> None:
    server.error = SourceError("prometheus: connection refused")


def half(server: Server) -> None:
    for scrapes in server.scrapes.values():
        del scrapes[1:]


def restarted(server: Server) -> None:
    """It was away for a while."""
    for minute in (FIRST + 1, FIRST + 2):
        del server.scrapes[minute]


def not_a_number(server: Server) -> None:
    for scrapes in server.scrapes.values():
        first = scrapes[0]
        samples = tuple(
            replace(s, value=nan) if s.name == "phase5_requests_total" else s for s in first.samples
        )
        scrapes[0] = replace(first, samples=samples)


ILL = (down, empty, half, restarted, not_a_number)


def test_a_sound_server_is_believed() -> None:
    server, direct = served()
    found = rows(Evidence(direct, (server, direct), engines=2))
    assert [row.minute for row in found] == list(range(FIRST, FIRST + MINUTES))
    assert not any(row.invalid for row in found)
    assert {row.engines for row in found} == {("e1", "e2")}


@pytest.mark.parametrize("ill", ILL)
def test_what_a_server_cannot_tell_the_engines_do(ill: Callable[[Server], None]) -> None:
    server, direct = served()
    expected = rows(Evidence(direct, (server, direct), engines=2))
    ill(server)
    found = rows(Evidence(direct, (server, direct), engines=2))
    assert [row.counts for row in found] == [row.counts for row in expected]
    assert not any(row.invalid for row in found)


@pytest.mark.parametrize("ill", ILL)
def test_where_the_engines_do_not_either_nothing_is_known_and_it_says_why(
    ill: Callable[[Server], None],
) -> None:
    server, _ = served()
    ill(server)
    blind = Evidence(Direct(), (server,), engines=2)
    if ill is down:
        with pytest.raises(SourceError, match="connection refused"):
            rows(blind)
        return
    found = rows(blind)
    assert any(row.invalid for row in found)
    assert all(row.invalid or row.counts for row in found)


def test_a_server_too_slow_to_answer_is_not_waited_for() -> None:
    server, direct = served()
    expected = rows(Evidence(direct, (server, direct), engines=2))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and no more
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = Prometheus(url, Access(timeout=0.05))
        found = rows(Evidence(direct, (slow, direct), engines=2))
        with pytest.raises(SourceError, match="timed out"):
            rows(Evidence(Direct(), (slow,), engines=2))
        slow.close()
    assert [row.counts for row in found] == [row.counts for row in expected]
    assert not any(row.invalid for row in found)


def test_a_header_is_of_what_the_engines_run_now() -> None:
    server, direct = served()
    early = Standing(stage="early", enabled=True, percentage=10.0, epoch=7)
    for sources in ((server, direct), (direct,)):
        evidence = Evidence(direct, sources, engines=2, holdback={FLAG: 1.0})
        header = evidence.header(FLAG, early, AFTER)
        assert (header.commit, header.epoch, header.share) == ("c0ffee", 7, 0.1)
        full = replace(early, stage="full", percentage=100.0)
        assert evidence.header(FLAG, full, AFTER).share == 0.99


def test_without_any_engine_there_is_no_header() -> None:
    standing = Standing(stage="early", percentage=10.0)
    for sources, words in (((), "no source"), ((Direct(),), "tells of no engine")):
        with pytest.raises(SourceError, match=words):
            Evidence(Direct(), sources).header(FLAG, standing, AFTER)
    with pytest.raises(SourceError):
        Evidence(Direct(), (Server(scrapes={}),)).header(FLAG, standing, AFTER)


def test_a_minute_may_close_sooner_and_tells_the_same() -> None:
    server, direct = served()
    plain = Evidence(direct, (server,), engines=2)
    sooner = Evidence(direct, (Sooner(server, 60),), engines=2)
    last = FIRST + MINUTES + 1
    assert not list(plain.rows(HEADER, last, last))
    (row,) = sooner.rows(HEADER, last, last)
    assert not row.invalid
    assert [each.ok for each in row.counts] == [each.ok for each in rows(plain)[0].counts]


@pytest.mark.parametrize(
    ("second", "wait"), [(0.0, 58.0), (30.0, 28.0), (57.5, 0.5), (58.0, 60.0), (59.0, 59.0)]
)
def test_engines_are_read_just_before_a_minutes_edge(second: float, wait: float) -> None:
    assert until_sample(datetime.fromtimestamp(FIRST * 60 + second, UTC)) == pytest.approx(wait)
