"""Drafts without a model: what followed the last time that the text ended as it does now.

Known as prompt lookup (Saxena 2023). Answers repeat their prompts when they quote, extract or
edit, and small models repeat themselves.
"""

from array import array
from collections.abc import Iterable
from itertools import cycle, islice
from typing import Final

#: An ending of two tokens is often a mere habit of the language, and its continuation a guess;
#: a guess costs little where the acceptance is measured. One token would match nearly always.
SHORTEST: Final = 2

#: Longer endings say no more: copies of eight tokens go on as they went on before.
LONGEST: Final = 8

_TOKEN: Final = array("I").itemsize


class History:
    """The tokens of one stream so far."""

    def __init__(self) -> None:
        self._tokens = array("I")

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        self._tokens.extend(tokens)

    def draft(self, length: int) -> list[int]:
        """So many tokens that may follow; none when the ending is new.

        The longest ending that occurred before decides, at its latest place. Where that place
        is nearer than `length`, the copy goes on into itself, as in "ha ha ha".
        """
        data = self._tokens.tobytes()
        found = None
        for size in range(SHORTEST, min(LONGEST, len(self) - 1) + 1):
            at = _latest(data, size)
            if at is None:  # then no longer ending occurred either
                break
            found = at + size
        return [] if found is None else list(islice(cycle(self._tokens[found:]), length))


def _latest(data: bytes, size: int) -> int | None:
    """Where the last `size` tokens begin in their latest earlier occurrence.

    A search in bytes runs at C speed; matches that do not begin at a token do not count.
    """
    ending = data[-size * _TOKEN :]
    end = len(data) - _TOKEN
    while (at := data.rfind(ending, 0, end)) >= 0:
        if at % _TOKEN == 0:
            return at // _TOKEN
        end = at + len(ending) - 1
    return None
