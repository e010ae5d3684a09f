"""OpenAI objects of an answer: whole, or as server-sent events."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one stream; `cached` of the prompt came from the prefix store."""

    prompt: int
    output: int
    cached: int

    def document(self) -> dict[str, Any]:
        """OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Shape(Protocol):
    """How one route writes its answers."""

    def opening(self) -> bytes:
        """Events before the first text."""

    def text(self, piece: str) -> bytes:
        """An event with text."""

    def closing(self, reason: str, usage: Usage | None) -> bytes:
        """The finish reason, the counts where asked for, and the end mark."""

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        """The answer in one object."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What every object of one answer repeats."""

    id: str
    created: int
    model: str

    def event(self, kind: str, choices: list[dict[str, Any]], **more: object) -> bytes:
        return b"data: " + self.encode(kind, choices, **more) + b"\n\n"

    def encode(self, kind: str, choices: list[dict[str, Any]], **more: object) -> bytes:
        return msgspec.json.encode(
            {
                "id": self.id,
                "object": kind,
                "created": self.created,
                "model": self.model,
                "choices": choices,
                **more,
            }
        )

    def last(self, kind: str, final: dict[str, Any], usage: Usage | None) -> bytes:
        counts = b"" if usage is None else self.event(kind, [], usage=usage.document())
        return self.event(kind, [final]) + counts + DONE


class ChatShape:
    """Answers of `/v1/chat/completions`."""

    _CHUNK: Final = "chat.completion.chunk"

    def __init__(self, request_id: str, created: int, model: str) -> None:
        self._head = _Head(f"chatcmpl-{request_id}", created, model)

    def opening(self) -> bytes:
        """The role, in a chunk of its own: it is not a first token."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._chunk({"content": piece})

    def closing(self, reason: str, usage: Usage | None) -> bytes:
        """The last chunks."""
        return self._head.last(
            self._CHUNK, {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}, usage
        )

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        """A `chat.completion`."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": reason,
        }
        return self._head.encode("chat.completion", [choice], usage=usage.document())

    def _chunk(self, delta: dict[str, str]) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._head.event(self._CHUNK, [choice])


class CompletionShape:
    """Answers of `/v1/completions`."""

    _KIND: Final = "text_completion"

    def __init__(self, request_id: str, created: int, model: str) -> None:
        self._head = _Head(f"cmpl-{request_id}", created, model)

    def opening(self) -> bytes:
        """Nothing comes before the text."""
        return b""

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._head.event(self._KIND, [self._choice(piece, None)])

    def closing(self, reason: str, usage: Usage | None) -> bytes:
        """The last chunks."""
        return self._head.last(self._KIND, self._choice("", reason), usage)

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        """A `text_completion`."""
        return self._head.encode(self._KIND, [self._choice(text, reason)], usage=usage.document())

    def _choice(self, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
