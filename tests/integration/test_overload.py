"""At the limit all are served together; above it the excess hears so at once."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import httpx
import psutil
import pytest
from probe import HOST, Probe, body, eventually, head, probing
from served import PATIENCE

YAML = "admission: {limit: 100, queue: 100, deadline_seconds: 100}\n"
#: Long enough that the last one has its answer before the first one is done.
TOKENS = 300


@dataclass
class Crowd:
    """Clients that ask at once, and what happened to whom, in order."""

    port: int
    log: list[tuple[str, int]] = field(default_factory=list)
    retry_after: dict[int, int] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)

    async def ask(self, count: int) -> None:
        connected = asyncio.Barrier(count)  # else the first are served before the last ask
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._one(number, connected))

    async def _one(self, number: int, connected: asyncio.Barrier) -> None:
        usage = {"include_usage": True}
        content = body(f"Number {number}", TOKENS, stream_options=usage)
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            await connected.wait()
            writer.write(head(content, connection="close") + content)
            status = (await reader.readline()).split()[1].decode()
            headers = await self._headers(reader)
            self.log.append((status, number))
            if status == "200":
                await self._read(reader, number)
            else:
                self.retry_after[number] = int(headers["retry-after"])
                assert "error" in json.loads(await reader.read())
        finally:
            writer.close()

    async def _headers(self, reader: asyncio.StreamReader) -> dict[str, str]:
        lines = iter((await reader.readuntil(b"\r\n\r\n")).decode().splitlines())
        pairs = (line.partition(":") for line in takewhile(bool, lines))
        return {name.lower(): value.strip() for name, _, value in pairs}

    async def _read(self, reader: asyncio.StreamReader, number: int) -> None:
        while line := await reader.readline():
            if line == b"data: [DONE]\n":
                self.log.append(("done", number))
                return
            if line.startswith(b"data: "):
                document = json.loads(line.removeprefix(b"data: "))
                assert "error" not in document
                if usage := document.get("usage"):
                    self.tokens[number] = usage["completion_tokens"]

    def who(self, what: str) -> set[int]:
        return {number for event, number in self.log if event == what}

    def before_anyone_is_done(self) -> list[str]:
        """What happened until the first one was served whole."""
        return [event for event, _ in takewhile(lambda entry: entry[0] != "done", self.log)]


def crowd(probe: Probe, count: int) -> Crowd:
    made = Crowd(probe.port())
    asyncio.run(made.ask(count))
    return made


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    with probing(tmp_path_factory.mktemp("overload"), YAML) as probe:
        yield probe


@pytest.mark.parametrize("count", [75, 100])
def test_as_many_as_the_limit_decode_at_once_without_an_error(engine: Probe, count: int) -> None:
    served = crowd(engine, count)
    assert served.who("200") == served.who("done") == set(range(count))
    assert served.before_anyone_is_done() == ["200"] * count
    assert set(served.tokens.values()) == {TOKENS}
    eventually(engine.idle, "nothing is left")
    assert engine.metric("phase5_requests_total", outcome="failed") == 0


def test_the_excess_is_turned_away_before_anyone_is_done_and_the_rest_is_served_whole(
    engine: Probe,
) -> None:
    served = crowd(engine, 400)
    turned_away = set(served.retry_after)
    assert len(turned_away) == 200  # 100 run and 100 wait
    assert turned_away == served.who("429") | served.who("503")
    assert min(served.retry_after.values()) >= 1
    began = served.before_anyone_is_done()
    assert began.count("429") + began.count("503") == 200
    assert served.who("done") == set(range(400)) - turned_away
    assert set(served.tokens.values()) == {TOKENS}
    eventually(engine.idle, "nothing is left")
    assert engine.metric("phase5_requests_total", outcome="failed") == 0


def test_behind_a_runtime_that_stays_dead_nobody_waits(tmp_path: Path) -> None:
    with probing(tmp_path, YAML) as probe:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, probe, 8_000)
            eventually(lambda: probe.metric("phase5_streams_in_flight") == 1, "the stream is there")
            eventually(lambda: dead_for_good(probe), "the runtime stays dead")
            assert '"error"' in asked.result(PATIENCE).text.splitlines()[-2]
        answer = ask(probe, 8)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx.get(f"{probe.url}/readyz", timeout=PATIENCE).status_code == 503
        assert probe.metric("phase5_streams_in_flight") == 0


def ask(probe: Probe, tokens: int) -> httpx.Response:
    content = body("Once", tokens)
    return httpx.post(f"{probe.url}/v1/completions", content=content, timeout=PATIENCE)


def dead_for_good(probe: Probe) -> bool:
    """Kill the runtime, if there is one; whether no other comes."""
    for child in probe.front.children():
        with suppress(psutil.NoSuchProcess):
            child.kill()
    return bool(probe.replica()["state"] == "failed")
