import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError

from engine.server.listeners import Listener, SecondPort
from engine.server.parts import Ports
from engine.server.sockets import SEND_BUFFER_BYTES, ListenError, bind

HOST = "127.0.0.1"
CHAT = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Where?"}]}
BODY = json.dumps(CHAT).encode()


ON = "phase4_rollout:\n  http2_transport: {enabled: true, rollout_percentage: 100}\n"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def http2_client() -> Client:
    return ClientBuilder().http2_prior_knowledge().build()


def run_served(make_bench: Any, runtime: Any, story: Callable[[Any, str], Awaitable[None]]) -> Any:
    """A story with an engine behind both ports; `bench.second` opens the second."""
    bench = make_bench(runtime=runtime)

    async def main() -> None:
        first = Listener(bench.app, bind(HOST, 0), host=HOST)
        bench.second = SecondPort(
            *(bench.app, bench.engine.ports, (HOST, 0), None),
            closing=bench.engine.connections.told_to_go,
        )
        try:
            await story(bench, first.url)
        finally:
            first.close()
            bench.second.close()
            for listener in (first, *bench.second.ending()):
                assert await listener.closed()

    asyncio.run(asyncio.wait_for(main(), 30))
    return bench


@asynccontextmanager
async def raw_stream(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A streamed chat over a socket of our own, without any client's habits."""
    reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n"
    writer.write(head.encode() + BODY)
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("text", ["", "Paris"])
def test_a_client_that_leaves_cancels_its_stream(
    make_bench: Any, fake_runtime: Any, text: str
) -> None:
    async def story(bench: Any, url: str) -> None:
        async with raw_stream(url) as (reader, _):
            await until(lambda: bool(bench.runtime.live))
            if text:
                bench.runtime.tell(1, text)
                await reader.readuntil(b'"P"')
        await until(lambda: bench.runtime.cancelled == [1])

    bench = run_served(make_bench, fake_runtime(held=True), story)
    assert bench.metric("phase5_requests_total", outcome="cancelled") == 1
    assert bench.metric("phase5_requests_total") == 1
    assert bench.engine.registry.counts().cancelled == 1


def test_an_http2_stream_that_is_reset_is_cancelled_and_its_neighbour_lives(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, _url: str) -> None:
        await bench.second.open()
        url = f"{bench.engine.ports.http2}/v1/chat/completions"
        async with http2_client() as client:
            stays = client.post(url).body_bytes(BODY).build()
            leaves = client.post(url).body_bytes(BODY).streamed_read_buffer_limit(0)
            answer = asyncio.create_task(stays.send())
            await until(lambda: len(bench.runtime.live) == 1)

            async def tell() -> None:
                await until(lambda: len(bench.runtime.live) == 2)
                bench.runtime.tell(2, "Pa")

            telling = asyncio.create_task(tell())
            async with leaves.build_streamed() as response:
                assert await response.body_reader.read_chunk()
                assert bench.metric("http2_connections") == 1
            await telling
            await until(lambda: bench.runtime.cancelled == [2])
            bench.runtime.tell(1, "Paris", "length")
            assert "[DONE]" in await (await answer).text()

    bench = run_served(make_bench, fake_runtime(held=True), story)
    assert bench.metric("phase5_requests_total", outcome="ok", protocol="http2") == 1
    assert bench.metric("phase5_requests_total", outcome="cancelled", protocol="http2") == 1
    assert bench.metric("http2_connections") == 0


def test_the_first_port_does_not_speak_http2(make_bench: Any, fake_runtime: Any) -> None:
    async def story(_bench: Any, url: str) -> None:
        async with http2_client() as client:
            with pytest.raises(RequestError):
                await client.get(f"{url}/livez").build().send()

    run_served(make_bench, fake_runtime(), story)


def test_closing_the_second_port_lets_its_stream_finish(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, _url: str) -> None:
        await bench.second.open()
        url = bench.engine.ports.http2
        async with http2_client() as client:
            request = client.post(f"{url}/v1/chat/completions").body_bytes(BODY).build()
            answer = asyncio.create_task(request.send())
            await until(lambda: bool(bench.runtime.live))
            bench.second.close()
            (ending,) = bench.second.ending()
            assert bench.engine.ports.http2 is None
            bench.runtime.tell(1, "Paris", "length")
            assert "[DONE]" in await (await answer).text()
        assert await ending.closed()
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))

    bench = run_served(make_bench, fake_runtime(held=True), story)
    assert bench.metric("phase5_requests_total", outcome="ok", protocol="http2") == 1


def test_a_reload_opens_and_closes_the_second_port(make_bench: Any, fake_runtime: Any) -> None:
    on = f"generation: 2\n{ON}"
    told = []

    async def story(bench: Any, _url: str) -> None:
        engine = bench.engine
        engine.http2_port = bench.second
        for text in ("generation: 1\n", on, "generation: 3\n"):
            engine.settings.path.write_text(text)
            await engine.reloads.reload("request")
            async with bench.client() as client:
                body = {**CHAT, "user": "someone"}
                answer = await client.post("/v1/chat/completions", json=body)
            told.append((engine.ports.http2 is not None, answer.headers.get("alt-svc", "-")[:3]))

    run_served(partial(make_bench, flags=None), fake_runtime(), story)
    assert told == [(False, "-"), (True, "h2c"), (False, "cle")]


def test_a_reload_that_cannot_have_its_port_changes_nothing(
    make_bench: Any, fake_runtime: Any
) -> None:
    class Taken:
        async def open(self) -> None:
            raise ListenError("cannot listen on 127.0.0.1 port 1")

        def close(self) -> None:
            pass

    bench = make_bench(flags=None, runtime=fake_runtime())
    bench.engine.http2_port = Taken()
    on = f"generation: 2\n{ON}"
    before = bench.engine.settings
    before.path.write_text(on)
    with pytest.raises(ListenError):
        asyncio.run(bench.engine.reloads.reload("request"))
    assert bench.engine.settings is before
    assert bench.engine.features.states["http2_transport"].percentage == 0


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with bind(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1 port {port}: .*in use.*port 0"):
            bind(HOST, port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 port 0"):
        bind("192.0.2.1", 0)


def test_sockets_hold_little_for_a_client_that_does_not_read() -> None:
    with bind(HOST, 0) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER_BYTES


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


def test_the_second_port_takes_another_number_when_its_own_is_taken() -> None:
    async def story() -> None:
        ports = Ports()
        second = SecondPort(nothing, ports, (HOST, 0), None)
        await second.open()
        before = ports.http2
        second.close()
        (ending,) = second.ending()
        assert await ending.closed()
        with bind(HOST, int(str(before).rpartition(":")[2])):
            await second.open()
            assert ports.http2 not in {None, before}
            second.close()
        for listener in second.ending():
            assert await listener.closed()

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_configured_second_port_that_is_taken_is_an_error() -> None:
    async def story() -> None:
        with bind(HOST, 0) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match=str(port)):
                await SecondPort(nothing, Ports(), (HOST, port), None).open()

    asyncio.run(story())


def test_the_second_port_opens_at_once_after_it_closed_on_its_number() -> None:
    async def story() -> None:
        ports = Ports()
        second = SecondPort(nothing, ports, (HOST, 0), None)
        await second.open()
        before = ports.http2
        for _ in range(3):
            second.close()
            await second.open()
            assert ports.http2 == before
        second.close()
        for listener in second.ending():
            assert await listener.closed()

    asyncio.run(asyncio.wait_for(story(), 30))


def test_draining_leaves_the_second_port_open_to_tell_newcomers(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, _url: str) -> None:
        engine = bench.engine
        engine.http2_port = bench.second
        await bench.second.open()
        engine.stop_taking()
        async with httpx.AsyncClient() as client:  # the port speaks HTTP/1.1 too
            answer = await client.get(f"{engine.ports.http2}/readyz")
        assert answer.status_code == 503
        engine.settings.path.write_text(f"generation: 9\n{ON}")
        await engine.reloads.reload("request")
        assert engine.ports.http2 is not None

    run_served(partial(make_bench, flags=None), fake_runtime(), story)
