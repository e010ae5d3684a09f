"""What a stream need not read again: stored prefixes, checkpoints, prompts read ahead.

Reading ahead takes a row of the generator for the prompt of a stream that still waits in the
front end. The row never decodes: it is taken out before its last token, or as soon as any
stream has a prompt to read, and what it has read is stored and pinned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from engine.core.checkpoints import Checkpoints
from engine.runtime.batch import Generator
from engine.runtime.kv import cuts
from engine.runtime.messages import Warm, Warmed
from engine.runtime.prefixes import MIN_PREFIX, PrefixStore, worth_keeping
from engine.runtime.stream import Kept, Stream
from engine.runtime.warm import Waiting, WarmQueue


@dataclass(slots=True, eq=False)
class _Reading:
    """A row that reads ahead for a waiting stream."""

    waiting: Waiting
    row: int
    unread: int


class Reuse:
    """Owns the prefix store, and everything that says what goes into it.

    Args:
        model: an mlx-lm model.
        budget: bytes of the prefix store.
        clock: seconds that never go back.
    """

    def __init__(self, model: Any, budget: int, clock: Callable[[], float]) -> None:
        self.prefixes = PrefixStore(budget)
        self._checkpoints = Checkpoints(MIN_PREFIX, cuts=cuts(model))
        self._queue = WarmQueue(self.prefixes)
        self._clock = clock
        self._reading: _Reading | None = None
        self._read_ahead = 0
        self._pending: list[Kept] = []  # to be stored once the turn's tokens are on their way

    # Streams.

    def arrived(self, stream: Stream, generator: Generator) -> None:
        """A stream was submitted; what is held for it stays so until it begins."""
        known = self.prefixes.known(stream.known) if stream.request.reuse_prefix else 0
        stream.fresh = stream.length - known
        announced = self._stop_for(stream.uid, generator)
        if stream.request.reuse_prefix and not announced:  # it was noted then
            self._checkpoints.note(stream.request.prompt, stream.request.checkpoints)

    def look_up(self, stream: Stream, known: list[int]) -> Kept:
        """A cache of the beginning of what a stream has to read, and what it holds."""
        hit = self.prefixes.lookup(known) if stream.request.reuse_prefix else None
        self._queue.release(stream.uid)
        stream.cached = hit.length if hit else 0
        return Kept(hit.cache, known[: hit.length]) if hit else Kept([], [])

    def segments(self, stream: Stream, known: list[int], skipped: int) -> list[list[int]]:
        """What a stream has to read, cut at the checkpoints that are worth a copy."""
        request = stream.request
        worth: list[int] = []
        if request.reuse_prefix:
            worth = self._checkpoints.worth(request.prompt, request.checkpoints)
        stream.stops = [at for at in worth if at > skipped and not self.prefixes.covers(known[:at])]
        ends = [*stream.stops, len(known)]
        return [known[a:b] for a, b in zip([skipped, *stream.stops], ends, strict=True)]

    def keep_checkpoint(self, generator: Generator, row: int, stream: Stream) -> None:
        """Store what a row has read, where it stands at a checkpoint."""
        at = stream.length - stream.unread
        if at in stream.stops:
            self._store(generator, row, stream.known[:at])

    def keep_prompt(self, generator: Generator, row: int, stream: Stream) -> None:
        """Store a prompt as soon as it is read, where it does not say where its turns end.

        What others share with one that does is stored at its checkpoints; for the rest, what
        is stored at its end is enough. Each copy costs some per cent of a prefill.
        """
        request, known = stream.request, stream.known
        if request.reuse_prefix and worth_keeping(len(known)) and not request.checkpoints:
            self._store(generator, row, known)

    def keep_end(self, tokens: list[int], cache: list[Any]) -> None:
        """Store what a stream has read and written, for the next turn of its conversation."""
        self._pending.append(Kept(cache, tokens))

    def _store(self, generator: Generator, row: int, known: list[int]) -> None:
        if not self.prefixes.covers(known):
            cache, tokens = generator.extract_cache([row])[row]
            self._pending.append(Kept(cache, list(tokens)))  # a copy: theirs grows

    def settle(self) -> bool:
        """Copy what a turn left to store; whether there was anything.

        Nobody waits for that: it has time until the turn's tokens are sent. Until the next turn
        it must be done, which would have to copy the whole batch for a slice of the old one.
        """
        pending, self._pending = self._pending, []
        for kept in pending:
            self.prefixes.store(kept.tokens, kept.cache)
        return bool(pending)

    # Streams that wait in the front end.

    @property
    def wants_to_read(self) -> bool:
        """Whether there is a prompt to read ahead."""
        return self._reading is not None or self._queue.next() is not None

    @property
    def unread(self) -> list[int]:
        """Tokens of the row that reads ahead, if there is one."""
        return [self._reading.unread] if self._reading else []

    def warm(self, message: Warm) -> None:
        """A stream waits."""
        self._checkpoints.note(message.prompt, message.checkpoints)
        self._queue.put(message, self._clock())

    def forget(self, uid: int, generator: Generator) -> None:
        """A stream does not come; what was read for it is an entry like any other."""
        self._stop_for(uid, generator)
        self._queue.release(uid)

    def _stop_for(self, uid: int, generator: Generator) -> bool:
        """Nothing more is read ahead for a stream. Whether it was announced."""
        if self._reading and self._reading.waiting.uid == uid:
            self.stop(generator)
        return self._queue.leave(uid)

    def expire(self, generator: Generator) -> None:
        """Give up what waited too long."""
        self._queue.expire(self._clock())
        if self._reading and not self._queue.holds(self._reading.waiting):
            self.stop(generator)

    def begin(self, generator: Generator, fits: Callable[[int], bool]) -> None:
        """Start to read ahead, if nothing is read ahead yet and the cache has room for it."""
        one = self._queue.next() if self._reading is None else None
        if one is None:
            return
        self._queue.look_up(one)  # others may have read it since
        one.done = one.unread <= 0 or not fits(len(one.message.prompt))
        if one.done:
            return
        prompt = one.message.prompt
        hit = self.prefixes.lookup(prompt)
        known = hit.length if hit else 0
        (row,) = generator.insert(
            [prompt[known:]],
            max_tokens=[1],
            caches=[hit.cache if hit else None],
            all_tokens=[prompt[:known]],
        )
        self._reading = _Reading(one, row, len(prompt) - known)

    def progress(self, generator: Generator, response: Any) -> bool:
        """Note what a row has read; False when it does not read ahead."""
        if self._reading is None or response.uid != self._reading.row:
            return False
        done, total = response.progress
        self._read_ahead += self._reading.unread - (total - done)
        self._reading.unread = total - done
        if self._reading.unread <= 1:
            self.stop(generator)
        return True

    def stop(self, generator: Generator) -> None:
        """Take the row out that reads ahead, and hold what it has read."""
        reading, self._reading = self._reading, None
        if reading is None:
            return
        with mx.stream(generator.stream):
            kept = generator.take_out(reading.row, keep=True)
            if kept and not self.prefixes.covers(kept.tokens):
                self.prefixes.store(kept.tokens, kept.cache)
        one, known = reading.waiting, reading.waiting.known
        if self._queue.holds(one):
            self._queue.look_up(one)
            # What finds no room in the store would be read again and again.
            one.done = reading.unread <= 1 or one.known <= known

    def news(self) -> tuple[list[Warmed], int, int]:
        """Since the last time: tokens known, tokens read ahead, entries that expired."""
        read, self._read_ahead = self._read_ahead, 0
        warmed, expired = self._queue.news()
        return warmed, read, expired

    def discard(self) -> None:
        """A step failed: drop all arrays, and whoever waits; it may be to blame."""
        self._reading = None
        self._pending.clear()
        self._queue.clear()
        self.prefixes.clear()
