from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mlx_lm.models.cache import KVCache, RotatingKVCache

from engine.runtime.prefixes import MIN_PREFIX, PrefixStore

PROMPT = list(range(100, 180))


def cache_of(tokens: list[int]) -> list[Any]:
    """One layer whose keys are the tokens themselves, so that a test can read them back."""
    layer = KVCache()
    layer.keys = mx.array(tokens, mx.float32).reshape(1, 1, -1, 1)
    layer.values = -layer.keys
    layer.offset = len(tokens)
    return [layer]


def held(cache: list[Any]) -> list[float]:
    keys: Any = cache[0].keys_and_values()[0].reshape(-1).tolist()
    return list(keys)


def stored(*sequences: list[int], budget: int = 1 << 20) -> PrefixStore:
    store = PrefixStore(budget)
    for tokens in sequences:
        store.store(tokens, cache_of(tokens))
    return store


def test_a_shared_beginning_is_found_and_cut_to_what_is_shared() -> None:
    hit = stored(PROMPT).lookup([*PROMPT[:60], 1, 2, 3])
    assert hit is not None
    assert hit.length == 60
    assert held(hit.cache) == PROMPT[:60]


def test_an_exact_hit_leaves_one_token_to_read() -> None:
    hit = stored(PROMPT).lookup(PROMPT)
    assert hit is not None
    assert hit.length == len(PROMPT) - 1
    assert held(hit.cache) == PROMPT[:-1]


def test_the_longest_of_several_beginnings_is_taken() -> None:
    store = stored([*PROMPT[:40], 1], [*PROMPT[:60], 1], [*PROMPT[:50], 1])
    hit = store.lookup(PROMPT)
    assert hit is not None
    assert hit.length == 60


def test_a_short_shared_beginning_is_a_miss() -> None:
    assert stored(PROMPT).lookup([*PROMPT[: MIN_PREFIX - 1], *range(40)]) is None


def test_a_hit_does_not_change_the_entry() -> None:
    store = stored(PROMPT)
    first = store.lookup([*PROMPT[:40], 1])
    assert first is not None
    first.cache[0].update_and_fetch(mx.ones((1, 1, 3, 1)), mx.ones((1, 1, 3, 1)))
    second = store.lookup([*PROMPT, 1])
    assert second is not None
    assert held(second.cache) == PROMPT


def test_a_cache_that_cannot_be_cut_serves_only_whole() -> None:
    layer = RotatingKVCache(max_size=8)  # it has turned over: its beginning is gone
    for token in PROMPT:
        layer.update_and_fetch(mx.full((1, 1, 1, 1), token), mx.full((1, 1, 1, 1), token))
    store = PrefixStore(1 << 20)
    store.store(PROMPT, [layer])
    assert store.lookup([*PROMPT[:-5], 1, 2]) is None
    whole = store.lookup([*PROMPT, 1])
    assert whole is not None
    assert whole.length == len(PROMPT)


def test_an_entry_replaces_its_own_beginnings() -> None:
    store = stored(PROMPT[:40], PROMPT)
    assert store.nbytes == stored(PROMPT).nbytes
    assert store.covers(PROMPT)


def test_the_least_recently_used_goes_first() -> None:
    one, two, three = ([start, *PROMPT] for start in (1, 2, 3))
    store = stored(one, two, budget=2 * cache_of(one)[0].nbytes)
    assert store.lookup(one) is not None
    store.store(three, cache_of(three))
    assert [store.covers(tokens) for tokens in (one, two, three)] == [True, False, True]


class Counted(int):
    """A token that counts how often it is looked at: an entry's key hashes all of its tokens."""

    looked = 0

    def __hash__(self) -> int:
        Counted.looked += 1
        return super().__hash__()


def looks_to_replace_one_of(entries: int) -> int:
    prompts = [
        [Counted(1_000 * n + place) for place in range(MIN_PREFIX)] for n in range(entries + 1)
    ]
    *old, new = prompts
    store = stored(*old, budget=entries * cache_of(new)[0].nbytes)
    before = Counted.looked
    store.store(new, cache_of(new))
    assert store.covers(new)
    assert not store.covers(old[0])
    return Counted.looked - before


def test_making_room_looks_at_no_more_entries_in_a_larger_store() -> None:
    assert looks_to_replace_one_of(200) == looks_to_replace_one_of(20)


def test_nothing_is_kept_without_a_budget() -> None:
    store = stored(PROMPT, budget=0)
    assert (store.nbytes, store.lookup(PROMPT)) == (0, None)


def test_evicting_drops_the_oldest_until_what_is_left_fits() -> None:
    one, two, three = ([start, *PROMPT] for start in (1, 2, 3))
    store = stored(one, two, three)
    store.evict(2 * cache_of(one)[0].nbytes)
    assert [store.covers(tokens) for tokens in (one, two, three)] == [False, True, True]
    store.evict(0)
    assert (store.nbytes, store.lookup(one)) == (0, None)


def test_evicting_to_more_than_is_held_drops_nothing() -> None:
    store = stored(PROMPT)
    store.evict(store.nbytes)
    assert store.covers(PROMPT)


#: Few different tokens behind a common beginning, so that prompts share beginnings of any length.
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=40).map(lambda tail: [7] * 14 + tail)

TOKEN_BYTES = 2 * 4  # a key and a value


class PrefixStoreMachine(RuleBasedStateMachine):
    """Whatever is stored, found and dropped: the books balance, and a hit is the truth."""

    @initialize(budget=st.sampled_from([0, 300, 800, 5000]))
    def begin(self, budget: int) -> None:
        self.budget = budget
        self.store = PrefixStore(budget)
        self.seen: set[tuple[int, ...]] = set()

    @rule(tokens=TOKENS)
    def keep(self, tokens: list[int]) -> None:
        self.store.store(tokens, cache_of(tokens))
        self.seen.add(tuple(tokens))
        fits = MIN_PREFIX * TOKEN_BYTES <= len(tokens) * TOKEN_BYTES <= self.budget
        assert self.store.covers(tokens) or not fits

    @rule(prompt=TOKENS)
    def look_up(self, prompt: list[int]) -> None:
        hit = self.store.lookup(prompt)
        shared = [_shared(entry, prompt[:-1]) for entry in self.store._entries]
        best = max([0, *shared])
        if hit is None:
            assert best < MIN_PREFIX
            return
        assert MIN_PREFIX <= hit.length == best < len(prompt)
        assert held(hit.cache) == prompt[: hit.length]
        # The caller goes on with its cache; the entry must not notice.
        hit.cache[0].update_and_fetch(mx.ones((1, 1, 2, 1)), mx.ones((1, 1, 2, 1)))

    @rule(keep_bytes=st.integers(0, 1000))
    def evict(self, keep_bytes: int) -> None:
        survivors = list(self.store._entries)
        self.store.evict(keep_bytes)
        assert self.store.nbytes <= keep_bytes
        left = list(self.store._entries)
        assert left == survivors[len(survivors) - len(left) :]  # the most recently used stay

    @rule()
    def clear(self) -> None:
        self.store.clear()
        assert self.store.nbytes == 0
        assert not list(self.store._tree.match(()).below.keys())

    @invariant()
    def the_books_balance(self) -> None:
        entries = self.store._entries
        assert self.store.nbytes == sum(entry.nbytes for entry in entries.values()) <= self.budget
        assert self.store.nbytes == sum(len(tokens) for tokens in entries) * TOKEN_BYTES
        assert set(self.store._tree.match(()).below.keys()) == set(entries)

    @invariant()
    def every_entry_holds_what_it_says(self) -> None:
        for tokens, entry in self.store._entries.items():
            assert tokens in self.seen
            assert held(entry.cache) == list(tokens)


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    return next(
        (at for at, (one, two) in enumerate(zip(left, right, strict=False)) if one != two),
        min(len(left), len(right)),
    )


PrefixStoreMachine.TestCase.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=30
)
TestPrefixStore = PrefixStoreMachine.TestCase


def test_a_pinned_entry_is_the_last_to_go_and_moves_with_a_longer_one() -> None:
    one, two, three = ([start, *PROMPT] for start in (1, 2, 3))
    size = cache_of(one)[0].nbytes
    store = stored(one, two, budget=2 * size)
    assert store.pin(7, [*one, 5]) == len(one)
    store.store(three, cache_of(three))
    assert [store.covers(tokens) for tokens in (one, two, three)] == [True, False, True]
    assert store.pinned_bytes == size
    store.unpin(7)
    store.store(two, cache_of(two))
    assert store.pinned_bytes == 0
    assert not store.covers(one)


def test_a_longer_entry_takes_the_pin_of_the_beginning_that_it_replaces() -> None:
    store = stored(PROMPT[:40])
    store.pin(7, PROMPT[:50])
    store.store(PROMPT, cache_of(PROMPT))
    assert store.pinned_bytes == store.nbytes == cache_of(PROMPT)[0].nbytes


def test_a_hit_shares_the_arrays_of_its_entry() -> None:
    store = stored(PROMPT)
    hit = store.lookup([*PROMPT[:60], 1])
    assert hit is not None
    mx.eval(hit.cache[0].keys)
    entry = store._entries[tuple(PROMPT)]
    hit.cache[0].update_and_fetch(mx.ones((1, 1, 1, 1)), mx.ones((1, 1, 1, 1)))
    assert held(entry.cache) == PROMPT


def test_a_longer_entry_that_cannot_be_cut_replaces_nothing() -> None:
    layer = RotatingKVCache(max_size=8)
    for token in PROMPT:
        layer.update_and_fetch(mx.full((1, 1, 1, 1), token), mx.full((1, 1, 1, 1), token))
    store = stored(PROMPT[:40])
    store.store(PROMPT, [layer])
    hit = store.lookup([*PROMPT[:40], 1])
    assert hit is not None
    assert (hit.length, held(hit.cache)) == (40, PROMPT[:40])
    assert not store.covers(PROMPT[:60])
