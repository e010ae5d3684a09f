"""The answers of one request: `n` streams that live and end together."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from engine.server.documents import FinishReason
from engine.server.errors import ApiError
from engine.server.pieces import Piece
from engine.server.responses import Usage
from engine.server.streams import Mail, Stream

#: The name of a task that waits for the next part of one choice.
READER: Final = "reader of a choice"

_REASONS: Final[dict[str | None, FinishReason]] = {"stop": "stop", "length": "length"}


class Part(NamedTuple):
    """What came of one choice; the last part has the reason for its end."""

    choice: int
    pieces: list[Piece]
    reason: FinishReason | None = None


class Choices:
    """Reads the streams of one request, each as it comes, and closes each once.

    Args:
        streams: one for each choice.
        close: takes a stream, its outcome, and why where it did not finish.
    """

    def __init__(
        self, streams: Sequence[Stream], close: Callable[[Stream, str, str | None], None]
    ) -> None:
        self.streams = streams
        self._close = close
        self._open = list(streams)
        self._faulty: Stream | None = None

    def parts(self) -> "Parts":
        """The parts of all choices until each has ended.

        Nothing is read ahead: who does not take a part holds up the stream that it is of.

        Raises:
            ApiError: one of the streams failed, and the answer with it.
            ClientGone: nobody listens any more.
        """
        readers = [
            _Reader(index, stream, self._failed) for index, stream in enumerate(self.streams)
        ]
        return readers[0] if len(readers) == 1 else self._merged(readers)

    async def _merged(self, readers: Sequence["_Reader"]) -> AsyncGenerator[Part, None]:
        turns = {_turn(reader): reader for reader in readers}
        try:
            while turns:
                done, _ = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
                for turn in done:
                    reader = turns[turn]
                    part = turn.result()  # stays known until it is read, for the clean-up
                    del turns[turn]
                    yield part
                    if part.reason is None:
                        turns[_turn(reader)] = reader
                    else:
                        self._free(part)
        finally:
            for turn in turns:
                turn.cancel()
            await asyncio.gather(*turns, return_exceptions=True)

    def post(self, mail: Mail) -> None:
        """Tell every stream."""
        for stream in self.streams:
            stream.post(mail)

    def usage(self) -> Usage:
        """The counts of all together."""
        return Usage.of_choices([stream.usage() for stream in self.streams])

    def first_text(self) -> float | None:
        """When the first text of any choice was there; None while there is none."""
        times = [at for stream in self.streams if (at := stream.times.first_text) is not None]
        return min(times, default=None)

    def end(self, outcome: str, reason: str | None) -> None:
        """Close what is open, when the request ended so: a failed one cancels the others."""
        for stream in self._open:
            guilty = self._faulty is None or stream is self._faulty
            self._close(stream, outcome if guilty else "cancelled", reason)
        self._open = []

    def _free(self, part: Part) -> None:
        """Close a choice that has its end, since another may wait for its place."""
        stream = self.streams[part.choice]
        self._open.remove(stream)
        self._close(stream, "ok", None)

    def _failed(self, stream: Stream) -> None:
        self._faulty = self._faulty or stream


class Parts(Protocol):
    """Parts, each when it is asked for; to be closed by who stops asking before the end."""

    def __aiter__(self) -> AsyncIterator[Part]:
        """Itself."""

    async def __anext__(self) -> Part:
        """The next part."""

    async def aclose(self) -> None:
        """Stop reading."""


# No generator: it would be resumed through for every token of every answer.
class _Reader:
    """The parts of one choice."""

    def __init__(self, index: int, stream: Stream, on_fault: Callable[[Stream], None]) -> None:
        self._index = index
        self._stream = stream
        self._on_fault = on_fault
        self._ended = False

    def __aiter__(self) -> "_Reader":
        return self

    async def __anext__(self) -> Part:
        if self._ended:
            raise StopAsyncIteration
        stream = self._stream
        try:
            pieces = await stream.pieces()
        except ApiError:
            self._on_fault(stream)
            raise
        if stream.finish_reason is None:
            return Part(self._index, pieces)
        self._ended = True
        return Part(self._index, pieces, _reason(stream))

    async def aclose(self) -> None:
        """Nothing is read ahead, so nothing is left."""


def _turn(reader: _Reader) -> "asyncio.Task[Part]":
    return asyncio.create_task(reader.__anext__(), name=READER)


def _reason(stream: Stream) -> FinishReason:
    if stream.finish_reason not in _REASONS:
        raise RuntimeError(f"stream {stream.uid} ended with reason {stream.finish_reason!r}")
    return _REASONS[stream.finish_reason]
