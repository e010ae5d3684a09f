"""KV caches of prompts that were read before, within a budget of bytes.

Owned by the thread that owns the model: arrays are made, copied and dropped there.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

#: Shorter common beginnings are not worth a copy of the cache; also the size of an index key.
#: On two cores and 135 million parameters, keeping and copying a short cache costs some 20 ms,
#: and reading 16 tokens less saves about as much; 32 tokens save three times that.
MIN_PREFIX: Final = 32

Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A cache that holds exactly the first `length` tokens of a prompt; the caller's own."""

    cache: list[Any]
    length: int


@dataclass(frozen=True, slots=True)
class _Entry:
    tokens: Key
    cache: list[Any]
    nbytes: int


class PrefixStore:
    """Least recently used first out. Entries are found by their first tokens."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: dict[Key, _Entry] = {}  # in order of use, the oldest first
        self._index: dict[Key, set[Key]] = {}
        self.nbytes = 0

    def lookup(self, prompt: Sequence[int]) -> Hit | None:
        """The longest usable beginning of a prompt; always at least one token short of it.

        The generator needs one token to read, so an exact hit is cut by one.
        """
        wanted = tuple(prompt)
        candidates = self._index.get(wanted[:MIN_PREFIX], ())
        shared = {key: _common(key, wanted[:-1]) for key in candidates}
        for key in sorted(shared, key=shared.__getitem__, reverse=True):
            entry, length = self._entries[key], shared[key]
            if length >= MIN_PREFIX and (length == len(key) or can_trim_prompt_cache(entry.cache)):
                self._touch(entry)
                return Hit(_cut(entry, length), length)
        return None

    def covers(self, prompt: Sequence[int]) -> bool:
        """Whether an entry already begins with this whole prompt."""
        wanted = tuple(prompt)
        candidates = self._index.get(wanted[:MIN_PREFIX], ())
        return any(key[: len(wanted)] == wanted for key in candidates)

    def store(self, tokens: Sequence[int], cache: list[Any]) -> None:
        """Keep a cache that holds exactly these tokens; it replaces its own beginnings."""
        key = tuple(tokens)
        if not worth_keeping(len(key)):
            return
        entry = _Entry(key, cache, sum(layer.nbytes for layer in cache))
        if entry.nbytes > self._budget:
            return
        mx.eval([layer.state for layer in cache])  # or the entry would hold the whole batch
        for old in self._beginnings(key):
            self._drop(old)
        self._entries[key] = entry
        self._index.setdefault(key[:MIN_PREFIX], set()).add(key)
        self.nbytes += entry.nbytes
        self.evict(self._budget)

    def evict(self, keep_bytes: int) -> None:
        """Drop the least recently used until at most `keep_bytes` are held."""
        while self.nbytes > keep_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._index.clear()
        self.nbytes = 0

    def _beginnings(self, key: Key) -> list[Key]:
        return [old for old in self._index.get(key[:MIN_PREFIX], ()) if key[: len(old)] == old]

    def _touch(self, entry: _Entry) -> None:
        self._entries[entry.tokens] = self._entries.pop(entry.tokens)

    def _drop(self, key: Key) -> None:
        self.nbytes -= self._entries.pop(key).nbytes
        bucket = self._index[key[:MIN_PREFIX]]
        bucket.discard(key)
        if not bucket:
            del self._index[key[:MIN_PREFIX]]


def worth_keeping(tokens: int) -> bool:
    """Whether a cache of so many tokens is worth its copies."""
    return tokens >= MIN_PREFIX


def _cut(entry: _Entry, length: int) -> list[Any]:
    cache = copy.deepcopy(entry.cache)
    if surplus := len(entry.tokens) - length:
        trim_prompt_cache(cache, surplus)
    return cache


def _common(left: Key, right: Key) -> int:
    """The length of the common beginning, by halving: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
