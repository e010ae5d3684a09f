"""KV caches of prompts that were read before, within a budget of bytes.

An entry may be pinned for a stream that is about to need it: then it is not dropped to make
room, only to give memory back. Owned by the thread that owns the model: arrays are made,
copied and dropped there.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models.cache import KVCache, can_trim_prompt_cache, trim_prompt_cache

#: Shorter common beginnings are not worth a copy of the cache; also the size of an index key.
#: On two cores and 135 million parameters, keeping and copying a short cache costs some 20 ms,
#: and reading 16 tokens less saves about as much; 32 tokens save three times that.
MIN_PREFIX: Final = 32

#: Share of the budget that pins may hold: as much stays for those who come without waiting.
PINNED_SHARE: Final = 0.5

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
        self._pins: dict[int, Key] = {}  # by the id of the stream that it is held for
        self.nbytes = 0

    @property
    def pinned_bytes(self) -> int:
        """Bytes that are held for streams."""
        return sum(self._entries[key].nbytes for key in set(self._pins.values()))

    def pin_fits(self, tokens: int) -> bool:
        """Whether so many tokens more could be pinned, as large as those that are stored."""
        stored = sum(len(key) for key in self._entries)
        more = tokens * self.nbytes / stored if stored else 0
        return self.pinned_bytes + more <= self._budget * PINNED_SHARE

    def lookup(self, prompt: Sequence[int]) -> Hit | None:
        """The longest usable beginning of a prompt; always at least one token short of it.

        The generator needs one token to read, so an exact hit is cut by one.
        """
        found = self._find(tuple(prompt))
        if found is None:
            return None
        entry, length = found
        self._touch(entry)
        return Hit(_cut(entry, length), length)

    def pin(self, owner: int, prompt: Sequence[int]) -> int:
        """Hold what `lookup` would find until `unpin`; an owner has one pin, the latest.

        Returns:
            How many tokens of the prompt are known. They are not pinned where the pins of all
            owners would take more than their share of the budget.
        """
        self.unpin(owner)
        found = self._find(tuple(prompt))
        if found is None:
            return 0
        entry, length = found
        self._touch(entry)
        self._pin(owner, entry)
        return length

    def unpin(self, owner: int) -> None:
        """Let go of what is held for an owner. Unknown ones are ignored."""
        self._pins.pop(owner, None)

    def covers(self, prompt: Sequence[int]) -> bool:
        """Whether an entry serves this whole prompt: it is that, or can be cut to it."""
        wanted = tuple(prompt)
        return any(
            key[: len(wanted)] == wanted
            and (len(key) == len(wanted) or can_trim_prompt_cache(self._entries[key].cache))
            for key in self._index.get(wanted[:MIN_PREFIX], ())
        )

    def store(self, tokens: Sequence[int], cache: list[Any]) -> None:
        """Keep a cache that holds exactly these tokens, unless only pinned ones could make room.

        It replaces its own beginnings where it can be cut to them.
        """
        key = tuple(tokens)
        if not worth_keeping(len(key)):
            return
        entry = _Entry(key, cache, sum(layer.nbytes for layer in cache))
        replaced = self._replaced_by(entry)
        owners = [owner for owner, held in self._pins.items() if held in replaced]
        pinned = {held for held in self._pins.values() if held not in replaced}
        if entry.nbytes > self._budget - sum(self._entries[held].nbytes for held in pinned):
            return
        mx.eval([layer.state for layer in cache])  # or the entry would hold the whole batch
        for old in replaced:
            self._drop(old)
        self._entries[key] = entry
        self._index.setdefault(key[:MIN_PREFIX], set()).add(key)
        self.nbytes += entry.nbytes
        for owner in owners:
            self._pin(owner, entry)
        self._make_room()

    def evict(self, keep_bytes: int) -> None:
        """Drop the least recently used, pinned ones last, until at most `keep_bytes` are held."""
        held = set(self._pins.values())
        order = sorted(self._entries, key=held.__contains__)
        for key in order:
            if self.nbytes <= keep_bytes:
                return
            self._drop(key)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._index.clear()
        self._pins.clear()
        self.nbytes = 0

    def _find(self, wanted: Key) -> tuple[_Entry, int] | None:
        """The entry that knows most of a prompt, and how much of it."""
        candidates = self._index.get(wanted[:MIN_PREFIX], ())
        shared = {key: common(key, wanted[:-1]) for key in candidates}
        for key in sorted(shared, key=shared.__getitem__, reverse=True):
            entry, length = self._entries[key], shared[key]
            if length >= MIN_PREFIX and (length == len(key) or can_trim_prompt_cache(entry.cache)):
                return entry, length
        return None

    def _pin(self, owner: int, entry: _Entry) -> None:
        held = {*self._pins.values(), entry.tokens}
        if sum(self._entries[key].nbytes for key in held) <= self._budget * PINNED_SHARE:
            self._pins[owner] = entry.tokens

    def _replaced_by(self, entry: _Entry) -> list[Key]:
        """The same tokens, and their beginnings where the new cache serves them as well."""
        key, cuts = entry.tokens, can_trim_prompt_cache(entry.cache)
        return [
            old
            for old in self._index.get(key[:MIN_PREFIX], ())
            if key[: len(old)] == old and (cuts or old == key)
        ]

    def _make_room(self) -> None:
        held = set(self._pins.values())
        for key in [key for key in self._entries if key not in held]:
            if self.nbytes <= self._budget:
                return
            self._drop(key)

    def _touch(self, entry: _Entry) -> None:
        self._entries[entry.tokens] = self._entries.pop(entry.tokens)

    def _drop(self, key: Key) -> None:
        self._pins = {owner: held for owner, held in self._pins.items() if held != key}
        self.nbytes -= self._entries.pop(key).nbytes
        bucket = self._index[key[:MIN_PREFIX]]
        bucket.discard(key)
        if not bucket:
            del self._index[key[:MIN_PREFIX]]


def worth_keeping(tokens: int) -> bool:
    """Whether a cache of so many tokens is worth its copies."""
    return tokens >= MIN_PREFIX


def _cut(entry: _Entry, length: int) -> list[Any]:
    """The first `length` tokens; without a copy where a layer is a plain array of tokens."""
    if all(type(layer) is KVCache for layer in entry.cache):
        return [_view(layer, length) for layer in entry.cache]
    cache = copy.deepcopy(entry.cache)
    if surplus := len(entry.tokens) - length:
        trim_prompt_cache(cache, surplus)
    return cache


def _view(layer: KVCache, length: int) -> KVCache:
    """A slice, full to its end: whoever appends to it makes arrays of its own."""
    view = KVCache()
    view.keys, view.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    view.offset = length
    return view


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the common beginning, by halving: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
