from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.sse import Event, SseParser

LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])
TEXT = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=8)
LINES = st.one_of(
    st.just(""),
    TEXT.map(lambda text: f"data: {text}"),
    TEXT.map(lambda text: f"data:{text}"),
    TEXT.map(lambda text: f"event: {text}"),
    TEXT.map(lambda text: f": {text}"),
    TEXT,
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, LINE_ENDS), max_size=20))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return (mark + "".join(line + end for line, end in lines)).encode()


def parse(parts: list[bytes]) -> list[Event]:
    parser = SseParser()
    return [event for part in parts for event in parser.feed(part)]


@given(stream=streams(), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[start:end] for start, end in pairwise(edges)]
    assert parse(parts) == parse([stream])
    assert parse([bytes([byte]) for byte in stream]) == parse([stream])


@given(texts=st.lists(TEXT, max_size=10), end=LINE_ENDS)
def test_what_was_written_is_read_back(texts: list[str], end: str) -> None:
    stream = "".join(f"data: {text}{end}{end}" for text in texts) + ": the end\n"
    assert parse([stream.encode()]) == [Event("message", text) for text in texts]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event("message", "a")]),
        (b"data:a\n\n", [Event("message", "a")]),
        (b"data:  a\n\n", [Event("message", " a")]),
        (b"data: a\ndata: b\n\n", [Event("message", "a\nb")]),
        (b"data\n\n", [Event("message", "")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [Event("error", "a"), Event("message", "b")]),
        (b"event: error\n\ndata: b\n\n", [Event("message", "b")]),
        (b": keep-alive\n\n", []),
        (b"id: 1\nretry: 5\ndata: a\n\n", [Event("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("message", "a")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event("message", "a"), Event("message", "b")]),
        (b"data: a\n\ndata: torn\n", [Event("message", "a")]),
        (b"data: a\n\ndata: to", [Event("message", "a")]),
        (b"\n\n\n", []),
    ],
)
def test_the_standard_is_followed(stream: bytes, events: list[Event]) -> None:
    assert parse([stream]) == events
