"""What an answer tells, and how it counts: pure readers of streams, bodies and statuses."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gates.samples import Outcome
from pytest_phase5.load.sse import Event, SseParser

OK: Final = 200
TOO_MANY_REQUESTS: Final = 429
UNAVAILABLE: Final = 503
DONE: Final = "[DONE]"
#: Fields of a delta that hold generated text. Reasoning is generated too; a role is not.
_GENERATED: Final = ("content", "reasoning", "reasoning_content", "refusal", "tool_calls")
#: Last words that say how an answer ended; any other is an ending that nobody knows.
KNOWN_ENDS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
#: The number of an event, where a server gives one: it must rise by one each time.
SEQUENCE: Final = "sequence_number"
#: What an error may contribute to a sample: an identifier, never a sentence of the server.
_IDENTIFIER: Final = re.compile(r"[A-Za-z][\w.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request counts, and a short reason where it is not `ok`."""

    outcome: Outcome
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Facts:
    """What the answer has told so far."""

    first_token: float | None = None
    longest_gap: float | None = None  #: seconds
    pieces: int = 0  #: chunks with generated text, not tokens: a chunk may hold several
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    request_id: str | None = None


class Answer(Protocol):
    """A reader of the body of a 200."""

    facts: Facts

    def feed(self, data: bytes, now: float) -> None:
        """Take the bytes that arrived at `now`."""

    def ending(self) -> Ending:
        """How the request counts if the answer ends here."""

    @property
    def has_ended(self) -> bool:
        """Whether its text is over: a client that would leave now has stayed to the end."""


class StreamAnswer:
    """A streamed completion: whole only with a finish reason and then `[DONE]`, each once.

    What comes twice, out of its order, or after the end fails it. With several choices each
    that began must end.
    """

    def __init__(self) -> None:
        self.facts = Facts()
        self._parser = SseParser()
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._number: int | None = None
        self._last_text: float | None = None
        self._usage = self._done = False
        self._error: str | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Take the bytes that arrived at `now`."""
        for event in self._parser.feed(data):
            self._event(event, now)

    def ending(self) -> Ending:
        """A mistake decides; then whether the stream was whole."""
        if self._error is not None:
            return Ending(Outcome.FAILED, self._error)
        if not self.has_ended:
            return Ending(Outcome.CUT, "ended without a finish reason")
        if not self._done:
            return Ending(Outcome.CUT, "ended without [DONE]")
        return Ending(Outcome.OK)

    @property
    def has_ended(self) -> bool:
        """Whether the text is over: every choice that began has its finish reason."""
        return bool(self._ended) and self._begun <= self._ended

    def _event(self, event: Event, now: float) -> None:
        if self._done:
            self._fail("[DONE] twice" if event.data == DONE else "event after [DONE]")
        elif event.data == DONE:
            self._done = True
        else:
            self._chunk(event, _json_object(event.data), now)

    def _chunk(self, event: Event, chunk: dict[str, Any] | None, now: float) -> None:
        if event.name == "error" or (chunk is not None and chunk.get("error")):
            self._fail(f"error event{_identifier(chunk)}")
        elif chunk is None:
            self._fail("event is not a JSON object")
        else:
            self._in_sequence(chunk.get(SEQUENCE))
            choices = _choices(chunk)
            for choice in choices:
                self._choice(choice, now)
            if not choices and chunk.get("usage"):
                self._last_usage()
            _take(self.facts, chunk)

    def _in_sequence(self, number: Any) -> None:
        last = self._number
        if type(number) is not int:
            return
        if last is not None and number != last + 1:
            what = "repeated" if number == last else "missing" if number > last else "out of order"
            self._fail(f"event {what}: number {number} after {last}")
        self._number = number

    def _choice(self, choice: dict[str, Any], now: float) -> None:
        index = choice.get("index")
        place = index if type(index) is int else 0
        if has_text(choice):
            self._text(place, now)
        reason = _text(choice.get("finish_reason"))
        if reason is None:
            return
        if place in self._ended:
            self._fail("finish reason twice")
        if reason not in KNOWN_ENDS:
            self._fail(f"unknown finish reason{_named(reason)}")
        self._ended.add(place)

    def _text(self, place: int, now: float) -> None:
        if place in self._ended:
            self._fail("text after the finish reason")
            return
        self._begun.add(place)
        self.facts.pieces += 1
        if self._last_text is None:
            self.facts.first_token = now
        else:
            self.facts.longest_gap = max(self.facts.longest_gap or 0.0, now - self._last_text)
        self._last_text = now

    def _last_usage(self) -> None:
        """A chunk of nothing but usage is the last before `[DONE]`."""
        if self._usage:
            self._fail("usage twice")
        elif not self.has_ended:
            self._fail("usage before the finish reason")
        self._usage = True

    def _fail(self, reason: str) -> None:
        self._error = self._error or reason


class BodyAnswer:
    """A completion in one piece. It has no first token: null, not the time of the body."""

    def __init__(self) -> None:
        self.facts = Facts()
        self._body = bytearray()

    def feed(self, data: bytes, now: float) -> None:  # noqa: ARG002 - one Protocol for both
        """Take the bytes that arrived at `now`."""
        self._body += data

    @property
    def has_ended(self) -> bool:
        """It comes in one piece: nobody leaves in the middle."""
        return True

    def ending(self) -> Ending:
        """Read the body; a torn one is cut."""
        document = _json_object(bytes(self._body).decode("utf-8", errors="replace"))
        if document is None:
            return Ending(Outcome.CUT, "body is not a JSON object")
        if document.get("error"):
            return Ending(Outcome.FAILED, f"error object{_identifier(document)}")
        _take(self.facts, document)
        if self.facts.finish_reason is None:
            return Ending(Outcome.CUT, "ended without a finish reason")
        if self.facts.finish_reason not in KNOWN_ENDS:
            named = _named(self.facts.finish_reason)
            return Ending(Outcome.FAILED, f"unknown finish reason{named}")
        return Ending(Outcome.OK)


def has_text(choice: dict[str, Any]) -> bool:
    """Whether a choice of a chunk carries generated text."""
    delta = choice.get("delta")
    if isinstance(delta, dict) and any(delta.get(field) for field in _GENERATED):
        return True
    return bool(choice.get("text"))


def refusal(status: int, *, retry_after: bool, ready: bool) -> Ending:
    """How a status other than 200 counts.

    Args:
        status: of the response.
        retry_after: whether it had a `Retry-After`.
        ready: whether `/readyz` was 200 right then; asked only for a 503 with `Retry-After`.
    """
    if status == TOO_MANY_REQUESTS:
        return Ending(Outcome.SHED, "http 429")
    if status == UNAVAILABLE and retry_after and ready:
        return Ending(Outcome.SHED, "http 503")
    if status == UNAVAILABLE and retry_after:
        return Ending(Outcome.FAILED, "http 503 and not ready")
    client_error = 400 <= status < 500  # noqa: PLR2004 - the class of client errors
    return Ending(Outcome.REJECTED if client_error else Outcome.FAILED, f"http {status}")


def _take(facts: Facts, chunk: dict[str, Any]) -> None:
    for choice in _choices(chunk):
        facts.finish_reason = facts.finish_reason or _text(choice.get("finish_reason"))
    facts.request_id = facts.request_id or _text(chunk.get("id"))
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        facts.prompt_tokens = _count(usage.get("prompt_tokens"))
        facts.output_tokens = _count(usage.get("completion_tokens"))
        facts.cached_tokens = _count(_details(usage).get("cached_tokens"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _details(usage: dict[str, Any]) -> dict[str, Any]:
    details = usage.get("prompt_tokens_details")
    return details if isinstance(details, dict) else {}


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return []
    return [choice for choice in choices if isinstance(choice, dict)]


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _identifier(chunk: dict[str, Any] | None) -> str:
    """The type or code of an error object, if it is an identifier."""
    error = (chunk or {}).get("error")
    named = error if isinstance(error, dict) else {}
    return _named(named.get("code")) or _named(named.get("type"))


def _named(word: Any) -> str:
    return f": {word}" if _IDENTIFIER.fullmatch(str(word or "")) else ""
