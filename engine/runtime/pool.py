"""Several replicas of one model, served as one runtime.

Each replica is a supervisor that looks after its own process. The pool decides which replica
takes a stream, and moves live streams when a replica leaves or is past saving: what a stream
emitted goes along, so it goes on elsewhere behind its last token.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from engine.core.placing import block_hashes, place
from engine.runtime.interface import Replica, RuntimeStartError, StreamListener
from engine.runtime.members import Ground, MakeReplica, Member, RoutedStream
from engine.runtime.messages import Submit, Warm

log = logging.getLogger("engine.runtime.pool")

#: What of a `Replica` only ever rises.
_COUNTS: Final = (
    "restarts",
    "replayed",
    "convicted",
    "read_ahead",
    "expired",
    "drafted",
    "accepted",
    "cpu_seconds",
)

#: How often a replica is looked at until it serves again, which takes seconds.
_LOOK_SECONDS: Final = 0.05


class Pool:
    """`engine.runtime.interface.Runtime` over several replicas. Lives in one event loop.

    Args:
        make: makes a replica.
        replicas: how many there are after `start`.
        ground: what their processes share.
    """

    def __init__(self, make: MakeReplica, replicas: int, ground: Ground) -> None:
        self._make = make
        self._wanted = replicas
        self._ground = ground
        self._members: dict[int, Member] = {}  # by number; numbers are never used again
        self._made = 0
        self._streams: dict[int, RoutedStream] = {}
        self._warm: dict[int, Member] = {}  # streams that wait, where they were announced
        self._stopped = False
        self._left: Counter[str] = Counter()  #: what replicas counted that are no more
        self._changing = asyncio.Lock()
        self._growing: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether any replica is."""
        return any(member.replica.ready for member in self._serving())

    @property
    def accepting(self) -> bool:
        """Whether any replica serves a new stream soon."""
        return any(member.replica.accepting for member in self._serving())

    async def start(self) -> None:
        """Start every replica, all at once, and wait until they are ready.

        Raises:
            RuntimeStartError: one of them does not start; none is left then.
        """
        async with self._changing:
            try:
                await self._ground.open()
                await self._grow(self._wanted)
            except BaseException:
                await self._ground.close()
                raise

    def submit(self, request: Submit, listener: StreamListener) -> None:
        """Begin a stream in the replica that suits it best; without any it faults at once."""
        stream = RoutedStream(request.uid, listener, self._forget)
        self._streams[request.uid] = stream
        self._place(request, stream)
        warm = self._warm.pop(request.uid, None)
        if warm and warm is not stream.home:
            warm.replica.forget(request.uid)

    def warm(self, message: Warm, on_known: Callable[[int], None]) -> None:
        """Announce a stream that waits where it would go now."""
        hashes = block_hashes(message.prompt)
        announced = Counter(member.number for member in self._warm.values())
        loads = [member.load(hashes) for member in self._serving()]
        placement = place(
            [replace(one, streams=one.streams + announced[one.replica]) for one in loads]
        )
        if placement is None:
            return
        member = self._warm[message.uid] = self._members[placement.replica]
        member.sent.remember(hashes)  # so that the stream itself goes there
        member.replica.warm(message, on_known)

    def forget(self, uid: int) -> None:
        """A stream that was announced does not come. Unknown ids are ignored."""
        if member := self._warm.pop(uid, None):
            member.replica.forget(uid)

    def cancel(self, uid: int) -> None:
        """Forget a stream; its listener hears nothing more. Unknown ids are ignored."""
        if home := self._forget(uid):
            home.replica.cancel(uid)

    def pause(self, uid: int) -> None:
        """Let a stream stand still until `resume`. Unknown ids are ignored."""
        if (stream := self._streams.get(uid)) and stream.home:
            stream.paused = True
            stream.home.replica.pause(uid)

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored."""
        if (stream := self._streams.get(uid)) and stream.home:
            stream.paused = False
            stream.home.replica.resume(uid)

    def simplify(self, uid: int) -> None:
        """Let a stream go on without the pipeline. Unknown ids are ignored."""
        if (stream := self._streams.get(uid)) and stream.home:
            stream.home.replica.simplify(uid)

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store of every process to this size."""
        for member in self._members.values():
            member.replica.evict(keep_bytes)

    def replicas(self) -> list[Replica]:
        """Every process, also those that start, leave or are lost.

        What replicas that have left counted is added to the first, so that no sum ever falls:
        restarts are watched for crashes.
        """
        shown = [one for member in self._members.values() for one in member.replica.replicas()]
        if shown:
            first, left = shown[0], self._left
            shown[0] = replace(first, **{name: getattr(first, name) + left[name] for name in left})
        return shown

    async def scale(self, replicas: int) -> None:
        """Grow or shrink to this many serving replicas; lost ones are replaced or dropped.

        Of calls that overlap the last one holds: each brings the pool to what was asked last.

        Raises:
            RuntimeStartError: a new process does not start; the pool is as it was.
            ValueError: fewer than one.
        """
        if replicas < 1:
            raise ValueError(f"a pool has at least one replica, asked for {replicas}")
        self._wanted = replicas
        async with self._changing:
            missing = self._wanted - len(self._serving())
            if missing > 0:
                await self._grow(missing)
            surplus = sorted(self._serving(), key=_worth)[: max(0, -missing)]
            await self._drop([*surplus, *self._lost()])

    async def renew(self) -> None:
        """Replace every process, one after the other: with two or more the pool stays ready.

        Raises:
            RuntimeStartError: a replica that was lost cannot be replaced.
        """
        async with self._changing:
            standing, lost = self._serving(), self._lost()
            if lost:
                await self._grow(len(lost))
                await self._drop(lost)
            for member in standing:
                if member.serving:
                    await member.replica.renew()
                    await _settled(member)

    async def stop(self) -> None:
        """End every process and wait until it is gone; streams that are still live fault."""
        self._stopped = True
        if self._growing:
            self._growing.cancel()
            await asyncio.wait({self._growing})
        await asyncio.gather(*(member.replica.stop() for member in self._members.values()))
        await self._ground.close()

    # Streams.

    def _place(self, request: Submit, stream: RoutedStream) -> None:
        """Give a stream to a replica, new or with tokens behind it."""
        hashes = block_hashes(request.prompt) if request.reuse_prefix else []
        placement = place([member.load(hashes) for member in self._serving()])
        if placement is None:
            reason = "the runtime is stopped" if self._stopped else "no replica is left"
            asyncio.get_running_loop().call_soon(self._fault, stream.uid, reason)
            return
        member = self._members[placement.replica]
        member.sent.remember(hashes)
        member.streams += 1
        stream.home = member
        member.replica.submit(request, stream)
        if stream.paused:
            member.replica.pause(stream.uid)

    def _forget(self, uid: int) -> Member | None:
        """A stream is over: nothing of it remains. Returns where it was."""
        stream = self._streams.pop(uid, None)
        if stream is None or stream.home is None:
            return None
        stream.home.streams -= 1
        return stream.home

    def _fault(self, uid: int, reason: str) -> None:
        if stream := self._streams.get(uid):  # not cancelled since
            stream.on_fault(reason)

    def _move(self, member: Member) -> None:
        """Hand the live streams of a member, in order, to those that stay."""
        for request, _ in member.replica.hand_over():
            stream = self._streams[request.uid]
            member.streams -= 1
            stream.home = None
            self._place(request, stream)

    # Members.

    def _serving(self) -> list[Member]:
        return [member for member in self._members.values() if member.serving]

    def _lost(self) -> list[Member]:
        """Those that serve no more. Only while nothing else changes the pool."""
        return [member for member in self._members.values() if not member.serving]

    def _make_member(self) -> Member:
        self._made += 1
        member = Member(self._made, self._make(partial(self._on_failed, self._made)))
        self._members[member.number] = member
        return member

    def _on_failed(self, number: int) -> None:
        """A replica is past saving: its streams go on elsewhere, if there is an elsewhere."""
        member = self._members.get(number)
        if member is None or member.out:
            return
        member.out = True
        if self._serving():
            log.error("replica %d is lost; its %d streams move", number, member.streams)
            self._move(member)
        else:
            log.error("replica %d is lost, and no other is left", number)

    async def _grow(self, count: int) -> None:
        """Add so many replicas, or none.

        Raises:
            RuntimeStartError: one of them does not start.
        """
        if self._stopped:
            raise RuntimeStartError("the pool is stopped")
        new = [self._make_member() for _ in range(count)]
        self._growing = asyncio.create_task(_start_all(new))
        try:
            await self._growing
        except BaseException as error:
            await self._drop(new)
            if self._stopped and self._growing.cancelled():
                raise RuntimeStartError("the pool was stopped while it grew") from error
            raise
        finally:
            self._growing = None
        for member in new:
            member.out = False

    async def _drop(self, members: Sequence[Member]) -> None:
        """Take members out: their streams move, their processes end."""
        for member in members:
            member.out = True
        for member in members:
            self._move(member)
        await asyncio.gather(*(member.replica.stop() for member in members))
        for member in members:
            for shown in member.replica.replicas():
                self._left.update({name: getattr(shown, name) for name in _COUNTS})
            del self._members[member.number]


def _worth(member: Member) -> tuple[bool, int, int]:
    """Those that leave first: not ready, then with few streams to move, then the youngest."""
    return member.replica.ready, member.streams, -member.number


async def _start_all(members: Sequence[Member]) -> None:
    """Start them at once; the first that fails ends the start of the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for member in members:
                group.create_task(member.replica.start())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _settled(member: Member) -> None:
    """Wait until a replica that was restarting anyway serves again, or never will."""
    while member.serving and not member.replica.ready:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(_LOOK_SECONDS)
