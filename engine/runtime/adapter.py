"""Streams in, tokens out: continuous batching over the generator.

The queue is ours: a stream is handed to the generator only when a row is free, so that a
cancelled or reordered one costs nothing there. One thread owns an `Adapter` and everything
in it; mlx arrays are bound to the thread that made them.
"""

import time
from bisect import insort
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import StopSequences

from engine.runtime import memory
from engine.runtime.batch import Generator
from engine.runtime.kv import KvBudget
from engine.runtime.messages import Prefill, Submit, Token, Warm
from engine.runtime.prefill import PrefillPace, chunk, gathers
from engine.runtime.reuse import Reuse
from engine.runtime.sampling import Row
from engine.runtime.speculating import Speculator
from engine.runtime.stream import Kept, Parking, Stream, Turn


class Adapter:
    """The streams of one model.

    Args:
        model: an mlx-lm model.
        eos: ids that end an output.
        max_rows: streams that run at once.
        prefill_chunk: prompt tokens that a step reads even where that is slow (`PrefillPace`).
        prefill_rows: rows that read their prompts at once.
        prefix_bytes: budget of the prefix store.
        kv: budget of the caches of live streams; None does not limit them.
        ahead: whether a step computes the next tokens already. A GPU does so while this
            step's travel; on mlx's CPU back end they would wait for it. None: as the device is.
        speculator: gives streams that ask for it several tokens a step; None does not.
    """

    def __init__(
        self,
        model: Any,
        *,
        eos: Sequence[int],
        max_rows: int,
        prefill_chunk: int,
        prefill_rows: int,
        prefix_bytes: int = 0,
        kv: KvBudget | None = None,
        ahead: bool | None = None,
        speculator: Speculator | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._eos = tuple(eos)
        self._stops = StopSequences([[token] for token in eos])
        self._no_stops = StopSequences()
        self._max_rows = max_rows
        self._pace = PrefillPace(prefill_chunk)
        self._prefill_rows = min(prefill_rows, max_rows)
        self._clock = clock
        self._reuse = Reuse(model, prefix_bytes, clock)
        self._kv = kv
        self._ahead = mx.default_device() != mx.Device(mx.cpu) if ahead is None else ahead
        self._speculator = speculator
        self._arrivals = 0
        self._arriving = False  #: a stream came since the last turn that could begin some
        self._turn_seconds = 0.0  #: of the last turn
        self._ended = 0  #: streams that ended in the last turn
        self._streams: dict[int, Stream] = {}  # by uid, from `submit` to the end
        self._waiting: list[Stream] = []  # in order of arrival; neither paused nor running
        self._running: dict[int, Stream] = {}  # by row
        self._parked = Parking()
        self._refused: list[tuple[int, str]] = []
        self._generator = self._new_generator()

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._running or self._waiting or self._refused or self._reuse.wants_to_read)

    @property
    def rows(self) -> int:
        """Streams that have a row."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Streams that would take a row if there were one."""
        return len(self._waiting)

    @property
    def reads_ahead(self) -> bool:
        """Whether the prompt of a stream that waits in the front end is in the batch."""
        return bool(self._reuse.unread)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV caches of the running rows, padding included."""
        drafting = self._speculator.nbytes if self._speculator else 0
        return int(self._generator.prompt_cache_nbytes) + drafting

    @property
    def parked_bytes(self) -> int:
        """Bytes of the KV caches that are set aside for streams without a row."""
        return self._parked.nbytes

    @property
    def prefix_bytes(self) -> int:
        """Bytes that the prefix store holds."""
        return self._reuse.prefixes.nbytes

    @property
    def pinned_bytes(self) -> int:
        """Bytes of it that are held for streams that are about to come."""
        return self._reuse.prefixes.pinned_bytes

    @property
    def speculating(self) -> bool:
        """Whether the streams that run get drafts, because those pay."""
        return bool(self._running and self._speculator and self._speculator.active)

    def warm(self, message: Warm) -> None:
        """A stream waits for its place: hold what is known of its prompt, read on when idle."""
        self._reuse.warm(message)

    def forget(self, uid: int) -> None:
        """A stream that was to be warmed does not come. Unknown ids are ignored."""
        self._reuse.forget(uid, self._generator)

    def submit(self, request: Submit) -> None:
        """Queue a stream behind those that wait; one that can never fit is refused."""
        stream = Stream(request, self._arrivals, arrived=self._clock())
        self._reuse.arrived(stream, self._generator)
        if self._kv and (reason := self._kv.refusal(stream.most)):
            self._refused.append((request.uid, reason))
            return
        self._arrivals += 1
        self._arriving = True
        self._streams[request.uid] = stream
        self._waiting.append(stream)

    def cancel(self, uid: int) -> None:
        """Forget a stream wherever it stands. Unknown ids are ignored.

        What it has read is kept for a retry, if it asked to reuse prefixes.
        """
        stream = self._streams.pop(uid, None)
        if stream is None:
            return
        self._reuse.forget(uid, self._generator)
        kept = self._leave(stream, keep=stream.request.reuse_prefix)
        prefixes = self._reuse.prefixes
        if kept and stream.request.reuse_prefix and not prefixes.covers(kept.tokens):
            prefixes.store(kept.tokens, kept.cache)

    def pause(self, uid: int) -> None:
        """Take a stream's row away until `resume`. Unknown ids are ignored."""
        stream = self._streams.get(uid)
        if stream is None or stream.paused:
            return
        kept = self._leave(stream, keep=True)
        stream.paused = True  # from here on an exception costs its cache, not the stream
        stream.fresh = stream.length
        if kept and (behind := kept.before(stream.length)):
            stream.fresh -= len(behind.tokens)
            self._parked.put(uid, behind.evaluated())

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored.

        It waits for a row at the place that its arrival gives it.
        """
        stream = self._streams.get(uid)
        if stream is not None and stream.paused:
            stream.paused = False
            insort(self._waiting, stream, key=lambda one: one.arrival)

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store to `keep_bytes`; drop what paused streams and drafts hold."""
        self._reuse.prefixes.evict(keep_bytes)
        self._parked.clear()
        if self._speculator:
            self._speculator.keep([])
        memory.give_back()

    def step(self) -> Turn:
        """Admit what fits, decode one token of every row, and read one chunk of the prompts.

        Raises:
            Exception: whatever the model raised; the caller must then `discard`, since
                going on with the generator would lose tokens silently.
        """
        turn = Turn()
        self.settle()  # where the caller has not
        with mx.stream(self._generator.stream):
            self._reuse.expire(self._generator)
            if self._waiting:
                self._reuse.stop(self._generator)
            self._admit()
            self._read_ahead()
            if self._running or self._reuse.unread:
                began = self._clock()
                prefills, tokens = self._next()
                self._turn_seconds = self._clock() - began
                turn.tokens = [self._token(response) for response in tokens]
                self._ended = sum(token.finish is not None for token in turn.tokens)
                turn.prefills = [
                    self._prefill(response)
                    for response in prefills
                    if not self._reuse.progress(self._generator, response)
                ]
        turn.warmed, turn.read_ahead, turn.expired = self._reuse.news()
        if self._speculator:
            turn.drafted, turn.accepted = self._speculator.news()
        turn.refused, self._refused = self._refused, []
        return turn

    def lingers(self) -> float:
        """Seconds for which a turn is better put off, for others to begin in it; 0 for none."""
        if self._running or self._refused or not self._waiting or self._is_group(self._budget([])):
            return 0.0
        first, more = self._waiting[0], len(self._waiting) < self._ended
        longest = self._pace.lingers(first.fresh, more=more)
        return max(0.0, first.arrived + longest - self._clock())

    def settle(self) -> bool:
        """Do what of the last step nobody waits for, before the next one; whether there was any."""
        with mx.stream(self._generator.stream):
            return self._reuse.settle()

    def discard(self) -> list[int]:
        """Throw the generator away with every stream that has a row; return their ids.

        Those without one, waiting or paused, stay as they are.
        """
        stay = {stream.uid for stream in self._waiting}
        lost = [uid for uid, one in self._streams.items() if uid not in stay and not one.paused]
        for uid in lost:  # also one that was about to get its row
            del self._streams[uid]
            self._parked.take(uid)
        self._running.clear()
        if self._speculator:
            self._speculator.keep([])
        self._reuse.discard()  # its arrays may be of the step that failed
        self._generator.close()
        self._generator = self._new_generator()
        return lost

    def close(self) -> None:
        """Give back what the generator holds; on the owner thread."""
        self._generator.close()

    def _new_generator(self) -> Generator:
        return Generator(
            self._model,
            ahead=self._ahead,
            speculator=self._speculator,
            completion_batch_size=self._max_rows,
            prefill_batch_size=self._prefill_rows,
        )

    def _next(self) -> tuple[list[Any], list[Any]]:
        """One turn of the generator, with the chunk that fits; learn what its prefill took."""
        unread = self._unread()
        budget = self._budget(unread)
        if self._speculator:
            self._speculator.allowed = not unread and self._nobody_would_wait()
        unread += self._reuse.unread
        prefills, tokens, read, seconds = self._generator.next_with_chunk(chunk(unread, budget))
        self._pace.observe(read, seconds)
        return prefills, tokens

    def _nobody_would_wait(self) -> bool:
        """Whether longer steps hold nobody up who gains nothing by them.

        Those are the streams that do not speculate, the other arm of the experiment, and
        those that still wait for their first token.
        """
        return not self._waiting and all(one.request.speculate for one in self._running.values())

    def _admit(self) -> None:
        """Give rows to those who wait, the first first, while a turn has room for their prompts.

        More prompts than fit into a turn would share it, and all be late together.
        """
        unread = self._unread()
        if 1 in unread:
            # Those rows join the decoding batch in this turn, which copies all of its KV:
            # newcomers that begin one turn later join as one group, at half of the copies.
            return
        room = self._budget(unread) - sum(unread)
        if self._gathers(room):
            return
        while self._waiting and self._row_is_free() and self._begins(self._waiting[0], room):
            stream = self._waiting.pop(0)
            try:
                room -= self._insert(stream)
            except ValueError as error:  # the generator checks before it changes anything
                del self._streams[stream.uid]
                self._refused.append((stream.uid, str(error)))

    def _gathers(self, room: int) -> bool:
        """Whether those who wait do so one turn more, for others to begin with them."""
        arriving, self._arriving = self._arriving, False
        if not (self._running and self._waiting) or self._is_group(room):
            return False
        waited = self._clock() - self._waiting[0].arrived
        return gathers(arriving=arriving, waited=waited, turn=self._turn_seconds)

    def _is_group(self, room: int) -> bool:
        """Whether those who wait fill a turn."""
        free = min(self._max_rows - self.rows, self._prefill_rows)
        return len(self._waiting) >= free or sum(one.fresh for one in self._waiting) >= room

    def _begins(self, stream: Stream, room: int) -> bool:
        """Whether a stream may begin beside those who read: its prompt fits into what is left."""
        return (stream.fresh <= room or not self._unread()) and self._fits(stream)

    def _budget(self, unread: Sequence[int]) -> int:
        """Prompt tokens that the next turn may read, with so many left of each row that reads."""
        reading = len(unread)
        newcomers = min(reading + len(self._waiting), self._prefill_rows)
        return self._pace.budget(decoding=self.rows - reading, newcomers=newcomers)

    def _read_ahead(self) -> None:
        """Read prompts of streams that wait in the front end, in turns that nobody else needs."""
        if self._waiting or self._unread():
            self._reuse.stop(self._generator)
        elif self._row_is_free():
            self._reuse.begin(self._generator, self._has_room)

    def _row_is_free(self) -> bool:
        return self.rows < self._max_rows and len(self._unread()) < self._prefill_rows

    def _fits(self, stream: Stream) -> bool:
        """Whether the caches of all rows stay in their budget with this stream among them.

        What is set aside counts, and goes when somebody would wait for it: a reader who does
        not keep up must not hold up those who do. With nothing running the answer is yes,
        since a stream that does not fit alone was refused: nobody waits for ever.
        """
        if self._kv is None:
            return True
        if (left := self._left_with(self._kv, stream.most)) < 0:
            return False
        self._parked.shrink(left, spare=stream.uid)
        return True

    def _has_room(self, tokens: int) -> bool:
        """Whether one row more has room beside the others and what is set aside."""
        return self._kv is None or self._left_with(self._kv, tokens) >= self._parked.nbytes

    def _left_with(self, kv: KvBudget, tokens: int) -> int:
        """What a row of so many tokens would leave of the budget."""
        longest = max([tokens, *(one.most for one in self._running.values())])
        return kv.total - kv.needed(self.rows + 1, longest)

    def _unread(self) -> list[int]:
        """Prompt tokens that each row has still to read, of those that do."""
        return [stream.unread for stream in self._running.values() if stream.unread]

    def _insert(self, stream: Stream) -> int:
        """Give a stream a row behind what is known of it; return how many tokens it reads."""
        request, known = stream.request, stream.known
        kept = self._parked.take(stream.uid) or self._reuse.look_up(stream, known)
        (row,) = self._generator.insert_segments(
            [self._reuse.segments(stream, known, len(kept.tokens))],
            max_tokens=[request.max_tokens - len(stream.output)],
            caches=[kept.cache or None],
            all_tokens=[kept.tokens],
            samplers=[Row.of(request, stream.output, self._eos)],
            stop_sequences=[self._no_stops if request.ignore_eos else self._stops],
        )
        stream.begin(row, kept, self._clock())
        self._running[row] = stream
        return stream.unread

    def _leave(self, stream: Stream, *, keep: bool) -> Kept | None:
        """Take a stream off its row or out of the queue; what is kept of it, not computed yet."""
        if stream.row is None:
            if not stream.paused:
                self._waiting.remove(stream)
            return self._parked.take(stream.uid)
        row, stream.row = stream.row, None
        del self._running[row]
        with mx.stream(self._generator.stream):
            return self._generator.take_out(row, keep=keep)

    def _token(self, response: Any) -> Token:
        stream = self._running[response.uid]
        token = stream.token(response)
        if token.finish is not None:
            del self._running[response.uid], self._streams[stream.uid]
            if response.prompt_cache is not None:
                self._reuse.keep_end(response.all_tokens, response.prompt_cache)
        return token

    def _prefill(self, response: Any) -> Prefill:
        stream = self._running[response.uid]
        prefill = stream.prefill(response)
        if response.end_of_prompt:
            self._reuse.keep_prompt(self._generator, response.uid, stream)
        elif response.end_of_segment:
            self._reuse.keep_checkpoint(self._generator, response.uid, stream)
        return prefill
