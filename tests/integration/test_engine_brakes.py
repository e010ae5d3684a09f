"""Rollbacks of a real engine: durable when they are answered, and no stream is lost."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from answers import Answer, ask
from http2 import all_whole, calls, prior_knowledge
from probe import HOST, probing
from served import PATIENCE, Served, serving, until

FLAGS = ("adaptive_governor", "http2_transport", "ttft_pipeline", "qos_monitoring")
FLAG = "ttft_pipeline"
STREAMS = 75 if os.environ.get("PHASE5_FULL") else 30
NEW = 6
LEASE = "rollout: {lease_seconds: {canary: 1, early: 1, mid: 1}}\n"


def rollout(generation: int, percentage: float, *flags: str, more: str = "") -> str:
    share = f"enabled: true, rollout_percentage: {percentage}, holdback_percentage: 0{more}"
    lines = "".join(f"  {flag}: {{{share}}}\n" for flag in flags)
    return f"generation: {generation}\nphase4_rollout:\n{lines}admission: {{limit: 100}}\n"


def post(served: Served, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{served.url}/admin/{path}", json=body, timeout=PATIENCE)


def flags(served: Served) -> dict[str, Any]:
    found: Any = served.status()["flags"]
    return dict(found)


def brakes(served: Served) -> dict[str, str]:
    return {name: flag["brake"] for name, flag in flags(served).items()}


def kill(served: Served) -> None:
    """As a power cut would: nothing more is written."""
    served.process.kill()
    served.process.wait(PATIENCE)


Then = Callable[[aiohttp.ClientSession], Any]


async def around(served: Served, then: Then) -> tuple[list[Answer], list[Answer]]:
    """Streams that are under way while something happens, and those that begin behind it."""
    live, new = [Answer() for _ in range(STREAMS)], [Answer() for _ in range(NEW)]
    limit, connector = aiohttp.ClientTimeout(total=PATIENCE), aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(served.url, timeout=limit, connector=connector) as client,
        asyncio.TaskGroup() as group,
    ):
        for index, answer in enumerate(live):
            group.create_task(ask(client, index, answer, max_tokens=80))
        for answer in live:
            await answer.begun.wait()
        await then(client)
        for index, answer in enumerate(new):
            group.create_task(ask(client, STREAMS + index, answer, max_tokens=8))
    return live, new


def whole(answers: list[Answer]) -> bool:
    return all((each.status, each.finish, each.done) == (200, "length", True) for each in answers)


def rolled_back(cause: str) -> Then:
    async def then(client: aiohttp.ClientSession) -> None:
        async with client.post("/admin/rollback", json={"cause": cause}) as answer:
            assert answer.status == 200, await answer.text()

    return then


async def nothing(_client: aiohttp.ClientSession) -> None:
    pass


def test_a_rollback_under_streams_loses_none_and_outlives_a_power_cut(tmp_path: Path) -> None:
    with serving(tmp_path, None, config=rollout(3, 100, *FLAGS)) as served:
        live, new = asyncio.run(around(served, rolled_back("manual")))
        kill(served)
    assert whole(live)
    assert whole(new)
    assert all(FLAG in answer.flags for answer in live)
    assert {answer.flags for answer in new} == {"off"}
    # Whatever the file says by then, and whatever it is torn by.
    for file in tmp_path.rglob("brakes/ttft_pipeline.*"):
        file.write_bytes(file.read_bytes()[:9])
    with serving(tmp_path, None, config=rollout(9, 100, *FLAGS)) as served:
        told = flags(served)
        assert all(flag["braked"] and flag["effective"] == 0 for flag in told.values())
        assert (told[FLAG]["cause"], told["qos_monitoring"]["cause"]) == ("unknown", "manual")
        (trouble,) = served.status()["state"]["troubles"]  # type: ignore[index] # a JSON object
        assert "ttft_pipeline" in trouble
        lifted = {name: {"lifted": [brake]} for name, brake in brakes(served).items()}
        told = post(served, "rollout", generation=10, flags=lifted).json()["flags"]
        assert all(flag["effective"] == 100 for flag in told.values())


def test_after_a_crash_treated_streams_go_on_without_the_feature_and_say_the_same(
    tmp_path: Path,
) -> None:
    with probing(tmp_path, rollout(3, 100, FLAG), None) as probe:
        served = probe.served
        undisturbed, _ = asyncio.run(around(served, nothing))
        replayed = probe.metric("phase5_runtime_replays_total")
        live, new = asyncio.run(around(served, rolled_back("crash")))
        assert whole(live)
        assert whole(new)
        assert [answer.text for answer in live] == [answer.text for answer in undisturbed]
        assert {answer.flags for answer in live} == {FLAG}  # the assignment is pinned
        assert {answer.flags for answer in new} == {"off"}
        assert probe.metric("phase5_runtime_replays_total") - replayed > STREAMS / 2
        assert probe.metric("phase5_runtime_restarts_total") == 0


def test_a_braked_http2_port_says_goodbye_and_loses_no_stream(tmp_path: Path) -> None:
    with probing(tmp_path, rollout(1, 100, "http2_transport"), None) as probe:
        served = probe.served
        url = second_port(served)

        async def story() -> None:
            async with prior_knowledge() as client:
                made = await calls(client, url, NEW, 300)
                assert post(served, "rollback", flags=["http2_transport"]).status_code == 200
                assert second_port(served) == "None"
                assert one_answer(served).headers["alt-svc"] == "clear"
                assert await all_whole(made)

        asyncio.run(story())
        until(lambda: refused(url))
        assert probe.metric("phase5_connections_goaways_total", protocol="http2") == 1


def second_port(served: Served) -> str:
    endpoints: Any = served.status()["endpoints"]
    return str(endpoints["http2"])


def one_answer(served: Served) -> httpx.Response:
    asked = {"model": "tiny", "prompt": "Once", "max_tokens": 1}
    return httpx.post(f"{served.url}/v1/completions", json=asked, timeout=PATIENCE)


def refused(url: str) -> bool:
    try:
        socket.create_connection((HOST, int(url.rpartition(":")[2])), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_brake_that_cannot_be_kept_is_told_of_and_kept_as_soon_as_it_can(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, None, config=rollout(3, 50, FLAG)) as served:
        in_the_way = tmp_path / "runtime.yaml.state" / "engine-0" / "brakes"
        in_the_way.write_text("no folder")
        (tmp_path / "runtime.yaml").unlink()
        answer = post(served, "rollback", reason="slow")
        assert answer.status_code == 507
        error = answer.json()["error"]
        assert error["code"] == "not_durable"
        assert str(in_the_way) in error["message"]
        assert all(flag["effective"] == 0 for flag in flags(served).values())
        in_the_way.unlink()
        until(lambda: bool(served.status()["state"]["durable"]))  # type: ignore[index] # as above
        held = brakes(served)
        kill(served)
    with serving(tmp_path, None, config=rollout(4, 50, FLAG)) as served:
        assert brakes(served) == held


def test_without_a_guard_an_engine_brakes_itself_and_freezes_at_full(tmp_path: Path) -> None:
    early = rollout(3, 10, FLAG, more=", stage: early")
    full = "  qos_monitoring: {enabled: true, stage: full}\n"
    config = early.replace("admission", f"{full}admission") + LEASE
    with serving(tmp_path, None, config=config) as served:
        until(lambda: flags(served)[FLAG]["braked"])
        assert flags(served)[FLAG]["cause"] == "dead_man"
        assert flags(served)["qos_monitoring"]["effective"] == 99
        assert served.status()["lease"]["frozen"]  # type: ignore[index] # a JSON object
        told = post(served, "rollout", generation=4, flags={"http2_transport": {"enabled": True}})
        assert told.json()["taken"]  # still nobody
        raised = {"adaptive_governor": {"enabled": True, "rollout_percentage": 1}}
        assert not post(served, "rollout", generation=5, flags=raised).json()["taken"]
        assert post(served, "lease", seconds=60).json()["expires_at"] < time.time() + 2
        assert post(served, "rollout", generation=5, flags=raised).json()["taken"]
        kill(served)
    assert "no raise is taken" in (tmp_path / "stderr").read_text()
    with serving(tmp_path, None, config=config) as served:
        assert flags(served)[FLAG]["cause"] == "dead_man"
        assert served.status()["generation"] == 5


def test_two_engines_on_one_file_brake_each_for_itself(tmp_path: Path) -> None:
    config = rollout(3, 50, FLAG)
    with serving(tmp_path, None, config=config) as one:
        with serving(tmp_path, None, config=config) as two:
            ids = {one.status()["engine_id"], two.status()["engine_id"]}
            assert len(ids) == 2
            brake = post(two, "rollback", flags=[FLAG]).json()["brakes"][FLAG]
            assert flags(one)[FLAG]["effective"] == 50
            kill(two)
        with serving(tmp_path, None, config=config) as two:
            assert flags(two)[FLAG]["brake"] == brake
            assert {one.status()["engine_id"], two.status()["engine_id"]} == ids
