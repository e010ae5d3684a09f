"""mlx-lm's batch generator with our decoding step.

The stock step normalises the logits of every row over the whole vocabulary and calls one
sampler a row; ours draws grouped rows from the logits themselves (`sampling`). The rest,
caches, padding, prefill and stop matching, stays mlx-lm's. Written against mlx-lm 0.32.2,
pinned: the attributes used here are its inside.
"""

from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch
from mlx_lm.sample_utils import greedy_sampler

from engine.runtime.sampling import Detail, Row, choose


class DecodingBatch(GenerationBatch):  # type: ignore[misc]  # mlx-lm is half annotated
    """The rows that decode. A row's sampler is its `Row`."""

    samplers: list[Row]
    _next_tokens: mx.array
    _next_logprobs: list[Detail | None]

    def _step(self) -> tuple[list[int], list[Detail | None]]:
        """Start computing the next tokens; return those that the last step computed."""
        inputs, details = self._next_tokens, self._next_logprobs
        self._current_tokens, self._current_logprobs = inputs, details
        logits = self.model(inputs[:, None], cache=self.prompt_cache)[:, -1, :]
        self._next_tokens, self._next_logprobs = choose(logits, inputs, self.samplers)
        counts = [row.counts for row in self.samplers if row.counts is not None]
        _compute_ahead(self._next_tokens, _present(self._next_logprobs), counts)
        mx.eval(inputs, _present(details))
        tokens = cast("list[int]", inputs.tolist())
        for sequence, token in zip(self.tokens, tokens, strict=True):
            sequence.append(token)  # mlx-lm keeps here what the KV cache holds
        return tokens, details

    def extract_cache(self, idx: int) -> list[Any] | None:
        """The KV cache of one row; nothing for rows whose cache nobody keeps."""
        if not self.samplers[idx].keep_cache:
            return None
        return cast("list[Any]", super().extract_cache(idx))


class PrefillBatch(PromptProcessingBatch):  # type: ignore[misc]  # mlx-lm is half annotated
    """The rows that still read their prompts."""

    def generate(self, tokens: list[list[int]]) -> DecodingBatch:
        """Hand every row over to decoding; `tokens` holds the last prompt token of each.

        The generator splits the rows off into a batch of their own and drops that after
        this call, so the new batch may take its lists over.
        """
        return DecodingBatch(
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


class Generator(BatchGenerator):  # type: ignore[misc]  # mlx-lm is half annotated
    """`BatchGenerator` whose batches are ours; `insert` takes a `Row` as each sampler."""

    prefill_step_size: int

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(model, **options)
        self._prompt_batch = PrefillBatch.empty(
            model, greedy_sampler, prefill_step_size=self.prefill_step_size
        )
        self._generation_batch = DecodingBatch.empty(model, greedy_sampler)

    def next_with_chunk(self, chunk: int) -> tuple[list[Any], list[Any]]:
        """`next`, reading at most `chunk` prompt tokens of each row."""
        self.prefill_step_size = self._prompt_batch.prefill_step_size = chunk
        return cast("tuple[list[Any], list[Any]]", self.next())


def _compute_ahead(*arrays: Any) -> None:
    mx.async_eval(*arrays)  # type: ignore[no-untyped-call]  # mlx's stub leaves it out


def _present(details: Sequence[Detail | None]) -> list[Detail]:
    return [detail for detail in details if detail is not None]
