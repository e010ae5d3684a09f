"""A KV cache of a batch whose rows end each where it ends.

mlx-lm pads the rows of a batch on the left, so that all end in one column. After a step that
verified drafts every row keeps another number of tokens, and rows padded like that would have
to be moved. Here each row begins in column 0 and has a length of its own: what was rejected is
behind its end, where nobody looks and the next tokens are written. A step takes as long as on
mlx-lm's layout (measured on a CPU, 1 to 16 rows).
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache

from engine.runtime.kv import STEP


class RaggedKVCache:
    """One layer. What the models of mlx-lm ask of a cache, it answers as `BatchKVCache` does.

    Attributes:
        keys: (rows, heads, columns, size); None before the first token. `values` likewise.
        lengths: tokens of each row.
        offset: the same as an array.
    """

    def __init__(self, keys: Any, values: Any, lengths: Sequence[int]) -> None:
        self.keys = keys
        self.values = values
        self.lengths = list(lengths)
        self.offset = mx.array(self.lengths)

    @classmethod
    def of(cls, batch: "BatchKVCache | RaggedKVCache") -> "RaggedKVCache":
        """The same rows. The batch must not be used any more."""
        if isinstance(batch, RaggedKVCache):
            return batch
        padding: list[int] = batch.left_padding.tolist()
        if batch.keys is None:
            return cls(None, None, [0] * len(padding))
        end: int = batch._idx  # noqa: SLF001  # it has no other name; see the contract's test
        keys, values = batch.keys, batch.values
        if any(padding):
            keys, values = _begun_at_zero(keys, padding, end), _begun_at_zero(values, padding, end)
        return cls(keys, values, [end - left for left in padding])

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Write one step's tokens of every row behind its end; return all that is held."""
        width = keys.shape[2]
        self.reserve(max(self.lengths) + width, keys, values)
        if len(set(self.lengths)) == 1:
            begin = self.lengths[0]
            self.keys[..., begin : begin + width, :] = keys
            self.values[..., begin : begin + width, :] = values
        else:
            places = (self.offset[:, None] + mx.arange(width))[:, None, :, None]
            self.keys = _written(self.keys, places, keys)
            self.values = _written(self.values, places, values)
        self.cut([length + width for length in self.lengths])
        top = max(self.lengths)
        return self.keys[..., :top, :], self.values[..., :top, :]

    def cut(self, lengths: Sequence[int]) -> None:
        """Let each row end there; what is behind it counts no more."""
        self.lengths = list(lengths)
        self.offset = mx.array(self.lengths)

    def make_mask(
        self,
        N: int,  # noqa: N803  # mlx-lm's name
        return_array: bool = False,  # noqa: ARG002  # mlx-lm's signature
        window_size: int | None = None,
    ) -> Any:
        """Which columns each of the next `N` tokens of each row sees."""
        places = (self.offset[:, None] + mx.arange(N))[:, None, :, None]
        columns = mx.arange(max(self.lengths) + N)
        mask = columns <= places
        return mask if window_size is None else mask & (places < columns + window_size)

    def filter(self, batch_indices: Sequence[int]) -> None:
        """Keep these rows."""
        self.cut([self.lengths[index] for index in batch_indices])
        if self.keys is None:
            return
        kept = mx.array(list(batch_indices))
        columns = _columns(max(self.lengths))
        self.keys = self.keys[kept, :, :columns]
        self.values = self.values[kept, :, :columns]

    def extend(self, other: "BatchKVCache | RaggedKVCache") -> None:
        """Append the rows of another batch, which must not be used any more."""
        more = RaggedKVCache.of(other)
        example = self if more.keys is None else more
        lengths = self.lengths + more.lengths
        if example.keys is not None:
            top = max(lengths)
            self.reserve(top, example.keys, example.values)
            more.reserve(top, example.keys, example.values)
            self.keys = _joined(self.keys, more.keys)
            self.values = _joined(self.values, more.values)
        self.cut(lengths)

    def extract(self, idx: int) -> KVCache:
        """A cache of one row alone."""
        cache, length = KVCache(), self.lengths[idx]
        cache.keys = mx.contiguous(self.keys[idx : idx + 1, :, :length])
        cache.values = mx.contiguous(self.values[idx : idx + 1, :, :length])
        cache.offset = length
        return cache

    @property
    def nbytes(self) -> int:
        """Bytes of what is allocated."""
        return 0 if self.keys is None else int(self.keys.nbytes + self.values.nbytes)

    def reserve(self, columns: int, keys: Any, values: Any) -> None:
        """Have room for so many columns of such heads."""
        held = 0 if self.keys is None else self.keys.shape[2]
        if columns > held:
            self.keys = self._grown(self.keys, keys, _columns(columns) - held)
            self.values = self._grown(self.values, values, _columns(columns) - held)

    def _grown(self, held: Any, example: Any, columns: int) -> Any:
        _, heads, _, size = example.shape
        more = mx.zeros((len(self.lengths), heads, columns, size), example.dtype)
        return more if held is None else mx.concatenate([held, more], axis=2)


def _columns(tokens: int) -> int:
    """Columns are allocated in steps."""
    return -(-tokens // STEP) * STEP


def _begun_at_zero(padded: Any, padding: Sequence[int], end: int) -> Any:
    """Rows that were padded on the left, padded on the right to the same width."""
    columns = _columns(end - min(padding))
    rows = [padded[row : row + 1, :, left:end] for row, left in enumerate(padding)]
    return mx.concatenate(
        [mx.pad(row, [(0, 0), (0, 0), (0, columns - row.shape[2]), (0, 0)]) for row in rows]
    )


def _joined(first: Any, second: Any) -> Any:
    """Both batches, as wide as the wider one."""
    columns = max(first.shape[2], second.shape[2])
    return mx.concatenate(
        [
            mx.pad(batch, [(0, 0), (0, 0), (0, columns - batch.shape[2]), (0, 0)])
            for batch in (first, second)
        ]
    )


def _written(held: Any, places: Any, new: Any) -> Any:
    """Each row's new columns at their places."""
    return mx.put_along_axis(held, mx.broadcast_to(places, new.shape), new, axis=2)
