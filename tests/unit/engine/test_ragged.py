from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from adapter_runs import VOCABULARY, model
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

from engine.runtime.kv import STEP
from engine.runtime.ragged import RaggedKVCache

LAST = VOCABULARY - 1


def tokens(*lengths: int) -> list[list[int]]:
    return [
        [(7 * row + 3 * place) % LAST + 1 for place in range(n)] for row, n in enumerate(lengths)
    ]


def read(rows: list[list[int]]) -> list[Any]:
    """A cache for each layer, padded on the left, whose rows have read these tokens."""
    each = []
    for row in rows:
        cache = make_prompt_cache(model())
        if row:
            model()(mx.array([row]), cache=cache)
        each.append(cache)
    return [layers[0].merge(layers) for layers in zip(*each, strict=True)]


def ragged(rows: list[list[int]]) -> list[RaggedKVCache]:
    return [RaggedKVCache.of(layer) for layer in read(rows)]


def logits_alone(row: list[int]) -> mx.array:
    """What the model says behind the last of some tokens that are read at once."""
    out: mx.array = model()(mx.array([row]), cache=make_prompt_cache(model()))[0, -1]
    return out


def step(cache: list[Any], columns: list[list[int]]) -> mx.array:
    out: mx.array = model()(mx.array(columns), cache=cache)
    return out


@pytest.mark.parametrize("lengths", [(5,), (5, 5), (9, 2, 70), (0, 3)])
def test_each_row_sees_its_own_tokens_and_no_others(lengths: tuple[int, ...]) -> None:
    rows = tokens(*lengths)
    cache = ragged(rows)
    for place in range(3):
        more = [[40 + row + place] for row in range(len(rows))]
        out = step(cache, more)
        for row, sequence in enumerate(rows):
            sequence.extend(more[row])
            assert mx.allclose(out[row, -1], logits_alone(sequence), atol=1e-4)


@settings(max_examples=settings.default.max_examples // 5)
@given(
    st.lists(st.integers(0, 80), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(1, 5), min_size=4, max_size=4), min_size=1, max_size=4),
)
def test_what_was_cut_off_leaves_no_trace(lengths: list[int], kept: list[list[int]]) -> None:
    """Steps of five tokens, of which each row keeps another number."""
    rows = tokens(*lengths)
    cache = ragged(rows)
    for turn, keeps in enumerate(kept):
        more = [
            [(row + turn + 11 * place) % LAST + 1 for place in range(5)] for row in range(len(rows))
        ]
        out = step(cache, more)
        for row, sequence in enumerate(rows):
            sequence.extend(more[row][: keeps[row]])
            assert mx.allclose(out[row, keeps[row] - 1], logits_alone(sequence), atol=1e-4)
        for layer in cache:
            layer.cut([len(sequence) for sequence in rows])


def test_a_row_that_is_taken_out_holds_exactly_its_tokens() -> None:
    rows = tokens(4, 30)
    cache = ragged(rows)
    step(cache, [[5, 6, 7], [8, 9, 10]])
    for layer in cache:
        layer.cut([5, 33])
    for row, length in ((0, 5), (1, 33)):
        alone = [layer.extract(row) for layer in cache]
        assert all(type(layer) is KVCache for layer in alone)
        assert {layer.offset for layer in alone} == {length}
        assert {layer.keys.shape[2] for layer in alone} == {length}
    first = [layer.extract(0) for layer in cache]
    out = model()(mx.array([[11]]), cache=first)[0, -1]
    assert mx.allclose(out, logits_alone([*rows[0], 5, 11]), atol=1e-4)


def test_rows_leave_and_their_columns_with_them() -> None:
    rows = tokens(3, 200, 7)
    cache = ragged(rows)
    wide = cache[0].nbytes
    for layer in cache:
        layer.filter([2, 0])
    assert cache[0].lengths == [7, 3]
    assert cache[0].nbytes == wide * 2 // 3 * STEP // (-(-200 // STEP) * STEP)
    out = step(cache, [[9], [4]])
    assert mx.allclose(out[0, -1], logits_alone([*rows[2], 9]), atol=1e-4)
    assert mx.allclose(out[1, -1], logits_alone([*rows[0], 4]), atol=1e-4)


@pytest.mark.parametrize("joining", [read, ragged])
@pytest.mark.parametrize(
    ("here", "there"), [((3, 90), (60, 1)), ((2,), (0,)), ((0,), (0, 4)), ((0,), (0,))]
)
def test_rows_join_whatever_their_layout(
    joining: Callable[[list[list[int]]], list[Any]],
    here: tuple[int, ...],
    there: tuple[int, ...],
) -> None:
    rows = tokens(*here, *there)
    cache, others = ragged(rows[: len(here)]), joining(rows[len(here) :])
    for layer, other in zip(cache, others, strict=True):
        layer.extend(other)
    out = step(cache, [[50 + row] for row in range(len(rows))])
    for row, sequence in enumerate(rows):
        assert mx.allclose(out[row, -1], logits_alone([*sequence, 50 + row]), atol=1e-4)


def test_a_sliding_window_is_masked_as_mlx_lm_masks_it() -> None:
    padded = BatchKVCache([0])
    padded.update_and_fetch(mx.zeros((1, 1, 9, 4)), mx.zeros((1, 1, 9, 4)))
    same = RaggedKVCache(padded.keys, padded.values, [9])
    ours = same.make_mask(4, return_array=True, window_size=5)
    theirs = create_causal_mask(4, offset=9, window_size=5)
    assert mx.array_equal(
        mx.broadcast_to(ours, (1, 1, 4, 13)), mx.broadcast_to(theirs, (1, 1, 4, 13))
    )


def test_columns_are_allocated_in_steps() -> None:
    cache = ragged(tokens(5, 2))
    sizes = set()
    for _ in range(2 * STEP):
        step(cache, [[4], [5]])
        sizes.add(cache[0].keys.shape[2])
    assert {size % STEP for size in sizes} == {0}
    assert max(sizes) == 3 * STEP
