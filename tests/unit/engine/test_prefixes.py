from typing import Any

import mlx.core as mx
from hypothesis import given
from hypothesis import strategies as st
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


def test_nothing_is_kept_without_a_budget() -> None:
    store = stored(PROMPT, budget=0)
    assert (store.nbytes, store.lookup(PROMPT)) == (0, None)


TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=40).map(lambda tail: [7] * 14 + tail)


@given(st.lists(TOKENS, max_size=12), TOKENS, st.integers(0, 1200))
def test_the_budget_holds_and_a_hit_is_a_true_beginning(
    sequences: list[list[int]], prompt: list[int], budget: int
) -> None:
    store = stored(*sequences, budget=budget)
    assert store.nbytes == sum(entry.nbytes for entry in store._entries.values()) <= budget
    hit = store.lookup(prompt)
    if hit is not None:
        assert MIN_PREFIX <= hit.length < len(prompt)
        assert held(hit.cache) == prompt[: hit.length]
    store.clear()
    assert (store.nbytes, store.lookup(prompt)) == (0, None)
