"""Clients that do not read, over real sockets."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError

from engine.server.connections import Connections
from engine.server.listeners import Listener, SecondPort
from engine.server.sockets import bind, cut

HOST = "127.0.0.1"
CHAT = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Where?"}]}
BODY = json.dumps(CHAT).encode()
YAML = "server: {buffer_tokens: 16, slow_reader_seconds: 1}\n"
#: Far more than a window of 64 KiB and the server's own buffers hold, in events of 200 bytes.
MUCH = 3_000


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


@contextmanager
def slow_socket(url: str) -> Iterator[socket.socket]:
    """A streamed chat over a socket that takes 4 KiB and is never read."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((HOST, int(url.rpartition(":")[2])))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        sock.sendall(head.encode() + BODY)
        yield sock


def held_against(sock: socket.socket) -> int:
    """Connections of this process with this client at their other end."""
    client = sock.getsockname()
    return sum(each.raddr == client for each in psutil.Process().net_connections("tcp"))


def drained(sock: socket.socket) -> bytes:
    """Everything up to the end in good order, of which there is none after a reset."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


async def read_all(response: Any) -> None:
    while await response.body_reader.read_chunk():
        pass


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a count


async def feed(bench: Any, uid: int) -> int:
    """Be a runtime that obeys, until the stream is given up; how many tokens it took."""
    told = 0
    async with asyncio.timeout(30):
        while uid in bench.runtime.live:
            if uid in bench.runtime.paused:
                await asyncio.sleep(0.005)
            else:
                told += 1
                bench.runtime.tell(uid, "x")
                await asyncio.sleep(0)
    return told


async def ticking(bench: Any) -> None:
    while True:
        bench.engine.on_tick()
        await asyncio.sleep(0.1)


def run(make_bench: Any, fake_runtime: Any, story: Callable[[Any, str], Awaitable[None]]) -> Any:
    bench = make_bench(YAML, runtime=fake_runtime(held=True))

    async def main() -> None:
        first = Listener(bench.app, bind(HOST, 0), host=HOST)
        bench.second = SecondPort(
            *(bench.app, bench.engine.ports, (HOST, 0), None),
            closing=bench.engine.connections.told_to_go,
        )
        ticks = asyncio.create_task(ticking(bench))
        try:
            await story(bench, first.url)
        finally:
            ticks.cancel()
            first.close()
            bench.second.close()
            for listener in (first, *bench.second.ending()):
                assert await listener.closed()

    asyncio.run(asyncio.wait_for(main(), 60))
    return bench


def test_a_client_that_does_not_read_is_dropped_and_its_connection_closed(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, url: str) -> None:
        await until(lambda: bool(bench.engine.ports is not None))
        with slow_socket(url) as sock:
            await until(lambda: bool(bench.runtime.live))
            assert held_against(sock) == 1
            assert await feed(bench, 1) < MUCH
            # The client still holds its end: ours must be gone without its help.
            await until(lambda: held_against(sock) == 0)
            sock.settimeout(10)
            with pytest.raises(ConnectionError):
                await asyncio.to_thread(drained, sock)

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_streams_dropped_total", reason="slow_reader") == 1
    assert bench.engine.connections.sending == 0


def http2_client() -> Client:
    builder = ClientBuilder().http2_prior_knowledge()
    return builder.http2_initial_stream_window_size(65_535).build()


def test_over_http2_only_the_unread_stream_is_dropped_until_its_neighbour_is_done(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, _url: str) -> None:
        await bench.second.open()
        url = f"{bench.engine.ports.http2}/v1/chat/completions"
        async with http2_client() as client:
            request = client.post(url).body_bytes(BODY).streamed_read_buffer_limit(0)
            neighbour = asyncio.create_task(client.post(url).body_bytes(BODY).build().send())
            await until(lambda: len(bench.runtime.live) == 1)

            async def first_text() -> None:
                await until(lambda: len(bench.runtime.live) == 2)
                bench.runtime.tell(2, "x")

            telling = asyncio.create_task(first_text())
            async with request.build_streamed() as response:
                await telling
                assert await feed(bench, 2) < MUCH
                assert set(bench.runtime.live) == {1}
                assert bench.metric("http2_connections") == 1
                bench.runtime.tell(1, "Paris", "length")
                assert "[DONE]" in await (await neighbour).text()
                await until(lambda: bench.metric("http2_connections") == 0)
                with pytest.raises(RequestError):  # closed, now that nobody else uses it
                    await read_all(response)

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_streams_dropped_total", reason="slow_reader") == 1
    assert bench.metric("phase5_requests_total", outcome="ok", protocol="http2") == 1


def test_cutting_closes_the_named_connection_and_no_other() -> None:
    with bind(HOST, 0) as listening:
        address = listening.getsockname()
        before = open_descriptors()
        clients = [socket.create_connection(address, 10) for _ in range(2)]
        listening.setblocking(True)  # noqa: FBT003 - no keyword there
        ours = [listening.accept()[0] for _ in clients]
        client, port = clients[0].getsockname(), str(address[1])
        assert cut((HOST, str(client[1]), port)) == 1
        assert cut((HOST, str(client[1]), "1")) == 0
        assert ours[0].recv(1) == b""
        ours[1].sendall(b"x")
        assert clients[1].recv(1) == b"x"
        for sock in (*ours, *clients):
            sock.close()
        assert open_descriptors() == before


def test_a_connection_that_is_gone_is_none_to_cut() -> None:
    assert cut((HOST, "1", "1")) == 0


def test_a_request_without_addresses_is_served() -> None:
    served = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        served.append(scope)

    async def unused() -> Any:
        raise AssertionError

    connections = Connections(1.0, lambda: 0.0)
    scope = {"type": "http", "client": None, "server": None}
    asyncio.run(connections.through(app, scope, unused, lambda _message: unused()))
    assert served == [scope]
