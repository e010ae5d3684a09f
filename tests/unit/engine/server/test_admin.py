import asyncio
from typing import Any

import httpx
import pytest

HALF = "generation: 2\nphase4_rollout:\n  ttft_pipeline: {enabled: true, rollout_percentage: 50}\n"


def ask(bench: Any, path: str, address: str = "127.0.0.1", **headers: str) -> httpx.Response:
    async def call() -> httpx.Response:
        async with bench.client(address) as client:
            return await client.post(path, headers=headers)

    response: httpx.Response = asyncio.run(call())
    return response


@pytest.mark.parametrize(
    ("token", "address", "headers", "status"),
    [
        (None, "127.0.0.1", {}, 200),
        (None, "::1", {}, 200),
        (None, "192.0.2.7", {}, 403),
        (None, "127.0.0.1", {"x-forwarded-for": "192.0.2.7"}, 403),
        (None, "127.0.0.1", {"origin": "http://elsewhere"}, 403),
        ("secret", "127.0.0.1", {}, 401),
        ("secret", "127.0.0.1", {"authorization": "Bearer wrong"}, 401),
        ("secret", "192.0.2.7", {"authorization": "Bearer secret"}, 200),
    ],
)
def test_who_may_administer(  # noqa: PLR0917 - pytest gives them by name
    make_bench: Any,
    monkeypatch: pytest.MonkeyPatch,
    token: Any,
    address: str,
    headers: Any,
    status: int,
) -> None:
    monkeypatch.delenv("PHASE5_ADMIN_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("PHASE5_ADMIN_TOKEN", token)
    bench = make_bench()
    assert ask(bench, "/admin/drain", address, **headers).status_code == status
    assert bench.engine.dispatcher.draining is (status == 200)


def test_a_reload_takes_over_the_rollout_and_names_what_needs_a_restart(make_bench: Any) -> None:
    bench = make_bench(flags=None)
    before = bench.engine.settings.config.digest()
    bench.engine.settings.path.write_text(HALF + "admission: {limit: 7}\n")
    answer = ask(bench, "/admin/reload").json()
    assert answer == {"reloaded": True, "generation": 2, "needs_restart": ["admission"]}
    status = bench.get("/v1/status").json()
    assert status["flags"]["ttft_pipeline"]["effective"] == 50
    assert status["flags"]["ttft_pipeline"]["stage"] == "mid"
    assert (status["generation"], status["limit"]) == (2, 50)
    assert status["config_sha256"] == before
    assert bench.metric("phase5_flag_percentage", flag="ttft_pipeline") == 50


@pytest.mark.parametrize("text", ["", "phase4_rollout: {http3: {}}\n", "generation: [\n"])
def test_a_configuration_that_cannot_serve_changes_nothing(make_bench: Any, text: str) -> None:
    bench = make_bench(HALF, flags=None)
    before = bench.get("/v1/status").json()
    bench.engine.settings.path.write_text(text)
    answer = ask(bench, "/admin/reload")
    assert answer.status_code == 400
    assert str(bench.engine.settings.path) in answer.json()["error"]["message"]
    after = bench.get("/v1/status").json()
    last = after.pop("reload")
    assert (last["outcome"], last["source"]) == ("refused", "request")
    assert last["reason"] == answer.json()["error"]["message"]
    assert after == {name: value for name, value in before.items() if name != "reload"}
    assert bench.metric("phase5_reloads_total", outcome="refused") == 1


def test_flags_of_the_command_line_stand_above_the_file(make_bench: Any) -> None:
    bench = make_bench(flags=frozenset({"qos_monitoring"}))
    bench.engine.settings.path.write_text(HALF)
    ask(bench, "/admin/reload")
    flags = bench.get("/v1/status").json()["flags"]
    shown = {name: flag["effective"] for name, flag in flags.items()}
    assert shown == {
        "adaptive_governor": 0,
        "http2_transport": 0,
        "ttft_pipeline": 0,
        "qos_monitoring": 100,
    }


def test_a_share_that_is_no_stage_shows_as_unmanaged(make_bench: Any) -> None:
    yaml = "phase4_rollout:\n  ttft_pipeline: {enabled: true, rollout_percentage: 7}\n"
    flags = make_bench(yaml, flags=None).get("/v1/status").json()["flags"]
    assert flags["ttft_pipeline"]["stage"] == "unmanaged"
    assert flags["http2_transport"]["stage"] == "off"


def test_a_violated_slo_is_counted_once_until_it_recovers(make_bench: Any) -> None:
    yaml = "qos: {min_samples: 1, policies: [{name: fast, metric: ttft_p95_ms, max: 0.0001}]}\n"
    bench = make_bench(yaml, flags=frozenset({"qos_monitoring"}))
    bench.post(model="tiny", messages=[{"role": "user", "content": "Where?"}])
    assert bench.engine.qos.look() == []
    assert bench.engine.qos.look() == []
    assert bench.metric("qos_violations_total", slo="fast") == 1
