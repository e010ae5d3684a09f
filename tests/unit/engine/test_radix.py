import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.radix import Key, RadixTree, common

#: Few tokens, so that many sequences begin alike.
keys = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
moves = st.lists(st.tuples(st.booleans(), keys), max_size=40)


@given(moves, st.lists(st.integers(0, 2), max_size=9).map(tuple))
def test_it_answers_as_a_search_through_all_sequences_would(
    given_moves: list[tuple[bool, Key]], prompt: Key
) -> None:
    tree, held = RadixTree(), set[Key]()
    for adds, key in given_moves:
        if adds:
            tree.add(key)
            held.add(key)
        elif key in held:
            tree.remove(key)
            held.remove(key)
    found = tree.match(prompt)
    assert found.length == max((common(key, prompt) for key in held), default=0)
    best = {key for key in held if common(key, prompt) == found.length}
    assert set(found.below.keys()) == best
    assert found.beginnings == sorted((k for k in held if prompt[: len(k)] == k), key=len)


@given(st.sets(keys))
def test_a_tree_that_gave_everything_up_is_as_new(held: set[Key]) -> None:
    tree = RadixTree()
    for key in held:
        tree.add(key)
    for key in held:
        tree.remove(key)
    root = tree.match(()).below
    assert (root.children, root.key) == ({}, None)


@pytest.mark.parametrize("key", [(1,), (1, 2), (1, 2, 3, 4), (9,)])
def test_what_is_not_in_cannot_be_removed(key: Key) -> None:
    tree = RadixTree()
    tree.add((1, 2, 3))
    tree.add((1, 2, 4))
    with pytest.raises(KeyError):
        tree.remove(key)
    assert sorted(tree.match(()).below.keys()) == [(1, 2, 3), (1, 2, 4)]


def test_sequences_that_share_a_long_beginning_share_its_edge() -> None:
    tree, system = RadixTree(), tuple(range(200))
    for number in range(1000):
        tree.add((*system, 1000 + number, 1))
    below = tree.match(system).below
    assert below.edge == system
    assert len(below.children) == 1000
