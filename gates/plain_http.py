"""Requests to an engine by the standard library alone: what a rollback sends before all else.

Beside 75 streams on two cores, loading httpx takes 0.9 s and this module 0.1 s. Whoever is loaded
already, and has many engines to talk to, takes `gates.engines`.
"""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from gates import engine_views
from gates.asking import (
    ATTEMPT_SECONDS,
    PASSING,
    EngineError,
    headers,
    message_of,
    pause_after,
)
from gates.engine_views import EngineView

Answer = TypeVar("Answer")

_OK: Final = 200


def view(url: str, seconds: float, ca: Path | None = None) -> EngineView:
    """Who an engine is: one attempt.

    Raises:
        EngineError: it did not say so.
    """
    return ask(url, "/v1/status", lambda answer: engine_views.view(url, answer), seconds, ca=ca)


def persistently(attempt: Callable[[float], Answer], deadline: float) -> Answer:
    """Make attempts until one succeeds or fails for good, or the time is over.

    Args:
        attempt: takes the seconds that it may last.
        deadline: on the monotonic clock.

    Raises:
        EngineError: that of the last attempt.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return attempt(min(ATTEMPT_SECONDS, max(deadline - time.monotonic(), 0.01)))
        except EngineError as error:
            if not error.passing or time.monotonic() + pause_after(tries) >= deadline:
                raise
        time.sleep(pause_after(tries))


def ask(
    url: str,
    path: str,
    read: Callable[[Any], Answer],
    seconds: float,
    *,
    body: Any = None,
    ca: Path | None = None,
) -> Answer:
    """One request: a POST where there is a body, else a GET.

    Raises:
        EngineError: no answer, or not the one that `read` can read.
    """
    where = f"{_method(body)} {path}"
    connection = _connection(url, seconds, ca)
    status, text = _exchange(connection, url, path, body)
    if status != _OK:
        reason = f"{where}: {status} {message_of(text)}"
        raise EngineError(url, reason, passing=status in PASSING)
    try:
        return read(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(url, f"{where}: not the answer of an engine: {error!r}") from error


def _method(body: Any) -> str:
    return "GET" if body is None else "POST"


def _exchange(connection: HTTPConnection, url: str, path: str, body: Any) -> tuple[int, str]:
    content = None if body is None else json.dumps(body)
    target = urlsplit(url).path.rstrip("/") + path
    kind = {"Content-Type": "application/json"}
    try:
        connection.request(_method(body), target, body=content, headers=headers() | kind)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        reason = f"{_method(body)} {path}: {str(error) or type(error).__name__}"
        raise EngineError(url, reason, passing=True) from error
    finally:
        connection.close()


def _connection(url: str, seconds: float, ca: Path | None) -> HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return HTTPConnection(host, parts.port, timeout=seconds)
    import ssl

    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    return HTTPSConnection(host, parts.port, timeout=seconds, context=context)
