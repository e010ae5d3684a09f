"""From output tokens to text that is certain, with the log-probabilities that belong to it.

Text is held back while a character is incomplete or a stop string may begin. A token's
log-probability goes out with the first character of its text: so both stay in step however
the text is cut, none is lost or sent twice, and a stop string cuts both at the same place.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from engine.runtime.messages import Token
from engine.server.detokenizers import Detokenizer
from engine.server.stops import StopScanner


class Drawn(NamedTuple):
    """An output token with its log-probability.

    Attributes:
        token: its id.
        logprob: of the token itself.
        top: the best tokens at this place and theirs.
        offset: characters of output before the text of this token.
    """

    token: int
    logprob: float
    top: dict[int, float]
    offset: int


class Piece(NamedTuple):
    """Text that became certain, and the tokens whose text begins in it."""

    text: str
    tokens: tuple[Drawn, ...] = ()


class PieceWriter:
    """Makes the pieces of one stream.

    Attributes:
        finish_reason: `stop` or `length` once the last piece was made.
    """

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str], min_tokens: int) -> None:
        self._detokenizer = detokenizer
        self._scanner = StopScanner(stops)
        self._min_tokens = min_tokens
        self._tokens = 0
        self._read = 0  # characters of the tokens so far
        self._sent = 0  # of those, the ones that are certain
        self._held: deque[Drawn] = deque()
        self.finish_reason: str | None = None

    def push(self, token: Token) -> Piece:
        """What this token makes certain; may be empty."""
        self._tokens += 1
        text = self._decode(token)
        self._read += len(text)
        if self._tokens > self._min_tokens:
            text = self._scanner.push(text)
        if self._scanner.stopped:
            self.finish_reason = "stop"
        elif token.finish is not None:
            text += self._scanner.finish()
            self.finish_reason = token.finish
        self._sent += len(text)
        return Piece(text, self._due()) if self._held else Piece(text)

    def _decode(self, token: Token) -> str:
        text = ""
        if token.finish != "stop":  # the token that means stop is a mark, not text
            if token.logprob is not None:
                drawn = Drawn(token.token, token.logprob, token.top_logprobs or {}, self._read)
                self._held.append(drawn)
            text = self._detokenizer.push(token.token)
        return text if token.finish is None else text + self._detokenizer.finish()

    def _due(self) -> tuple[Drawn, ...]:
        """Tokens whose text has begun; at an end that no stop string made, also those without."""
        if self.finish_reason is not None and not self._scanner.stopped:
            due = tuple(self._held)
            self._held.clear()
            return due
        due_now = []
        while self._held and self._held[0].offset < self._sent:
            due_now.append(self._held.popleft())
        return tuple(due_now)
