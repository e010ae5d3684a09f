"""mlx-lm's batch generator with our decoding step.

The stock step normalises the logits of every row over the whole vocabulary and calls one
sampler a row; ours draws grouped rows from the logits themselves (`sampling`). The rest,
caches, padding, prefill and stop matching, stays mlx-lm's. Written against mlx-lm 0.32.2,
pinned: the attributes used here are its inside.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch
from mlx_lm.sample_utils import greedy_sampler

from engine.runtime.kv import grow_by_steps
from engine.runtime.sampling import Detail, choose
from engine.runtime.stream import Kept
from engine.runtime.verifying import Verifying

#: How mlx-lm numbers its stages; 0 waits and 1 reads its prompt.
_DECODING: Final = 2


class Speculator(Protocol):
    """Lets a step bring more than one token a row."""

    allowed: bool  #: whether steps may take longer, for more tokens

    def next(self, batch: "DecodingBatch", plain: Callable[[], list[Any]]) -> list[Any]:
        """The responses of one step, in order for each row; `plain` takes a step without drafts."""

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows are still there."""


class DecodingBatch(Verifying):
    """The rows that decode, a step ahead of what is returned. A row's sampler is its `Row`."""

    _next_tokens: mx.array
    _next_logprobs: list[Detail | None]
    speculator: Speculator | None = None
    drawn_ahead = True

    def next(self) -> list[Any]:
        """The next token of every row, or several of some."""
        if self.uids and self.speculator and self.speculator.allowed:
            return self.speculator.next(self, super().next)
        return cast("list[Any]", super().next())

    def filter(self, keep: list[int]) -> None:
        """Keep these rows."""
        super().filter(keep)
        if self.speculator:
            self.speculator.keep(self.uids)

    def _step(self) -> tuple[list[int], list[Detail | None]]:
        """Start computing the next tokens; return those that the last step computed."""
        inputs, details = self._next_tokens, self._next_logprobs
        _compute_ahead(*self._forward())
        mx.eval(inputs, _present(details))
        return self._enter(inputs), details

    def _forward(self) -> tuple[Any, ...]:
        """The next step as lazy arrays; they take the places of the last step's."""
        inputs = self._current_tokens = self._next_tokens
        self._current_logprobs = self._next_logprobs
        logits = self.model(inputs[:, None], cache=self.prompt_cache)[:, -1, :]
        self._next_tokens, self._next_logprobs = choose(logits, inputs, self.samplers)
        counts = [row.counts for row in self.samplers if row.counts is not None]
        return self._next_tokens, _present(self._next_logprobs), counts

    def _enter(self, inputs: mx.array) -> list[int]:
        """Note that the KV cache now holds these tokens: mlx-lm keeps `tokens` for that."""
        tokens = cast("list[int]", inputs.tolist())
        for sequence, token in zip(self.tokens, tokens, strict=True):
            sequence.append(token)
        return tokens

    def extract_cache(self, idx: int) -> list[Any] | None:
        """The KV cache of one row; None before its first token, and where nobody keeps it."""
        if not self.samplers[idx].keep_cache or not self.tokens[idx]:
            return None
        return cast("list[Any]", super().extract_cache(idx))


class PromptDecodingBatch(DecodingBatch):
    """The same without running ahead: a step returns the tokens that it computed.

    No token waits for the next step, and a stream that ends has not computed one too many.
    """

    _begun = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._begun = True

    drawn_ahead = False

    def _step(self) -> tuple[list[int], list[Detail | None]]:
        """Compute the next tokens and return them."""
        inputs = self._next_tokens
        if not self._begun:  # mlx-lm's constructor would start the first step
            self._current_tokens = inputs
            self._next_logprobs = [None] * len(self.uids)
            self._current_logprobs = list(self._next_logprobs)
            return [], []
        mx.eval(*self._forward())
        self._enter(inputs)
        return cast("list[int]", self._next_tokens.tolist()), self._next_logprobs


class PrefillBatch(PromptProcessingBatch):  # type: ignore[misc]  # mlx-lm is half annotated
    """The rows that still read their prompts."""

    decoding: type[DecodingBatch] = DecodingBatch

    def generate(self, tokens: list[list[int]]) -> DecodingBatch:
        """Hand every row over to decoding; `tokens` holds the last prompt token of each.

        The generator splits the rows off into a batch of their own and drops that after
        this call, so the new batch may take its lists over.
        """
        return self.decoding(
            self.model,
            self.uids,
            mx.array([last for (last,) in tokens]),
            self.prompt_cache,
            self.tokens,
            self.samplers,
            self.fallback_sampler,
            self.logits_processors,
            self.stop_sequences,
            self.max_tokens,
        )


class PromptPrefillBatch(PrefillBatch):
    """Hands over to decoding that does not run ahead."""

    decoding = PromptDecodingBatch


class Generator(BatchGenerator):  # type: ignore[misc]  # mlx-lm is half annotated
    """`BatchGenerator` whose batches are ours; `insert` takes a `Row` as each sampler."""

    prefill_step_size: int

    def __init__(
        self, model: Any, *, ahead: bool, speculator: Speculator | None = None, **options: Any
    ) -> None:
        super().__init__(model, **options)
        prefill = PrefillBatch if ahead else PromptPrefillBatch
        self._prompt_batch = prefill.empty(
            model, greedy_sampler, prefill_step_size=self.prefill_step_size
        )
        self._generation_batch = prefill.decoding.empty(model, greedy_sampler)
        self._generation_batch.speculator = speculator

    def _make_batch(self, n: int) -> Any:
        batch = super()._make_batch(n)
        grow_by_steps(batch.prompt_cache)
        return batch

    def next_with_chunk(self, chunk: int) -> tuple[list[Any], list[Any], int, float]:
        """`next`, reading at most `chunk` prompt tokens of each row.

        Returns:
            What was read, what was drawn, the number of prompt tokens read, and the seconds
            that it took.
        """
        self.prefill_step_size = self._prompt_batch.prefill_step_size = chunk
        counters = self._counters  # `stats` copies all of them twice
        tokens, seconds = counters.prompt_tokens, counters.prompt_time
        prefills, drawn = self.next()
        return prefills, drawn, counters.prompt_tokens - tokens, counters.prompt_time - seconds

    def take_out(self, row: int, *, keep: bool) -> Kept | None:
        """Remove a row. With `keep` return its cache, not computed yet; None before it has one."""
        if not keep:
            self.remove([row])
            return None
        for stage, index in self._find_uids([row]).values():
            if stage == _DECODING:
                self._generation_batch.samplers[index].keep_cache = True
        cache, tokens = self.remove([row], return_prompt_caches=True)[row]
        return Kept(cache, list(tokens)) if cache and tokens else None  # a copy: theirs grows


def _compute_ahead(*arrays: Any) -> None:
    mx.async_eval(*arrays)  # type: ignore[no-untyped-call]  # mlx's stub leaves it out


def _present(details: Sequence[Detail | None]) -> list[Detail]:
    return [detail for detail in details if detail is not None]
