"""KV caches of prompts that were read before, within a budget of bytes.

An entry may be pinned for a stream that is about to need it: then it is not dropped to make
room, only to give memory back. Owned by the thread that owns the model: arrays are made,
copied and dropped there.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
from mlx_lm.models.cache import KVCache, can_trim_prompt_cache, trim_prompt_cache

from engine.core.radix import Key, RadixTree

#: Shorter common beginnings are not worth a copy of the cache.
#: On two cores and 135 million parameters, keeping and copying a short cache costs some 20 ms,
#: and reading 16 tokens less saves about as much; 32 tokens save three times that.
MIN_PREFIX: Final = 32

#: Share of the budget that pins may hold: as much stays for those who come without waiting.
PINNED_SHARE: Final = 0.5


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
    """Least recently used first out. Entries are found by walking down a tree of their tokens."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # least recently used first
        self._tokens = 0  # of all entries
        self._tree = RadixTree()
        self._pins: dict[int, Key] = {}  # by the id of the stream that it is held for
        self.nbytes = 0

    @property
    def pinned_bytes(self) -> int:
        """Bytes that are held for streams."""
        return sum(self._entries[key].nbytes for key in set(self._pins.values()))

    def pin_fits(self, tokens: int) -> bool:
        """Whether so many tokens more could be pinned, as large as those that are stored."""
        more = tokens * self.nbytes / self._tokens if self._tokens else 0
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

    def known(self, prompt: Sequence[int]) -> int:
        """How many tokens `lookup` would find."""
        found = self._find(tuple(prompt))
        return found[1] if found else 0

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
        if wanted in self._entries:
            return True
        found = self._tree.match(wanted)
        return found.length == len(wanted) and any(map(self._cuts, found.below.keys()))

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
        self._tree.add(key)
        self.nbytes += entry.nbytes
        self._tokens += len(key)
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
        self._tree = RadixTree()
        self._pins.clear()
        self.nbytes = self._tokens = 0

    def _find(self, wanted: Key) -> tuple[_Entry, int] | None:
        """The entry that knows most of a prompt, and how much of it."""
        found = self._tree.match(wanted[:-1])
        whole = found.beginnings[-1:] if found.length >= MIN_PREFIX else []
        if found.length >= MIN_PREFIX and not (whole and len(whole[0]) == found.length):
            for key in filter(self._cuts, found.below.keys()):
                return self._entries[key], found.length
        return next(((self._entries[key], len(key)) for key in whole), None)

    def _cuts(self, key: Key) -> bool:
        """Whether an entry can be cut to its beginnings."""
        return bool(can_trim_prompt_cache(self._entries[key].cache))

    def _pin(self, owner: int, entry: _Entry) -> None:
        held = {*self._pins.values(), entry.tokens}
        if sum(self._entries[key].nbytes for key in held) <= self._budget * PINNED_SHARE:
            self._pins[owner] = entry.tokens

    def _replaced_by(self, entry: _Entry) -> list[Key]:
        """The same tokens, and their beginnings where the new cache serves them as well."""
        key, cuts = entry.tokens, can_trim_prompt_cache(entry.cache)
        return [old for old in self._tree.match(key).beginnings if cuts or old == key]

    def _make_room(self) -> None:
        held = set(self._pins.values())
        while self.nbytes > self._budget:
            # Only as far as the first that may go: a full store holds thousands, and every
            # stream that ends adds one.
            oldest = next((key for key in self._entries if key not in held), None)
            if oldest is None:
                return
            self._drop(oldest)

    def _touch(self, entry: _Entry) -> None:
        self._entries.move_to_end(entry.tokens)

    def _drop(self, key: Key) -> None:
        self._pins = {owner: held for owner, held in self._pins.items() if held != key}
        self.nbytes -= self._entries.pop(key).nbytes
        self._tokens -= len(key)
        self._tree.remove(key)


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
