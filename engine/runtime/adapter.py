"""Streams in, tokens out: continuous batching over the generator.

The queue is ours: a stream is handed to the generator only when a row is free, so that a
cancelled or reordered one costs nothing there. One thread owns an `Adapter` and everything
in it; mlx arrays are bound to the thread that made them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
from mlx_lm.generate import StopSequences

from engine.runtime.batch import Generator
from engine.runtime.messages import Prefill, Submit, Token
from engine.runtime.prefill import PrefillPace, chunk
from engine.runtime.prefixes import Hit, PrefixStore, worth_keeping
from engine.runtime.sampling import Detail, Row


@dataclass(slots=True)
class Turn:
    """What one step brought. `refused` names streams that could not begin, and why."""

    tokens: list[Token] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    """A stream that has a row."""

    request: Submit
    position: int
    cached: int
    unread: int  #: prompt tokens before the first output token; 0 once it decodes

    @property
    def prompt(self) -> list[int]:
        """What the row reads before it decodes: a replayed stream reads its output too."""
        return [*self.request.prompt, *self.request.emitted]


class Adapter:
    """The streams of one model.

    Args:
        model: an mlx-lm model.
        eos: ids that end an output.
        max_rows: streams that run at once.
        prefill_chunk: prompt tokens that a step reads even where that is slow (`PrefillPace`).
        prefill_rows: rows that read their prompts at once.
        prefix_bytes: budget of the prefix store.
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
    ) -> None:
        self._model = model
        self._eos = tuple(eos)
        self._stops = StopSequences([[token] for token in eos])
        self._no_stops = StopSequences()
        self._max_rows = max_rows
        self._pace = PrefillPace(prefill_chunk)
        self._prefill_rows = min(prefill_rows, max_rows)
        self._prefixes = PrefixStore(prefix_bytes)
        self._pending: deque[Submit] = deque()
        self._running: dict[int, _Running] = {}  # by the generator's own uid
        self._generator = self._new_generator()

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._running or self._pending)

    @property
    def rows(self) -> int:
        """Streams that have a row."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Streams without a row yet."""
        return len(self._pending)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV caches of the running rows, padding included."""
        return int(self._generator.prompt_cache_nbytes)

    @property
    def prefix_bytes(self) -> int:
        """Bytes that the prefix store holds."""
        return self._prefixes.nbytes

    def submit(self, request: Submit) -> None:
        """Queue a stream behind those that wait."""
        self._pending.append(request)

    def cancel(self, uid: int) -> None:
        """Forget a stream wherever it stands. Unknown ids are ignored."""
        self._pending = deque(request for request in self._pending if request.uid != uid)
        rows = [row for row, running in self._running.items() if running.request.uid == uid]
        for row in rows:
            del self._running[row]
        if rows:
            with mx.stream(self._generator.stream):
                self._generator.remove(rows)

    def pause(self, uid: int) -> None:
        """Take a stream's row away until `resume`. Unknown ids are ignored."""
        raise NotImplementedError(uid)

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored."""
        raise NotImplementedError(uid)

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store to `keep_bytes`, and drop the caches of paused streams."""
        raise NotImplementedError(keep_bytes)

    def step(self) -> Turn:
        """Admit what fits, decode one token of every row, and read one chunk of the prompts.

        Raises:
            Exception: whatever the model raised; the caller must then `discard`, since
                going on with the generator would lose tokens silently.
        """
        turn = Turn()
        with mx.stream(self._generator.stream):
            self._admit(turn)
            prefills, tokens = self._next()
            turn.tokens = [self._token(response) for response in tokens]
            turn.prefills = [self._prefill(response) for response in prefills]
        return turn

    def discard(self) -> list[int]:
        """Throw the generator away with every running stream; return their ids."""
        lost = [running.request.uid for running in self._running.values()]
        self._running.clear()
        self._prefixes.clear()  # it may hold arrays of the step that failed
        self._generator.close()
        self._generator = self._new_generator()
        return lost

    def close(self) -> None:
        """Give back what the generator holds; on the owner thread."""
        self._generator.close()

    def _next(self) -> tuple[list[Any], list[Any]]:
        """One turn of the generator, with the chunk that fits; learn what its prefill took."""
        unread = self._unread()
        budget = self._pace.budget(decoding=len(unread) < self.rows)
        with self._generator.stats() as stats:
            prefills, tokens = self._generator.next_with_chunk(chunk(unread, budget))
        self._pace.observe(stats.prompt_tokens, stats.prompt_time)
        return prefills, tokens

    def _new_generator(self) -> Any:  # its base is only half annotated
        return Generator(
            self._model,
            # A GPU computes the next step while this one's tokens travel. mlx's CPU back end
            # does not: computing ahead would hold every token back for the next one's time.
            ahead=mx.default_device() != mx.Device(mx.cpu),
            completion_batch_size=self._max_rows,
            prefill_batch_size=self._prefill_rows,
        )

    def _admit(self, turn: Turn) -> None:
        """Give rows to those who wait, the first first, while a turn has room for their prompts.

        More prompts than fit into a turn would share it, and all be late together.
        """
        unread = self._unread()
        if 1 in unread:
            # Those rows join the decoding batch in this turn, which copies all of its KV:
            # newcomers that begin one turn later join as one group, at half of the copies.
            return
        room = self._pace.budget(decoding=True) - sum(unread)
        while self._pending and room > 0 and self._row_is_free():
            request = self._pending.popleft()
            try:
                room -= self._insert(request)
            except ValueError as error:  # the generator checks before it changes anything
                turn.refused.append((request.uid, str(error)))

    def _row_is_free(self) -> bool:
        return self.rows < self._max_rows and len(self._unread()) < self._prefill_rows

    def _unread(self) -> list[int]:
        """Prompt tokens that each row has still to read, of those that do."""
        return [running.unread for running in self._running.values() if running.unread]

    def _insert(self, request: Submit) -> int:
        """Give a stream a row; return how many tokens it has to read."""
        prompt = [*request.prompt, *request.emitted]
        hit = self._prefixes.lookup(prompt) if request.reuse_prefix else None
        hit = hit or Hit([], 0)
        (row,) = self._generator.insert(
            [prompt[hit.length :]],
            max_tokens=[request.max_tokens - len(request.emitted)],
            caches=[hit.cache or None],
            all_tokens=[prompt[: hit.length]],
            samplers=[Row.of(request, self._eos)],
            stop_sequences=[self._no_stops if request.ignore_eos else self._stops],
        )
        unread = len(prompt) - hit.length
        self._running[row] = _Running(request, len(request.emitted), hit.length, unread)
        return unread

    def _token(self, response: Any) -> Token:
        running = self._running[response.uid]
        token = _token(running, response)
        running.position += 1
        if response.finish_reason is not None:
            del self._running[response.uid]
            if response.prompt_cache is not None:
                self._prefixes.store(response.all_tokens, response.prompt_cache)
        return token

    def _prefill(self, response: Any) -> Prefill:
        running = self._running[response.uid]
        done, total = response.progress
        running.unread = total - done
        if response.end_of_prompt:
            self._keep_prompt(response.uid, running)
        cached = running.cached
        return Prefill(running.request.uid, cached + done, cached + total, cached)

    def _keep_prompt(self, row: int, running: _Running) -> None:
        """Store a prompt as soon as it is read, for streams that share its beginning."""
        wanted = running.request.reuse_prefix and worth_keeping(len(running.prompt))
        if wanted and not self._prefixes.covers(running.prompt):
            cache, tokens = self._generator.extract_cache([row])[row]
            self._prefixes.store(tokens, cache)


def _token(running: _Running, response: Any) -> Token:
    detail: Detail | None = response.logprobs
    logprob, top = (None, None) if detail is None else _numbers(detail)
    return Token(
        running.request.uid,
        running.position,
        response.token,
        response.finish_reason,
        logprob,
        top,
    )


def _numbers(detail: Detail) -> tuple[float, dict[int, float]]:
    ids: Any = detail.ids.tolist()
    logprobs: Any = detail.logprobs.tolist()
    logprob: Any = detail.logprob.item()
    return logprob, dict(zip(ids, logprobs, strict=True))
