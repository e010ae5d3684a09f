"""A second, smaller model that drafts.

It draws as the model does, with the same noise for the same stream and position: where the two
agree on the likely tokens, they draw the same one, also at a temperature.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import mlx.core as mx
from mlx_lm.models.cache import KVCache, make_prompt_cache, trim_prompt_cache

from engine.core.radix import common
from engine.runtime.kv import STEP
from engine.runtime.sampling import Row, choose

#: Tokens that it reads in a step to get to where the text is: the step waits for that.
CATCH_UP: Final = 64


@dataclass(slots=True)
class _Cache:
    """What the model has read of a row."""

    layers: list[KVCache]
    tokens: list[int] = field(default_factory=list)


class ModelDrafter:
    """`engine.runtime.speculating.Drafter` over an mlx-lm model whose caches can be cut."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._caches: dict[int, _Cache] = {}  # by row

    @property
    def nbytes(self) -> int:
        """Bytes of its caches."""
        return sum(layer.nbytes for cache in self._caches.values() for layer in cache.layers)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop what belongs to other rows."""
        self._caches = {row: self._caches[row] for row in rows if row in self._caches}

    def draft(self, row: int, known: Sequence[int], state: Row, length: int) -> list[int]:
        """What may follow the known tokens of a row; nothing while it has not read them all."""
        cache = self._caches.get(row)
        if cache is None:
            cache = self._caches[row] = _Cache(_empty_cache(self._model))
        unread = self._rewind(cache, known)
        if len(unread) > CATCH_UP:
            mx.eval(self._read(cache, unread[:CATCH_UP]))
            return []
        drawing, drafted = state.fork(), []
        drawing.logprobs = None
        for _ in range(length):
            logits = self._read(cache, unread)
            token, _ = choose(logits, mx.array(unread[-1:]), [drawing])
            unread = cast("list[int]", token.tolist())
            drafted += unread
        return drafted

    def _rewind(self, cache: _Cache, known: Sequence[int]) -> list[int]:
        """Take back what the model's tokens proved wrong; what is left to read, at least one."""
        right = min(common(cache.tokens, known), len(known) - 1)
        trim_prompt_cache(cache.layers, len(cache.tokens) - right)
        del cache.tokens[right:]
        return list(known[right:])

    def _read(self, cache: _Cache, tokens: list[int]) -> Any:
        cache.tokens += tokens
        return self._model(mx.array([tokens]), cache=cache.layers)[:, -1, :]


def _empty_cache(model: Any) -> list[KVCache]:
    layers: list[KVCache] = make_prompt_cache(model)
    for layer in layers:
        layer.step = STEP
    return layers
