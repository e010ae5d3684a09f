"""The two clients of engines, over sockets: what they believe, try again, and name.

`gates.engines` is for who runs anyway, `gates.plain_http` for a rollback; both keep one contract.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import GARBAGE, HANG, RESET, FakeEngine, Fault, dead_url, running

from engine.core.flags import FLAGS
from engine.runtime.certificate import self_signed
from gates import engines, plain_http
from gates.asking import TOKEN_VARIABLE
from gates.engine_views import EngineView
from gates.engines import EngineClient, EngineError, ask_each, clients, statuses

Call = Callable[[EngineClient], Awaitable[Any]]
#: Asks an engine who it is, for so many seconds.
Look = Callable[..., EngineView]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with running(FakeEngine()) as engine:
        yield engine


def by_httpx(url: str, seconds: float = 5.0, ca: Path | None = None) -> EngineView:
    answer = asyncio.run(statuses([url], seconds=seconds, ca=ca))[url]
    if isinstance(answer, EngineError):
        raise answer
    return answer


def plainly(url: str, seconds: float = 5.0, ca: Path | None = None) -> EngineView:
    deadline = time.monotonic() + seconds
    return plain_http.persistently(lambda left: plain_http.view(url, left, ca), deadline)


@pytest.fixture(params=[by_httpx, plainly])
def look(request: pytest.FixtureRequest) -> Look:
    """Either client."""
    way: Look = request.param
    return way


def ask(engine: FakeEngine, call: Call, seconds: float = 5.0) -> Any:
    """What a call brings; its error is raised."""

    async def run() -> Any:
        async with clients([engine.url]) as found:
            return await ask_each(found, call, seconds=seconds)

    answer = asyncio.run(run())[engine.url]
    if isinstance(answer, EngineError):
        raise answer
    return answer


def status(client: EngineClient) -> Awaitable[EngineView]:
    return client.status()


def test_an_engine_says_who_it_is(engine: FakeEngine, look: Look) -> None:
    engine.shares["ttft_pipeline"] = 10.0
    view = look(engine.url)
    assert (view.commit, view.model, view.machine) == ("c0ffee", "tiny", "linux-x86_64-2cpu")
    assert view.flags["ttft_pipeline"].effective == 10.0
    assert view.flags["qos_monitoring"].off


def test_an_engine_is_told_to_brake_to_follow_and_to_go_on_serving(engine: FakeEngine) -> None:
    told = ask(engine, lambda c: c.rollback(["qos_monitoring"], cause="manual", reason="r" * 999))
    assert told.brakes == {"qos_monitoring": "e1-qos_monitoring-1"}
    assert told.flags["qos_monitoring"].braked
    assert len(engine.told[0][1]["reason"]) == 500  # what an engine takes
    state = {name: {"enabled": False, "rollout_percentage": 0, "stage": "off"} for name in FLAGS}
    lifted = {name: {**flag, "lifted": list(told.brakes.values())} for name, flag in state.items()}
    assert ask(engine, lambda c: c.deliver(7, lifted)).taken
    assert not engine.brakes
    assert ask(engine, lambda c: c.deliver(6, lifted)).reason == "an older generation"
    assert ask(engine, lambda c: c.renew(900)) == 1900.0


@pytest.mark.parametrize("fault", [500, 503, 429, RESET])
def test_what_may_pass_is_tried_again(engine: FakeEngine, look: Look, fault: Fault) -> None:
    engine.faults = [fault, fault]
    assert look(engine.url).ready
    assert engine.faults == []


def test_an_engine_that_hangs_is_asked_again(
    engine: FakeEngine, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ATTEMPT_SECONDS", 0.2)
    monkeypatch.setattr(plain_http, "ATTEMPT_SECONDS", 0.2)
    engine.faults = [HANG]
    assert look(engine.url).ready


def test_the_time_bounds_one_attempt_too(engine: FakeEngine, look: Look) -> None:
    engine.faults = [HANG]
    with pytest.raises(EngineError, match=r"no answer within 0\.1 s|timed out"):
        look(engine.url, 0.1)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (GARBAGE, "not the answer of an engine"),
        (404, "404 fault 404"),
        (400, "400 fault 400"),
    ],
)
def test_what_does_not_pass_is_asked_once_and_named(
    engine: FakeEngine, look: Look, fault: Fault, named: str
) -> None:
    engine.faults = [fault]
    with pytest.raises(EngineError, match=named) as caught:
        look(engine.url)
    assert engine.url in str(caught.value)


@pytest.mark.parametrize("key", ["engine_id", "machine", "flags", "lease", "model", "commit"])
def test_an_answer_without_a_key_is_not_believed(
    engine: FakeEngine, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeEngine.answer

    def part(self: FakeEngine, path: str, body: Any) -> dict[str, Any]:
        return {name: value for name, value in whole(self, path, body).items() if name != key}

    monkeypatch.setattr(FakeEngine, "answer", part)
    with pytest.raises(EngineError, match=key):
        ask(engine, status)


@pytest.mark.parametrize("value", [float("nan"), None, "0", True])
def test_a_share_that_is_no_number_is_not_zero(
    engine: FakeEngine, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FakeEngine.flag
    monkeypatch.setattr(
        FakeEngine, "flag", lambda self, name: {**whole(self, name), "effective": value}
    )
    with pytest.raises(EngineError, match="effective"):
        ask(engine, status)


def test_the_token_of_the_environment_is_shown(
    engine: FakeEngine, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.token = "s3cret"  # noqa: S105 - of a fake
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(EngineError, match="401") as caught:
        look(engine.url)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    assert look(engine.url).ready


def test_all_are_asked_at_once_and_the_one_that_is_down_is_named(engine: FakeEngine) -> None:
    dead = dead_url()
    answers = asyncio.run(statuses([engine.url, dead], seconds=0.3))
    assert isinstance(answers[engine.url], EngineView)
    assert dead in str(answers[dead])


def test_a_proxy_of_the_environment_is_not_asked(
    engine: FakeEngine, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, dead_url())
    assert look(engine.url).ready


def test_an_engine_behind_tls_is_believed_when_its_authority_is_known(
    look: Look, tmp_path: Path
) -> None:
    ca, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    certificate, secret = self_signed("localhost")
    ca.write_bytes(certificate)
    key.write_bytes(secret)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ca, key)
    with running(FakeEngine(), tls) as engine:
        assert look(engine.url, ca=ca).ready
        with pytest.raises(EngineError, match=r"(?i)certificate"):
            look(engine.url, 1.0)
