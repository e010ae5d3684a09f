"""The bodies of the routes that generate: their fields, and what each may hold.

The decoder, the checks and the OpenAPI document all read these classes.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from engine.server.errors import bad_request

#: OpenAI allows 4 stop strings; more cost time for every token of the stream.
MAX_STOPS: Final = 16
#: Each choice takes a place of its own, and each place is one that others wait for.
MAX_CHOICES: Final = 16
#: As OpenAI: every alternative is computed and sent for each token.
MAX_CHAT_LOGPROBS: Final = 20
MAX_LOGPROBS: Final = 5
#: Counts are 32-bit integers in the runtime's arrays.
_LARGEST: Final = 2**31 - 1


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool = False


class TextPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a message; there are no others than text."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn of a conversation; content in parts must be text."""

    role: str
    content: str | list[TextPart] | None = None
    name: str | None = None

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


_Count = Annotated[int, Meta(ge=1, le=_LARGEST)]
_Natural = Annotated[int, Meta(ge=0, le=_LARGEST)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Stop = Annotated[str, Meta(min_length=1)]


class _Generate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What chat and plain completions share."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: _Natural | None = None
    min_p: _Share | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MAX_STOPS)] | None = None
    # As OpenAI: any integer of 64 bits.
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    # Logits are divided by it. 1 changes nothing; below 0.01 they leave the range of 16 bits.
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=2)] | None = None
    user: str | None = None
    ignore_eos: bool | None = None
    min_tokens: _Natural | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None


class ChatRequest(_Generate, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_CHAT_LOGPROBS)] | None = None

    def alternatives(self) -> int | None:
        """How many log-probabilities come with each token; None for not even its own.

        Raises:
            ApiError: 400 for alternatives without `logprobs`.
        """
        if self.logprobs:
            return self.top_logprobs or 0
        if self.top_logprobs:
            raise bad_request("top_logprobs needs logprobs: true", "top_logprobs", "invalid_value")
        return None


class CompletionRequest(_Generate, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None

    def alternatives(self) -> int | None:
        """As for chat."""
        return self.logprobs
