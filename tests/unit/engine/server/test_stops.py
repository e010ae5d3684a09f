from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.server.stops import StopScanner


def read(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    scanner = StopScanner(stops)
    text = "".join(scanner.push(piece) for piece in pieces)
    return text + scanner.finish(), scanner.stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "text", "stopped"),
    [
        ([], ["a", "b"], "ab", False),
        (["END"], ["so E", "N", "D more"], "so ", True),
        (["END"], ["so E", "N", "T"], "so ENT", False),
        (["END"], ["so EN"], "so EN", False),
        (["b", "abc"], ["a", "bc"], "a", True),
        (["aab"], ["a", "a", "a", "b"], "a", True),
    ],
)
def test_text_ends_before_the_first_stop_string(
    stops: Any, pieces: Any, text: Any, stopped: Any
) -> None:
    assert read(stops, pieces) == (text, stopped)


def test_what_cannot_begin_a_stop_string_is_not_held_back() -> None:
    scanner = StopScanner(["END"])
    assert scanner.push("no harm E") == "no harm "
    assert scanner.push("x") == "Ex"


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=4)),
)
def test_the_cut_does_not_depend_on_the_pieces(stops: list[str], pieces: list[str]) -> None:
    joined = "".join(pieces)
    assert read(stops, pieces) == read(stops, [joined]) == read(stops, list(joined))


@given(st.lists(st.text("ab", min_size=1, max_size=3), max_size=3), st.text("abc", max_size=12))
def test_nothing_is_lost_and_no_stop_string_is_let_through(stops: list[str], text: str) -> None:
    given_out, stopped = read(stops, list(text))
    assert text.startswith(given_out)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in given_out for stop in stops)
    assert stopped or given_out == text
