import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.placing import (
    AFFINITY_MARGIN,
    BLOCK_TOKENS,
    Load,
    Placement,
    PrefixIndex,
    block_hashes,
    place,
)

A, B, C = 1, 2, 3

LOADS = st.lists(
    st.builds(
        Load,
        replica=st.integers(1, 99),
        streams=st.integers(0, 20),
        ready=st.booleans(),
        known=st.integers(0, 5),
    ),
    unique_by=lambda load: load.replica,
)


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ([], None),
        ([Load(A, 3, ready=True), Load(B, 2, ready=True)], Placement(B, "least loaded")),
        ([Load(A, 2, ready=True), Load(B, 2, ready=True)], Placement(A, "least loaded")),
        ([Load(A, 0, ready=False), Load(B, 9, ready=True)], Placement(B, "least loaded")),
        ([Load(A, 5, ready=False), Load(B, 4, ready=False)], Placement(B, "waits")),
        ([Load(A, 4, ready=True, known=1), Load(B, 0, ready=True)], Placement(A, "affinity")),
        (
            [Load(A, 5, ready=True, known=9), Load(B, 0, ready=True)],
            Placement(B, "affinity yields"),
        ),
        (
            [Load(A, 1, ready=True, known=1), Load(B, 3, ready=True, known=2)],
            Placement(B, "affinity"),
        ),
        ([Load(A, 0, ready=False, known=9), Load(B, 1, ready=True)], Placement(B, "least loaded")),
    ],
)
def test_where_a_stream_goes(loads: list[Load], expected: Placement | None) -> None:
    assert place(loads) == expected


@given(LOADS)
def test_a_stream_never_goes_far_above_the_least_loaded_and_never_past_a_ready_one(
    loads: list[Load],
) -> None:
    placement = place(loads)
    if placement is None:
        assert loads == []
        return
    chosen = next(load for load in loads if load.replica == placement.replica)
    ready = [load for load in loads if load.ready]
    assert chosen.ready == bool(ready)
    assert chosen.streams - min(load.streams for load in ready or loads) <= AFFINITY_MARGIN


@given(st.lists(st.integers(0, 2**32), max_size=200), st.integers(0, 200))
def test_hashes_agree_exactly_on_the_blocks_that_two_prompts_share(
    prompt: list[int], changed: int
) -> None:
    other = list(prompt)
    if changed < len(other):
        other[changed] += 1
    hashes, others = block_hashes(prompt), block_hashes(other)
    assert len(hashes) == len(prompt) // BLOCK_TOKENS
    agree = [one == two for one, two in zip(hashes, others, strict=True)]
    assert agree == [changed >= (block + 1) * BLOCK_TOKENS for block in range(len(hashes))]


def test_an_index_knows_the_beginning_that_was_sent() -> None:
    index = PrefixIndex()
    prompt = list(range(4 * BLOCK_TOKENS))
    index.remember(block_hashes(prompt))
    assert index.known(block_hashes(prompt[: 2 * BLOCK_TOKENS] + [7] * BLOCK_TOKENS)) == 2
    assert index.known(block_hashes([7, *prompt])) == 0
    index.clear()
    assert index.known(block_hashes(prompt)) == 0


def test_a_full_index_forgets_the_ends_of_what_was_used_longest_ago() -> None:
    index = PrefixIndex(max_blocks=4)
    old, new = ([base] * (3 * BLOCK_TOKENS) for base in (1, 2))
    index.remember(block_hashes(old))
    index.remember(block_hashes(new))
    assert len(index) == 4
    assert index.known(block_hashes(old)) == 1
    assert index.known(block_hashes(new)) == 3


@given(st.lists(st.lists(st.integers(0, 1), max_size=9 * BLOCK_TOKENS), max_size=9))
def test_an_index_stays_within_its_bound_and_knows_what_came_last(
    prompts: list[list[int]],
) -> None:
    index = PrefixIndex(max_blocks=5)
    for prompt in prompts:
        hashes = block_hashes(prompt)
        index.remember(hashes)
        assert len(index) <= 5
        assert index.known(hashes) == min(5, len(hashes))
