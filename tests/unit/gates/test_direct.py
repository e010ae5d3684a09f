from datetime import UTC, datetime

from told_engine import FIRST, HEADER, OFF, ON, ToldEngine

from gates.direct import Direct
from gates.live import rows_between

URL = "http://10.0.0.1:8000"


def at(minute: float) -> datetime:
    return datetime.fromtimestamp((FIRST + minute) * 60, UTC)


def polled(times: list[float], engine: ToldEngine | None = None) -> Direct:
    """Polls at these minutes after the first, with traffic in between."""
    engine, direct = engine or ToldEngine(), Direct()
    for time in times:
        direct.keep(at(time), {URL: engine.text()})
        engine.serve(ON, 5)
        engine.serve(OFF, 20)
    return direct


def reasons(direct: Direct, length: int) -> list[str]:
    return [row.invalid for row in rows_between(direct, HEADER, FIRST, FIRST + length - 1)]


def test_polls_just_before_the_edges_make_minutes() -> None:
    direct = polled([-0.03, 0.97, 1.97, 3.6])
    assert reasons(direct, 2) == ["", ""]
    (row, _) = rows_between(direct, HEADER, FIRST, FIRST + 1)
    assert sum(counts.n for counts in row.counts) == 25


def test_a_minute_is_closed_by_the_time_of_the_last_poll() -> None:
    assert len(reasons(polled([-0.03, 0.97, 1.97]), 2)) == 0
    assert len(reasons(polled([-0.03, 0.97, 1.97, 2.5]), 2)) == 1


def test_a_poll_that_came_late_is_of_the_next_edge_and_too_old_for_it() -> None:
    assert reasons(polled([-0.03, 1.02, 1.97, 3.6]), 2) == [
        "no engine answered",
        "e1 began within the minute",
    ]
    assert reasons(polled([-0.03, 1.02, 3.6]), 2)[1] == (
        "e1 was seen last 59 s before the minute's edge; allowed: 16; e1 began within the minute"
    )


def test_an_engine_that_did_not_answer_is_missed() -> None:
    direct = polled([-0.03, 3.6])
    direct.keep(at(0.97), {})
    assert reasons(direct, 1) == ["no engine answered"]


def test_an_answer_that_is_no_metrics_is_doubted() -> None:
    direct = polled([-0.03, 3.6])
    direct.keep(at(0.97), {URL: "<html>proxy error</html>"})
    (reason,) = reasons(direct, 1)
    assert reason.startswith("10.0.0.1:8000 does not tell which engine and build it is")


def test_old_polls_are_forgotten() -> None:
    direct, text = Direct(minutes=2), ToldEngine().text()
    for minute in range(6):
        direct.keep(at(minute - 0.03), {URL: text})
    assert [len(edge.scrapes) for edge in direct.edges(FIRST, FIRST + 5)] == [0, 0, 0, 1, 1, 1]
