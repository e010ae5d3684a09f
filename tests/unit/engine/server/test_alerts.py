import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from engine.core.qos import Slo, SloStatus
from engine.core.remediation import Order
from engine.core.remedies import Policy, Remedy
from engine.server import alerts
from engine.server.actuators import ActuatorError
from engine.server.alerts import ALERTMANAGER, SLACK, Alerts

SECRET = "T000-B000-secret"  # noqa: S105 - not a real one
WHERE = {ALERTMANAGER: "http://alerts/api/v2/alerts", SLACK: f"http://slack/{SECRET}"}
SLO = Slo(name="slow", metric="ttft_p95_ms", max=550, severity="critical")
ALERT = Policy(SLO, Remedy("alert"))
WALL = 1_700_000_000.0

Answer = Callable[[httpx.Request], httpx.Response]


def status(name: str = "slow", value: float | None = 812.4) -> SloStatus:
    return SloStatus(name, "ttft_p95_ms", value, 40, "violated", 550.0, active=True)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "BACKOFF_SECONDS", 0)


class Post:
    """Receivers, and what they got."""

    def __init__(self, answer: Answer = lambda _: httpx.Response(200)) -> None:
        self.got: list[tuple[str, Any]] = []
        self._answer = answer
        self.wall = WALL

    def alerts(self, addresses: dict[str, str] | None = None) -> Alerts:
        return Alerts(
            lambda _: SLO,
            "engine-1",
            WHERE if addresses is None else addresses,
            lambda: self.wall,
            transport=httpx.MockTransport(self._handle),
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.got.append((request.url.host, json.loads(request.content)))
        return self._answer(request)


def tell(lever: Alerts, *statuses: SloStatus) -> str:
    order = Order("execute", ALERT, statuses or (status(),))
    return asyncio.run(lever.apply(order)).after


def test_an_alertmanager_is_told_of_every_violation_with_its_labels() -> None:
    post = Post()
    tell(post.alerts(), status(), status("other"))
    (body,) = [body for host, body in post.got if host == "alerts"]
    assert [each["labels"]["slo"] for each in body] == ["slow", "other"]
    assert body[0]["labels"] == {
        "alertname": "Phase5SloViolated",
        "slo": "slow",
        "metric": "ttft_p95_ms",
        "severity": "critical",
        "engine": "engine-1",
    }
    assert body[0]["annotations"]["summary"] == (
        "SLO slow is violated: ttft_p95_ms is 812.4, limit 550, n=40"
    )
    start, end = (datetime.fromisoformat(body[0][key]) for key in ("startsAt", "endsAt"))
    assert start.timestamp() == WALL
    assert end > start


def test_slack_gets_a_line_for_each_violation() -> None:
    post = Post()
    tell(post.alerts(), status(), status("other", None))
    (body,) = [body for host, body in post.got if host == "slack"]
    first, second = body["text"].splitlines()
    assert first.endswith("limit 550, n=40 (critical, engine engine-1)")
    assert "ttft_p95_ms is unknown" in second


def test_the_end_is_told_with_the_same_labels_and_beginning() -> None:
    post = Post()
    lever = post.alerts()
    tell(lever)
    post.wall += 60
    asyncio.run(lever.resolve(Order("resolve", ALERT, (status(value=100.0),))))
    first, last = (body[0] for host, body in post.got if host == "alerts")
    assert (first["labels"], first["startsAt"]) == (last["labels"], last["startsAt"])
    assert datetime.fromisoformat(last["endsAt"]).timestamp() == WALL + 60
    assert "is no longer violated" in post.got[-1][1]["text"]


def test_without_an_address_the_log_is_told_and_nobody_else() -> None:
    post = Post()
    assert tell(post.alerts({})) == "told the log"
    assert post.got == []


def test_addresses_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLACK, "")
    monkeypatch.setenv(ALERTMANAGER, "http://somewhere")
    lever = Alerts.from_environment(lambda _: SLO, "engine-1", lambda: WALL)
    assert lever._addresses == {ALERTMANAGER: "http://somewhere"}


def flaky(*answers: int) -> Answer:
    rest = iter(answers)
    return lambda _: httpx.Response(next(rest))


@pytest.mark.parametrize("first", [429, 500, 503])
def test_a_receiver_that_is_busy_is_asked_again(first: int) -> None:
    post = Post(flaky(first, first, 200))
    tell(post.alerts({SLACK: WHERE[SLACK]}))
    assert len(post.got) == 3


@pytest.mark.parametrize(("answers", "attempts"), [((503,) * 9, 3), ((404,), 1), ((301,), 1)])
def test_attempts_are_bounded_and_a_refusal_is_final(
    answers: tuple[int, ...], attempts: int
) -> None:
    post = Post(flaky(*answers))
    with pytest.raises(ActuatorError, match=f"{SLACK} answered {answers[0]}"):
        tell(post.alerts({SLACK: WHERE[SLACK]}))
    assert len(post.got) == attempts


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(f"no route to {request.url}")


def test_no_secret_gets_into_an_error_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(ActuatorError) as caught:
        tell(Post(unreachable).alerts())
    assert SECRET not in str(caught.value) + caplog.text
    assert str(caught.value) == (
        f"the receiver of {ALERTMANAGER} cannot be reached: ConnectError; "
        f"the receiver of {SLACK} cannot be reached: ConnectError"
    )


def test_an_address_that_is_none_is_a_failure_that_does_not_name_it() -> None:
    with pytest.raises(ActuatorError) as caught:
        tell(Post().alerts({SLACK: "http://half:port/"}))
    assert "half" not in str(caught.value)


def test_one_receiver_that_fails_keeps_nothing_from_the_other() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400 if request.url.host == "alerts" else 200)

    post = Post(answer)
    with pytest.raises(ActuatorError):
        tell(post.alerts())
    assert [host for host, _ in post.got] == ["alerts", "slack"]
