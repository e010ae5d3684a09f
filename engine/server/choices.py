"""The answers of one request: `n` streams that live and end together."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

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

    async def parts(self) -> AsyncGenerator[Part, None]:
        """The parts of all choices until each has ended.

        Nothing is read ahead: who does not take a part holds up the stream that it is of.

        Raises:
            ApiError: one of the streams failed, and the answer with it.
            ClientGone: nobody listens any more.
        """
        readers = [self._read(index, stream) for index, stream in enumerate(self.streams)]
        if len(readers) == 1:
            async for only in readers[0]:
                yield only
            return
        turns = {_turn(reader): reader for reader in readers}
        try:
            while turns:
                done, _ = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
                for turn in done:
                    reader = turns[turn]
                    part = turn.result()  # stays known until it is read, for the clean-up
                    del turns[turn]
                    if part is not None:
                        yield part
                        self._free(part)
                        turns[_turn(reader)] = reader
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
        if part.reason is not None:
            stream = self.streams[part.choice]
            self._open.remove(stream)
            self._close(stream, "ok", None)

    async def _read(self, index: int, stream: Stream) -> AsyncIterator[Part]:
        try:
            async for pieces in stream.pieces():
                yield Part(index, pieces)
        except ApiError:
            self._faulty = self._faulty or stream
            raise
        yield Part(index, [], _reason(stream))


def _turn(reader: AsyncIterator[Part]) -> "asyncio.Task[Part | None]":
    async def turn() -> Part | None:
        return await anext(reader, None)

    return asyncio.create_task(turn(), name=READER)


def _reason(stream: Stream) -> FinishReason:
    if stream.finish_reason not in _REASONS:
        raise RuntimeError(f"stream {stream.uid} ended with reason {stream.finish_reason!r}")
    return _REASONS[stream.finish_reason]
