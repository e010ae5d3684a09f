"""Text of a growing output, without ever taking a character back."""

import codecs
from collections.abc import Callable, Sequence
from typing import Final, Protocol

#: What a decoder gives for bytes that are no character, or none yet.
INCOMPLETE: Final = "\ufffd"

#: Bytes of the longest UTF-8 character: what is incomplete after so many tokens never ends.
LONGEST_CHARACTER: Final = 4


class Detokenizer(Protocol):
    """Text of one stream, token by token."""

    def push(self, token: int) -> str:
        """The text that is certain after this token; empty while a character is incomplete."""

    def finish(self) -> str:
        """What was held back when no token follows."""


class ByteDetokenizer:
    """For byte-level vocabularies: each token is some bytes, whatever stands around it.

    Exact for every sequence of tokens, and no dearer at the end of a long output.

    Args:
        bytes_of: the bytes of a token, none for a special one.
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """See `Detokenizer`."""
        return self._decoder.decode(self._bytes_of(token))

    def finish(self) -> str:
        """See `Detokenizer`."""
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """For every other vocabulary: decodes a few tokens again with each new one.

    Decoding starts at tokens before what was sent, since a tokenizer may write a token
    differently behind another one (a leading space, say).

    Args:
        decode: the text of some tokens.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._sent = 0  # the text of the tokens before this one was sent

    def push(self, token: int) -> str:
        """See `Detokenizer`."""
        self._ids.append(token)
        text = self._new_text()
        if text.endswith(INCOMPLETE) and len(self._ids) - self._sent < LONGEST_CHARACTER:
            return ""
        self._forget()
        return text

    def finish(self) -> str:
        """See `Detokenizer`."""
        text = self._new_text()
        self._forget()
        return text

    def _new_text(self) -> str:
        before = self._decode(self._ids[: self._sent])
        return self._decode(self._ids)[len(before) :]

    def _forget(self) -> None:
        self._ids = self._ids[self._sent :]
        self._sent = len(self._ids)


def byte_alphabet() -> dict[str, int]:
    """The byte behind each character of a byte-level vocabulary.

    Bytes that print stand for themselves; the others take the characters from U+0100 on.
    """
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in prints]
    shifted = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in prints} | shifted
