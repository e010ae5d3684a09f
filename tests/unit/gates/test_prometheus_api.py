import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from httpx_retries import Retry

from gates.exposition import SAMPLES
from gates.live import SourceError
from gates.prometheus import PATIENCE, Access, Prometheus

Answer = Callable[[httpx.Request], httpx.Response]
TIME = {"status": "success", "data": {"resultType": "scalar", "result": [0, "1740000000.5"]}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr(Retry, "sleep", lambda _self, _response: None)


def server(answer: Answer, **more: Any) -> Prometheus:
    return Prometheus("http://p:9090/", transport=httpx.MockTransport(answer), **more)


def form(request: httpx.Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


def matrix(*series: tuple[dict[str, str], list[tuple[int, str]]]) -> httpx.Response:
    result = [
        {"metric": labels, "values": [[minute * 60, value] for minute, value in values]}
        for labels, values in series
    ]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    return httpx.Response(200, json=body)


def test_the_clock_is_the_servers_own() -> None:
    with closing(server(lambda _: httpx.Response(200, json=TIME))) as source:
        assert source.now() == datetime.fromtimestamp(1740000000.5, UTC)
        assert source.name == "prometheus http://p:9090"


def test_an_edge_has_what_each_target_told_and_when() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        at = {"instance": "a:1", "job": "engines"}
        if form(request)["query"].startswith("timestamp("):
            return matrix((at, [(10, "598.5"), (11, "658.5")]))
        name = {"__name__": "phase5_flag_epoch", "flag": "ttft_pipeline"}
        return matrix(
            ({**name, **at}, [(10, "1"), (11, "2")]),
            ({**name, "instance": "b:1", "job": "engines"}, [(11, "5")]),
        )

    with closing(server(answer)) as source:
        edges = list(source.edges(9, 11))
    told = [(e.minute, [(s.target, s.at, s.samples[0].value) for s in e.scrapes]) for e in edges]
    assert told == [
        (9, []),
        (10, [("a:1 job=engines", 598.5, 1.0)]),
        (11, [("a:1 job=engines", 658.5, 2.0), ("b:1 job=engines", 0.0, 5.0)]),
    ]
    assert edges[1].scrapes[0].samples[0].labels == {"flag": "ttft_pipeline"}


def test_raw_counters_are_asked_for_at_whole_minutes_an_hour_at_a_time() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(form(request))
        return matrix()

    with closing(server(answer, match='job="engines"')) as source:
        assert [edge.minute for edge in source.edges(100, 169)] == list(range(100, 170))
    spans = [(int(a["start"]), int(a["end"]), a["step"]) for a in asked]
    assert spans == [(6000, 9540, "60")] * 2 + [(9600, 10140, "60")] * 2
    assert asked[0]["query"] == 'timestamp(phase5_build_info{job="engines"})'
    assert "rate" not in asked[1]["query"]
    assert asked[1]["query"].endswith(',job="engines"}')
    assert all(name in asked[1]["query"] for name in SAMPLES)


def fails(*answers: Answer, tries: int | None = None) -> str:
    """The reason, when a server answers so in turn."""
    count = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return answers[min(count, len(answers)) - 1](request)

    with closing(server(answer)) as source, pytest.raises(SourceError) as caught:
        source.now()
    assert tries is None or count == tries
    return str(caught.value)


def raising(error: type[httpx.TransportError]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("", request=request)

    return answer


def giving(status: int, body: Any = None) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda _: httpx.Response(status, text=text, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("answer", "tries", "reason"),
    [
        (raising(httpx.ConnectError), 4, "ConnectError"),
        (raising(httpx.ReadTimeout), 1, "ReadTimeout"),
        (giving(503, {"status": "error", "error": "starting up"}), 4, "HTTP 503, starting up"),
        (giving(401, ""), 1, "HTTP 401, and no answer of a Prometheus"),
        (giving(422, {"status": "error", "error": "bad query"}), 1, "HTTP 422, bad query"),
        (giving(200, "<html>"), 1, "HTTP 200, and no answer of a Prometheus"),
        (giving(200, []), 1, "HTTP 200, and no answer of a Prometheus"),
        (giving(200, {**TIME, "warnings": ["one store is down"]}), 1, "not whole: one store"),
        (giving(200, {"status": "success", "data": {}}), 1, "what it calls its time is none"),
        (giving(200, {"status": "success"}), 1, "what it calls its time is none"),
    ],
)
def test_an_answer_that_is_none_is_an_error_with_its_reason(
    answer: Answer, tries: int, reason: str
) -> None:
    told = fails(answer, tries=tries)
    assert told.startswith("prometheus http://p:9090: ")
    assert reason in told


def test_a_short_trouble_is_got_over() -> None:
    answers = iter([raising(httpx.ConnectError), giving(502, ""), giving(200, TIME)])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers)(request)

    with closing(server(answer)) as source:
        assert source.now()


@pytest.mark.parametrize("body", [{"result": [{}]}, {"result": 5}, {}])
def test_series_that_are_none_are_an_error(body: Any) -> None:
    answer = giving(200, {"status": "success", "data": body})
    with closing(server(answer)) as source, pytest.raises(SourceError, match="an answer that is"):
        list(source.edges(1, 1))


def test_a_trouble_lasts_when_nothing_came_for_longer_than_anyone_waits() -> None:
    now, up = 0.0, False

    def answer(request: httpx.Request) -> httpx.Response:
        return giving(200, TIME)(request) if up else giving(400, {})(request)

    def lasting() -> bool:
        with pytest.raises(SourceError) as caught:
            source.now()
        return caught.value.lasting

    with closing(server(answer, clock=lambda: now)) as source:
        assert not lasting()
        now = PATIENCE
        assert lasting()
        up = True
        source.now()
        up = False
        assert not lasting()


def headers_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str | None:
    found: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        found.append(request.headers.get("authorization"))
        return httpx.Response(200, json=TIME)

    for name in ("PHASE5_PROMETHEUS_TOKEN", "PHASE5_PROMETHEUS_USER", "PHASE5_PROMETHEUS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with closing(server(answer)) as source:
        source.now()
    return found[0]


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert headers_of(monkeypatch) is None
    token = {"PHASE5_PROMETHEUS_TOKEN": "abc"}
    assert headers_of(monkeypatch, **token) == "Bearer abc"
    user = {"PHASE5_PROMETHEUS_USER": "me", "PHASE5_PROMETHEUS_PASSWORD": "pass"}
    assert headers_of(monkeypatch, **user) == "Basic bWU6cGFzcw=="
    assert headers_of(monkeypatch, **token, **user) == "Bearer abc"


def test_a_url_with_a_secret_and_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds a name or password") as caught:
        Prometheus("http://me:hush@p:9090")
    assert "hush" not in str(caught.value)
    with pytest.raises(SourceError, match="certificates"):
        Prometheus("https://p", Access(ca=tmp_path / "none.pem"))
