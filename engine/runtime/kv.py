"""What the KV caches of a batch may take.

A batch pads every row to its longest one, so that one long stream multiplies the memory of
all: rows times the longest row is what counts, not the sum of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

from engine.runtime import memory

#: Half of what is free: rows that join or leave copy the batch, and while that is under way
#: there are two of it. Prompts that are read side by side are padded by up to a chunk.
_SHARE: Final = 0.5

#: Tokens by which the cache of a batch grows. mlx-lm's 256 leave most of it empty with short
#: streams, and every row that joins or leaves copies it: 64 take 15 % off the time of a token
#: at 100 short streams. Growing copies the batch too, but only once in so many steps.
STEP: Final = 64


class LayerCost(NamedTuple):
    """Bytes that one layer's cache takes for one row.

    `most` bounds the tokens that it holds (sliding windows); `step` is the number of tokens
    by which it grows.
    """

    fixed: int
    per_token: int
    step: int
    most: int | None

    def row(self, tokens: int) -> int:
        """Bytes for a row of so many tokens, its unused step included."""
        held = tokens if self.most is None else min(tokens, self.most)
        return self.fixed + self.per_token * (held + self.step - 1)


@dataclass(frozen=True, slots=True)
class KvBudget:
    """How many bytes the caches of live streams may take, and what a row costs.

    `ahead`: tokens by which a row's cache may for the time of a step exceed what it will hold.
    """

    total: int
    layers: Sequence[LayerCost]
    ahead: int = 0

    def needed(self, rows: int, longest: int) -> int:
        """Bytes of a batch whose longest row has so many tokens."""
        return rows * sum(layer.row(longest + self.ahead) for layer in self.layers)

    def refusal(self, tokens: int) -> str | None:
        """Why a stream of so many tokens, output included, can never be served; else None."""
        needed = self.needed(1, tokens)
        if needed <= self.total:
            return None
        return (
            f"prompt and max_tokens are {tokens} tokens, whose KV cache takes {needed} bytes; "
            f"runtime.kv_bytes allows {self.total}"
        )


def measure(model: Any) -> list[LayerCost]:
    """What the model's real caches take, from two tokens through it; nothing is computed.

    The first token shows what a row takes at all, the second what each further one adds.

    Raises:
        ValueError: a cache that cannot be batched.
    """
    empty = make_prompt_cache(model)
    if odd := [type(layer).__name__ for layer in empty if not hasattr(layer, "merge")]:
        raise ValueError(f"caches of type {odd[0]} cannot be batched")
    batch = [layer.merge([layer]) for layer in empty]
    model(mx.array([[0]]), cache=batch)
    first = [layer.extract(0).nbytes for layer in batch]
    model(mx.array([[0]]), cache=batch)
    second = [layer.extract(0).nbytes for layer in batch]
    return [
        LayerCost(2 * one - two, two - one, _step(layer), _most(layer))
        for one, two, layer in zip(first, second, empty, strict=True)
    ]


def grow_by_steps(batch: Sequence[Any]) -> None:
    """Have the caches of a new batch grow by `STEP`, where they grow without bound."""
    for layer in batch:
        if isinstance(layer, BatchKVCache):
            layer.step = STEP


def cuts(model: Any) -> bool:
    """Whether the caches of a model can be cut anywhere, to take back what was read."""
    return all(type(layer) is KVCache for layer in make_prompt_cache(model))


def budget(
    model: Any,
    kv_bytes: int | None,
    replicas: int,
    draft_model: Any | None = None,
    draft_tokens: int = 0,
) -> KvBudget:
    """The budget of a loaded model: as given, else this process's share of what is free.

    A model that drafts has a cache for each row too, and drafts are read before they are cut.

    Raises:
        ValueError: not even one token fits, or see `measure`.
    """
    if kv_bytes is None:
        kv_bytes = int(memory.free_bytes() * _SHARE) // replicas
    layers = measure(model) + (measure(draft_model) if draft_model else [])
    given = KvBudget(kv_bytes, layers, draft_tokens)
    if (least := given.needed(1, 1)) > kv_bytes:
        raise ValueError(f"runtime.kv_bytes {kv_bytes}: one row takes {least} bytes at least")
    return given


def _step(layer: Any) -> int:
    return STEP if isinstance(layer, KVCache) else KVCache.step


def _most(layer: Any) -> int | None:
    most: int | None = getattr(layer, "max_size", None)
    return most
