"""The contract of a connection to a runtime process, for everything that can carry it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from engine.runtime.dialling import dial
from engine.runtime.framing import encode, to_runtime
from engine.runtime.link import Link
from engine.runtime.lobby import Lobby
from engine.runtime.messages import Cancel, FromRuntime, Step, Stop, Token, ToRuntime

#: Far above what anything here takes; a test that needs it has already failed.
PATIENCE_SECONDS = 30.0


class Ends:
    """Both ends of a link: ours, and the socket that the process reads and writes."""

    def __init__(self) -> None:
        self.heard: list[FromRuntime] = []
        self.news = asyncio.Event()
        self.link = Link(self._hear)
        self.process: socket.socket

    def _hear(self, frame: FromRuntime) -> None:
        self.heard.append(frame)
        self.news.set()

    async def hears(self, frames: int) -> list[FromRuntime]:
        while len(self.heard) < frames:
            self.news.clear()
            await self.news.wait()
        return self.heard

    async def says(self, data: bytes) -> None:
        await asyncio.to_thread(self.process.sendall, data)

    async def received(self, messages: int) -> list[ToRuntime]:
        decoder, got = to_runtime(), []
        while len(got) < messages:
            got += decoder.feed(await asyncio.to_thread(self.process.recv, 1 << 16))
        return got


@asynccontextmanager
async def by_socket_pair() -> AsyncIterator[Ends]:
    ends = Ends()
    ours, ends.process = socket.socketpair()
    await asyncio.get_running_loop().create_unix_connection(lambda: ends.link, sock=ours)
    yield ends


@asynccontextmanager
async def by_tls() -> AsyncIterator[Ends]:
    ends = Ends()
    lobby = Lobby.open("127.0.0.1")
    with lobby.expect(ends._hear) as guest:
        ends.link = guest.link
        ends.process = await asyncio.to_thread(dial, guest.invitation)
        await guest.arrived
    try:
        yield ends
    finally:
        await lobby.close()


Scene = Callable[[Ends], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Both kinds of loop: the server runs on uvloop."""
    make: Callable[[], asyncio.AbstractEventLoop] = request.param
    return make


@pytest.fixture(params=[by_socket_pair, by_tls])
def play(request: pytest.FixtureRequest, loop: Callable[[], asyncio.AbstractEventLoop]) -> Play:
    """Run a scene over each kind of link."""

    def begin(scene: Scene) -> None:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run(scene))

    async def run(scene: Scene) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), request.param() as ends:
            with ends.process:
                await scene(ends)
            ends.link.abort()
            await ends.link.ended

    return begin


def step(tokens: int, first: int = 0) -> Step:
    return Step(epoch=1, tokens=[Token(1, first + index, 7) for index in range(tokens)])


def test_messages_and_frames_arrive_whole_and_in_order(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        frames = [step(3), step(50_000, first=3), step(1, first=50_003)]
        messages = [Cancel(uid=uid) for uid in range(1000)]
        for message in messages:
            ends.link.send(message)
        for frame in frames:
            await ends.says(encode(frame))
        assert await ends.received(1000) == messages
        assert await ends.hears(3) == frames

    play(scene)


def test_a_frame_in_two_halves_is_one_frame(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        data = encode(step(2))
        await ends.says(data[:9])
        await ends.says(data[9:])
        assert await ends.hears(1) == [step(2)]

    play(scene)


def test_the_end_of_the_process_is_heard_once_behind_its_last_frame(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        await ends.says(encode(step(1)))
        ends.process.close()
        assert await ends.link.ended
        assert ends.heard == [step(1)]
        ends.link.send(Stop())  # dropped

    play(scene)


def test_the_end_of_the_front_end_is_an_end_of_file(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        ends.link.abort()
        assert await asyncio.to_thread(ends.process.recv, 1) == b""
        assert ends.link.ended.result() == "closed by the front end"

    play(scene)


def test_garbage_ends_the_connection_with_its_reason(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        await ends.says(b"\xff" * 64)
        assert "above the limit" in await ends.link.ended

    play(scene)


def test_a_process_is_held_back_while_nobody_reads_and_nothing_is_lost(play: Play) -> None:
    async def scene(ends: Ends) -> None:
        transport: Any = ends.link._transport
        transport.pause_reading()
        frame = encode(step(10_000))
        ends.process.settimeout(0.2)
        sent = 0

        def send_until_it_blocks() -> None:
            nonlocal sent
            with suppress(TimeoutError):
                while sent < (64 << 20):
                    sent += ends.process.send(frame[sent % len(frame) :])

        await asyncio.to_thread(send_until_it_blocks)
        assert sent < (64 << 20)
        assert ends.heard == []
        ends.process.settimeout(None)
        transport.resume_reading()
        await ends.says(frame[sent % len(frame) :])
        frames = sent // len(frame) + 1
        assert await ends.hears(frames) == [step(10_000)] * frames

    play(scene)
