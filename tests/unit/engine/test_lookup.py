from hypothesis import given
from hypothesis import strategies as st

from engine.core.lookup import LONGEST, SHORTEST, History

#: Few different ones, so that endings repeat.
TOKENS = st.lists(st.integers(0, 3), max_size=60)


def history(tokens: list[int]) -> History:
    made = History()
    made.extend(tokens)
    return made


def slowly(tokens: list[int], length: int) -> list[int]:
    """The definition, token by token."""
    for size in range(min(LONGEST, len(tokens) - 1), SHORTEST - 1, -1):
        for at in range(len(tokens) - size - 1, -1, -1):
            if tokens[at : at + size] == tokens[-size:]:
                follows = tokens[at + size :]
                return [follows[place % len(follows)] for place in range(length)]
    return []


@given(TOKENS, st.integers(1, 12))
def test_the_longest_ending_that_occurred_before_decides(tokens: list[int], length: int) -> None:
    assert history(tokens).draft(length) == slowly(tokens, length)


@given(TOKENS, TOKENS)
def test_a_text_that_grows_is_searched_as_a_whole(first: list[int], second: list[int]) -> None:
    grown = history(first)
    grown.extend(second)
    assert len(grown) == len(first) + len(second)
    assert grown.draft(5) == history(first + second).draft(5)


def test_a_copy_goes_on_into_itself() -> None:
    assert history([7, 8, 7, 8]).draft(5) == [7, 8, 7, 8, 7]


def test_ids_whose_bytes_only_look_alike_do_not_match() -> None:
    # As bytes, the ending (1, 256) also stands across the tokens before it, off by one byte.
    tokens = [256, 65536, 5, 1, 256]
    assert history(tokens).draft(3) == slowly(tokens, 3) == []


def test_nothing_is_drafted_for_a_new_ending_or_a_short_text() -> None:
    assert history([1, 2, 3, 4, 5]).draft(4) == []
    assert history([1]).draft(4) == history([]).draft(4) == []
