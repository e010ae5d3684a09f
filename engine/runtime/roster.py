"""The live streams of one replica: what each was asked, what came out, and whether it runs.

The process may die; the roster stays. Two checks keep the output exact whatever process it
comes from: a stream hears only from its present placement, and a token counts only at the
next position of its stream. A placement is one stay of a stream in one process, known there
by the stream's id, or by an id of its own where the stream was there before: what an earlier
stay still sends must not be taken for the present one's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol, TypeVar

import msgspec

from engine.core.isolation import Isolation
from engine.runtime.interface import StreamListener
from engine.runtime.messages import Cancel, Pause, Prefill, Resume, Submit, Token, ToRuntime

log = logging.getLogger("engine.runtime.supervisor")

Heard = TypeVar("Heard", Prefill, Token, str)


class Link(Protocol):
    """Where a roster's messages go: a process that is ready."""

    def send(self, message: ToRuntime) -> None:
        """Queue a message."""


class OutOfOrderError(Exception):
    """A token stands at a wrong position: the process can no longer be trusted."""


@dataclass(slots=True)
class _Live:
    """A stream that has not ended."""

    request: Submit
    listener: StreamListener
    emitted: list[int] = field(default_factory=list)
    paused: bool = False
    wire: int | None = None  #: the id of its placement; None while no process knows it
    was_here: bool = False  #: this process has used the stream's own id

    def resumed(self, uid: int) -> Submit:
        """The request that goes on behind the last token, under an id."""
        return msgspec.structs.replace(self.request, uid=uid, emitted=list(self.emitted))


class Roster:
    """Owns the live streams and decides which of them the process runs."""

    def __init__(self) -> None:
        self._streams: dict[int, _Live] = {}  # in order of arrival
        self._placed: dict[int, _Live] = {}  # by the ids that the process uses
        self._again = count(-1, -1)  # ids of second stays: no stream has a negative one
        self._isolation = Isolation()
        self._link: Link | None = None
        self.replayed = 0
        self.convicted = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def working(self) -> bool:
        """Whether the process has anything to do."""
        return any(not stream.paused for stream in self._placed.values())

    @property
    def investigating(self) -> bool:
        """Whether streams run in groups, to find the one that makes the process fail."""
        return self._isolation.active

    def attach(self, link: Link) -> None:
        """A process is ready: hand it the streams that may run, each behind its last token."""
        self.detach()
        self._link = link
        self._arrange()

    def cut(self) -> None:
        """The process answers no more; who arrives from now on was not in it."""
        self._link = None

    def detach(self, suspicion: str | None = None) -> None:
        """The process is gone; the streams wait for the next one.

        `suspicion` says how it failed, where one of those that ran may be the cause.
        """
        self.cut()
        if suspicion is not None:
            self.suspect(suspicion)
        self._placed.clear()
        for stream in self._streams.values():
            stream.wire, stream.was_here = None, False

    # What clients want.

    def submit(self, request: Submit, listener: StreamListener) -> None:
        """Begin a stream, or go on with one behind what it has emitted."""
        stream = _Live(request, listener, list(request.emitted))
        self._streams[request.uid] = stream
        self._place(stream)

    def cancel(self, uid: int) -> None:
        """Forget a stream; its listener hears nothing more. Unknown ids are ignored."""
        if stream := self._streams.get(uid):
            self._withdraw(stream)
            self._forget(stream)

    def pause(self, uid: int) -> None:
        """Let a stream stand still. Unknown ids are ignored."""
        stream = self._streams.get(uid)
        if stream is None or stream.paused:
            return
        stream.paused = True
        if stream.wire is not None:
            self._send(Pause(uid=stream.wire))
        self._leave(uid)

    def resume(self, uid: int) -> None:
        """Let a paused stream go on. Unknown ids are ignored."""
        stream = self._streams.get(uid)
        if stream is None or not stream.paused:
            return
        stream.paused = False
        if stream.wire is None:
            self._place(stream)
        elif self._isolation.admits(uid):
            self._send(Resume(uid=stream.wire))
        else:
            self._withdraw(stream)

    def simplify(self, uid: int) -> None:
        """Let a stream go on in a new stay, without what the TTFT pipeline does for it."""
        if stream := self._streams.get(uid):
            stream.request = msgspec.structs.replace(
                stream.request, reuse_prefix=False, checkpoints=[], speculate=False
            )
            self._withdraw(stream)
            self._place(stream)

    def hand_over(self) -> list[tuple[Submit, StreamListener]]:
        """Give every stream away, each to go on elsewhere behind its last token."""
        given = [(live.resumed(uid), live.listener) for uid, live in self._streams.items()]
        for uid in list(self._streams):
            self.cancel(uid)
        return given

    # What the process says.

    def prefill(self, prefill: Prefill) -> None:
        """A prefill chunk is done."""
        stream = self._placed.get(prefill.uid)
        if stream and not stream.emitted:  # a replayed stream has had its prefill
            self._tell(stream, stream.listener.on_prefill, prefill)

    def token(self, token: Token) -> None:
        """The next token of a stream.

        Raises:
            OutOfOrderError: it is not the next one.
        """
        stream = self._placed.get(token.uid)
        if stream is None:  # cancelled, or withdrawn, while this frame was under way
            return
        uid = stream.request.uid
        if token.position != len(stream.emitted):
            raise OutOfOrderError(
                f"stream {uid}: token at position {token.position} "
                f"where {len(stream.emitted)} is next"
            )
        stream.emitted.append(token.token)
        if token.finish is not None:
            self._forget(stream)
        elif self._isolation.active:
            self._isolation.emitted(uid, len(stream.emitted))
            self._arrange()
        self._tell(stream, stream.listener.on_token, token)

    def fault(self, wire: int, reason: str) -> None:
        """The process gives a stream up. Unknown ids are ignored."""
        if stream := self._placed.get(wire):
            self._fail(stream, reason)

    def fault_all(self, reason: str) -> None:
        """End every stream with a fault."""
        for stream in list(self._streams.values()):
            self._fail(stream, reason)

    def suspect(self, reason: str, wires: list[int] | None = None) -> None:
        """A fault took these streams, or all that ran, with it; one of them may be its cause.

        Whoever is convicted ends with the reason, the others are replayed.
        """
        taken = [
            stream
            for wire, stream in self._placed.items()
            if not stream.paused and (wires is None or wire in wires)
        ]
        # Whoever was withdrawn runs until the process has read that.
        alone = wires is None or self._placed.keys() >= set(wires)
        for stream in taken:
            self._displace(stream)
        culprit = self._isolation.faulted(
            {stream.request.uid: len(stream.emitted) for stream in taken}, alone=alone
        )
        log.warning("a fault (%s) took %d streams; who may run: %s", reason, len(taken), self)
        if culprit is not None:
            self.convicted += 1
            log.error("stream %d faulted alone: %s", culprit, reason)
            self._fail(self._streams[culprit], f"this request makes the model fail: {reason}")
        self._arrange()

    def again(self, wires: list[int]) -> None:
        """A fault took these streams with it that none of them is to blame for."""
        for wire in wires:
            if stream := self._placed.get(wire):
                self._displace(stream)
        self._arrange()

    def __str__(self) -> str:
        if not self._isolation.active:
            return "everyone"
        return f"only {[uid for uid in self._streams if self._isolation.admits(uid)]}"

    def _arrange(self) -> None:
        """Place everyone who may run, and withdraw everyone who may not."""
        for uid, stream in self._streams.items():
            if not self._isolation.admits(uid):
                self._withdraw(stream)
            elif stream.wire is None:
                self._place(stream)

    def _place(self, stream: _Live) -> None:
        uid = stream.request.uid
        if self._link is None or stream.paused or not self._isolation.admits(uid):
            return
        self.replayed += bool(stream.emitted)
        stream.wire = next(self._again) if stream.was_here else uid
        stream.was_here = True
        self._placed[stream.wire] = stream
        self._send(stream.resumed(stream.wire))

    def _withdraw(self, stream: _Live) -> None:
        if stream.wire is not None:
            self._send(Cancel(uid=stream.wire))
            self._displace(stream)

    def _displace(self, stream: _Live) -> None:
        if stream.wire is not None:
            del self._placed[stream.wire]
            stream.wire = None

    def _forget(self, stream: _Live) -> None:
        """A stream has ended."""
        del self._streams[stream.request.uid]
        self._displace(stream)
        self._leave(stream.request.uid)

    def _fail(self, stream: _Live, reason: str) -> None:
        self._forget(stream)
        self._tell(stream, stream.listener.on_fault, reason)

    def _leave(self, uid: int) -> None:
        """A stream is out of the investigation; the next group may be due."""
        if self._isolation.active:
            self._isolation.left(uid)
            self._arrange()

    def _send(self, message: ToRuntime) -> None:
        if self._link:
            self._link.send(message)

    def _tell(self, stream: _Live, hear: Callable[[Heard], None], what: Heard) -> None:
        """Call a listener; one that raises loses its own stream and harms no other."""
        uid = stream.request.uid
        try:
            hear(what)
        except Exception:
            log.exception("the listener of stream %d raised; cancelling the stream", uid)
            self.cancel(uid)
