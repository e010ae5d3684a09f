import codecs
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.messages import Token
from engine.server.detokenizers import ByteDetokenizer
from engine.server.pieces import Drawn, Piece, PieceWriter

EOS = 99_999


def write(
    parts: list[bytes], *, stops: Any = (), min_tokens: int = 0, end: str = "stop"
) -> tuple[list[Piece], str | None]:
    """The pieces of an output whose tokens are these bytes, each with a log-probability."""
    writer = PieceWriter(ByteDetokenizer(lambda token: parts[token]), stops, min_tokens)
    tokens = [Token(1, at, at, None, -float(at), {at: -float(at)}) for at in range(len(parts))]
    if end == "stop":
        tokens.append(Token(1, len(parts), EOS, "stop", -1.0, {}))
    elif tokens:
        tokens[-1] = Token(1, len(parts) - 1, len(parts) - 1, end, -1.0, {})
    pieces = []
    for token in tokens:
        pieces.append(writer.push(token))
        if writer.finish_reason is not None:
            break
    return pieces, writer.finish_reason


def shown(pieces: list[Piece]) -> list[tuple[str, list[int]]]:
    return [(piece.text, [drawn.token for drawn in piece.tokens]) for piece in pieces]


@pytest.mark.parametrize(
    ("parts", "stops", "expected", "reason"),
    [
        # The mark of the end has no text and no place among the log-probabilities.
        ([b"a", b"b"], (), [("a", [0]), ("b", [1]), ("", [])], "stop"),
        # The tokens of one character come together, with it.
        ([b"\xe2", b"\x82", b"\xac!"], (), [("", []), ("", []), ("€!", [0, 1, 2])], "stop"),
        # Held back with its text, and given out with it.
        ([b"so E", b"N", b"T"], ["END"], [("so ", [0]), ("", []), ("ENT", [1, 2])], "stop"),
        # Cut with its text; a token that is cut in its middle stays.
        ([b"a", b" E", b"ND", b"x"], ["END"], [("a", [0]), (" ", [1]), ("", [])], "stop"),
        ([b"a", b"EN", b"D"], ["END"], [("a", [0]), ("", []), ("", [])], "stop"),
        # A token without text at the end is not lost.
        ([b"a", b""], (), [("a", [0]), ("", []), ("", [1])], "stop"),
    ],
)
def test_log_probabilities_keep_step_with_their_text(
    parts: Any, stops: Any, expected: Any, reason: Any
) -> None:
    pieces, ended = write(parts, stops=stops)
    assert shown(pieces)[: len(expected)] == expected
    assert ended == reason


def test_an_offset_counts_characters_of_the_text_before() -> None:
    pieces, _ = write([b"\xe2", b"\x82\xac", b"uro"])
    offsets = {drawn.token: drawn.offset for piece in pieces for drawn in piece.tokens}
    assert offsets == {0: 0, 1: 0, 2: 1}


def test_without_log_probabilities_there_are_only_texts() -> None:
    writer = PieceWriter(ByteDetokenizer(lambda _: b"x"), (), 0)
    assert writer.push(Token(1, 0, 5)) == Piece("x")
    assert writer.push(Token(1, 1, 5, "length")) == Piece("x")


OUTPUT = st.lists(st.sampled_from([b"a", b"b", b"ab", b"", b"\xe2", b"\x82", b"\xac", b"\xff"]))


def beginnings(parts: list[bytes]) -> list[int]:
    """Characters of the output before the text of each token."""
    return [len(_complete(b"".join(parts[:at]))) for at in range(len(parts))]


def _complete(data: bytes) -> str:
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)


@given(
    parts=OUTPUT,
    stops=st.lists(st.text("ab€", min_size=1, max_size=3), max_size=2),
    min_tokens=st.integers(0, 4),
    end=st.sampled_from(["stop", "length"]),
)
def test_a_log_probability_goes_out_with_the_first_character_of_its_text(
    parts: list[bytes], stops: list[str], min_tokens: int, end: str
) -> None:
    pieces, reason = write(parts, stops=stops, min_tokens=min_tokens, end=end)
    begins = beginnings(parts)
    sent, seen = 0, []
    for piece in pieces[:-1]:
        sent += len(piece.text)
        seen += [drawn.token for drawn in piece.tokens]
        assert seen == [at for at in range(len(parts)) if begins[at] < sent][: len(seen)]
        assert all(begins[at] >= sent for at in range(len(seen), len(pieces)) if at < len(parts))
    if pieces:
        text = "".join(piece.text for piece in pieces)
        seen += [drawn.token for drawn in pieces[-1].tokens]
        whole = b"".join(parts).decode(errors="replace")
        assert whole.startswith(text)
        cut = [at for at in range(len(parts)) if begins[at] < len(text)]
        assert seen in (list(range(len(parts))), cut)
        assert seen == cut or text == whole
        assert reason in {"stop", end}


@given(parts=OUTPUT, end=st.sampled_from(["stop", "length"]))
def test_without_stop_strings_every_token_has_its_log_probability(
    parts: list[bytes], end: str
) -> None:
    pieces, _ = write(parts, end=end)
    tokens = [drawn for piece in pieces for drawn in piece.tokens]
    assert len(tokens) == len(parts)
    assert all(isinstance(drawn, Drawn) for drawn in tokens)
