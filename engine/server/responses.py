"""How the two routes write their answers: whole, or as server-sent events."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from engine.server.documents import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    Delta,
    FinishReason,
    PromptDetails,
    TextChoice,
    TextChunk,
    TextChunkChoice,
    TextCompletion,
    TokenCounts,
)
from engine.server.logprobs import chat_logprobs, text_logprobs
from engine.server.pieces import Drawn, Piece

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts; `cached` of the prompt came from the prefix store."""

    prompt: int
    output: int
    cached: int

    @classmethod
    def of_choices(cls, usages: Sequence["Usage"]) -> "Usage":
        """Of one request with several answers. Cached is what none of them had to compute."""
        if not usages:
            return cls(0, 0, 0)
        return cls(
            usages[0].prompt,
            sum(usage.output for usage in usages),
            min(usage.cached for usage in usages),
        )

    def document(self) -> TokenCounts:
        """OpenAI's usage object."""
        return TokenCounts(
            prompt_tokens=self.prompt,
            completion_tokens=self.output,
            total_tokens=self.prompt + self.output,
            prompt_tokens_details=PromptDetails(cached_tokens=self.cached),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One choice, put together from its pieces."""

    pieces: list[Piece]
    reason: FinishReason

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def tokens(self) -> list[Drawn]:
        """The log-probabilities of all its tokens."""
        return [drawn for piece in self.pieces for drawn in piece.tokens]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every object of one answer repeats, and how its tokens are written.

    Attributes:
        request_id: of the answer, without the route's prefix.
        created: seconds since 1970.
        token_bytes: what a token stands for by itself.
        logprobs: whether they were asked for.
        counts: whether the last event of a stream holds the token counts.
    """

    request_id: str
    created: int
    model: str
    token_bytes: Callable[[int], bytes]
    logprobs: bool
    counts: bool

    @property
    def no_counts(self) -> UnsetType | None:
        """`usage` of an event that has none: as OpenAI, null when it was asked for."""
        return None if self.counts else UNSET


class Shape(Protocol):
    """How one route writes its answers."""

    def opening(self, choices: int) -> bytes:
        """Events before the first text."""

    def text(self, index: int, piece: Piece) -> bytes:
        """An event with text of one choice."""

    def end(self, index: int, reason: FinishReason) -> bytes:
        """The finish reason of one choice."""

    def closing(self, usage: Usage) -> bytes:
        """The counts where asked for, and the end mark."""

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The answer in one object."""


class ChatShape:
    """Answers of `/v1/chat/completions`."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._id = f"chatcmpl-{head.request_id}"
        self._texts = Texts(lambda index, text: self._choice(index, Delta(content=text)))

    def opening(self, choices: int) -> bytes:
        """The role, in a chunk of its own: it is not a first token."""
        role = Delta(role="assistant", content="")
        return b"".join(self._choice(index, role) for index in range(choices))

    def text(self, index: int, piece: Piece) -> bytes:
        """See `Shape`."""
        if not piece.tokens:
            return self._texts.event(index, piece.text)
        return self._choice(index, Delta(content=piece.text), piece.tokens)

    def end(self, index: int, reason: FinishReason) -> bytes:
        """See `Shape`."""
        return self._choice(index, Delta(), reason=reason)

    def closing(self, usage: Usage) -> bytes:
        """See `Shape`."""
        return self._chunk([], usage.document()) + DONE if self._head.counts else DONE

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """A `chat.completion`."""
        head = self._head
        choices = [
            ChatChoice(
                index=index,
                message=AssistantMessage(content=answer.text),
                logprobs=chat_logprobs(answer.tokens, head.token_bytes) if head.logprobs else None,
                finish_reason=answer.reason,
            )
            for index, answer in enumerate(answers)
        ]
        return msgspec.json.encode(
            ChatCompletion(
                id=self._id,
                created=head.created,
                model=head.model,
                choices=choices,
                usage=usage.document(),
            )
        )

    def _choice(
        self,
        index: int,
        delta: Delta,
        tokens: Iterable[Drawn] = (),
        reason: FinishReason | None = None,
    ) -> bytes:
        choice = ChatChunkChoice(
            index=index,
            delta=delta,
            logprobs=chat_logprobs(tokens, self._head.token_bytes) if tokens else None,
            finish_reason=reason,
        )
        return self._chunk([choice], self._head.no_counts)

    def _chunk(
        self, choices: list[ChatChunkChoice], usage: TokenCounts | UnsetType | None
    ) -> bytes:
        head = self._head
        return event(
            ChatChunk(
                id=self._id, created=head.created, model=head.model, choices=choices, usage=usage
            )
        )


class TextShape:
    """Answers of `/v1/completions`."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._id = f"cmpl-{head.request_id}"
        self._texts = Texts(self._choice)

    def opening(self, choices: int) -> bytes:  # noqa: ARG002 - of the Protocol
        """Nothing comes before the text."""
        return b""

    def text(self, index: int, piece: Piece) -> bytes:
        """See `Shape`."""
        if not piece.tokens:
            return self._texts.event(index, piece.text)
        return self._choice(index, piece.text, piece.tokens)

    def end(self, index: int, reason: FinishReason) -> bytes:
        """See `Shape`."""
        return self._choice(index, "", reason=reason)

    def closing(self, usage: Usage) -> bytes:
        """See `Shape`."""
        return self._chunk([], usage.document()) + DONE if self._head.counts else DONE

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """A `text_completion`."""
        head = self._head
        choices = [
            TextChoice(
                index=index,
                text=answer.text,
                logprobs=text_logprobs(answer.tokens, head.token_bytes) if head.logprobs else None,
                finish_reason=answer.reason,
            )
            for index, answer in enumerate(answers)
        ]
        return msgspec.json.encode(
            TextCompletion(
                id=self._id,
                created=head.created,
                model=head.model,
                choices=choices,
                usage=usage.document(),
            )
        )

    def _choice(
        self,
        index: int,
        text: str,
        tokens: Iterable[Drawn] = (),
        reason: FinishReason | None = None,
    ) -> bytes:
        choice = TextChunkChoice(
            index=index,
            text=text,
            logprobs=text_logprobs(tokens, self._head.token_bytes) if tokens else None,
            finish_reason=reason,
        )
        return self._chunk([choice], self._head.no_counts)

    def _chunk(
        self, choices: list[TextChunkChoice], usage: TokenCounts | UnsetType | None
    ) -> bytes:
        head = self._head
        return event(
            TextChunk(
                id=self._id, created=head.created, model=head.model, choices=choices, usage=usage
            )
        )


class Texts:
    """Events of one answer that differ in their text alone: encoded once, around it.

    Args:
        make: the whole event of a choice with a text.
    """

    #: Stands for the text; no name and no id has it, and JSON spells it out.
    _GAP: Final = "\0"

    def __init__(self, make: Callable[[int, str], bytes]) -> None:
        self._make = make
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def event(self, index: int, text: str) -> bytes:
        """The event of a choice with this text."""
        if index not in self._around:
            before, after = self._make(index, self._GAP).split(msgspec.json.encode(self._GAP))
            self._around[index] = before, after
        before, after = self._around[index]
        return before + msgspec.json.encode(text) + after


def event(document: msgspec.Struct) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(document) + b"\n\n"
