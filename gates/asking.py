"""How engines are asked, whoever asks: how long, how often, and what may pass by itself."""

import json
import os
from contextlib import suppress
from typing import Final

#: The environment variable with the bearer token of the engines' admin routes.
TOKEN_VARIABLE: Final = "PHASE5_ADMIN_TOKEN"  # noqa: S105 - a name, not a secret

#: Seconds for one attempt: an engine on a busy machine answers within one or two, and of the
#: ten that a rollback has there is time for a second attempt on a new connection.
ATTEMPT_SECONDS: Final = 4.0

#: Characters of a reason that an engine takes; a rollback must not fail for a long story.
LONGEST_REASON: Final = 500

#: Pauses between attempts, seconds; the last one repeats. Short, since a rollback waits.
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4)

#: Answers of somebody who stands before the engine, or of one that is starting or overloaded.
PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

#: What is quoted of an answer, in characters.
_QUOTED: Final = 200


class EngineError(Exception):
    """An engine that did not answer as it must. One line, which names the engine.

    `passing`: it may answer when it is asked again.
    """

    def __init__(self, url: str, reason: str, *, passing: bool = False) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.passing = passing


def pause_after(tries: int) -> float:
    """Seconds to wait after so many attempts."""
    return _PAUSES[min(tries, len(_PAUSES)) - 1]


def headers() -> dict[str, str]:
    """The bearer token, where there is one."""
    token = os.environ.get(TOKEN_VARIABLE)
    return {"Authorization": f"Bearer {token}"} if token else {}


def message_of(text: str) -> str:
    """The message of an error as OpenAI's API has it, else the beginning of the text."""
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:_QUOTED]
