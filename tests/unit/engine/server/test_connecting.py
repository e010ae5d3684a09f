"""Connections counted for as long as they are open (D21), without sockets."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from engine.server.connecting import register_connections
from engine.server.connections import Connections
from engine.server.sockets import Key


class Table:
    """Connections with a clock and a kernel of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kernel: set[Key] = set()
        self.looks = 0
        self.blind = False
        self.connections = Connections(30, lambda: self.now, self._look)
        self.registry = CollectorRegistry()
        register_connections(self.registry, self.connections)

    def _look(self) -> set[Key]:
        self.looks += 1
        if self.blind:
            raise OSError(24, "Too many open files")
        return self.kernel

    def request(self, port: int, version: str = "2", *, leaves: bool = False) -> None:
        """One request from its first byte to its last, or until its client leaves."""
        self.kernel.add(("127.0.0.1", str(port), "80"))
        scope = {"client": ("127.0.0.1", port), "server": ("x", 80), "http_version": version}

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            pass

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start"})
            if not leaves:
                await send({"type": "http.response.body", "more_body": False})
            await receive()
            await receive()

        asyncio.run(self.connections.through(app, scope, receive, send))

    def value(self, name: str, protocol: str = "http2") -> float | None:
        return self.registry.get_sample_value(name, {"protocol": protocol})


def test_a_connection_is_open_without_a_request_until_it_ends() -> None:
    table = Table()
    for _ in range(3):
        table.request(1)
    table.request(2, "1.1")
    assert table.value("phase5_connections_open") == 1
    assert table.value("phase5_connections_open", "http1") == 1
    assert table.value("phase5_connections_opened_total") == 1
    table.kernel.clear()
    assert table.value("phase5_connections_open") == 0
    assert table.value("phase5_connection_requests_sum") == 3
    assert table.value("phase5_connection_requests_count") == 1


def test_without_a_descriptor_to_look_with_nobody_is_taken_for_gone() -> None:
    table = Table()
    table.request(1)
    table.kernel.clear()
    table.blind = True
    assert table.value("phase5_connections_open") == 1
    table.blind = False
    assert table.value("phase5_connections_open") == 0


def test_an_address_that_comes_again_with_another_protocol_is_another_connection() -> None:
    table = Table()
    table.request(1, "1.1")
    table.request(1, "2")
    assert table.value("phase5_connections_open", "http1") == 0
    assert table.value("phase5_connections_open") == 1
    assert table.value("phase5_connections_opened_total") == 1


def test_only_an_answer_that_was_not_over_is_a_reset_and_only_once() -> None:
    table = Table()
    table.request(1)
    assert table.value("phase5_streams_reset_total") == 0
    table.request(1, leaves=True)
    assert table.value("phase5_streams_reset_total") == 1


def test_connections_are_told_to_go_as_many_as_are_open() -> None:
    table = Table()
    table.request(1)
    table.request(2)
    table.request(3, "1.1")
    table.kernel.discard(("127.0.0.1", "1", "80"))
    table.connections.told_to_go()
    assert table.value("phase5_connections_goaways_total") == 1
    assert table.value("phase5_connections_goaways_total", "http1") == 0


def test_ended_connections_are_looked_for_now_and_then_and_only_if_there_are_some() -> None:
    table = Table()
    for _ in range(20):
        table.now += 0.5
        table.connections.sweep(table.now, late=1)
    assert table.looks == 0
    table.request(1)
    for _ in range(20):
        table.now += 0.5
        table.connections.sweep(table.now, late=1)
    assert table.looks == 2
