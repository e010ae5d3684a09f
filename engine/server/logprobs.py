"""Log-probabilities in OpenAI's two forms."""

from collections.abc import Callable, Iterable
from typing import Final

from engine.server.documents import Alternative, ChatLogprobs, TextLogprobs, TokenLogprob
from engine.server.pieces import Drawn

#: What OpenAI gives for a token that cannot be: JSON has no minus infinity.
FLOOR: Final = -9999.0

TokenBytes = Callable[[int], bytes]


def chat_logprobs(tokens: Iterable[Drawn], token_bytes: TokenBytes) -> ChatLogprobs:
    """The form of chats: an object for each token."""
    return ChatLogprobs(content=[_token(drawn, token_bytes) for drawn in tokens])


def text_logprobs(tokens: Iterable[Drawn], token_bytes: TokenBytes) -> TextLogprobs:
    """The legacy form: the drawn token is always among the best, so they may be one more."""
    legacy = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for drawn in tokens:
        own = _text(token_bytes(drawn.token)), _finite(drawn.logprob)
        best = {_text(token_bytes(token)): _finite(best) for token, best in drawn.top.items()}
        legacy.tokens.append(own[0])
        legacy.token_logprobs.append(own[1])
        legacy.top_logprobs.append(best | dict([own]))
        legacy.text_offset.append(drawn.offset)
    return legacy


def _token(drawn: Drawn, token_bytes: TokenBytes) -> TokenLogprob:
    data = token_bytes(drawn.token)
    return TokenLogprob(
        token=_text(data),
        logprob=_finite(drawn.logprob),
        data=list(data),
        top_logprobs=[
            _alternative(token_bytes(token), logprob) for token, logprob in drawn.top.items()
        ],
    )


def _alternative(data: bytes, logprob: float) -> Alternative:
    return Alternative(token=_text(data), logprob=_finite(logprob), data=list(data))


def _text(data: bytes) -> str:
    """A part of a character is written as its bytes, as OpenAI does."""
    return data.decode(errors="backslashreplace")


def _finite(logprob: float) -> float:
    return max(FLOOR, logprob)  # in this order, so that nan becomes the floor
