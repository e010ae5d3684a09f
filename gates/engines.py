"""Engines over HTTP, typed: what the commands and the guard ask of them, and tell them.

Every call has a deadline and names its engine when it fails. An answer that lacks what it must
have is a failure: absence is never success.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from gates import engine_views
from gates.engine_views import BrakeAnswer, Delivery, EngineView

Answer = TypeVar("Answer")

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
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

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


class EngineClient:
    """One engine. Each call is one attempt; `persistently` makes several."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def status(self) -> EngineView:
        """`GET /v1/status`.

        Raises:
            EngineError: no answer, or not that of an engine of ours.
        """
        return await self._ask(
            "GET", "/v1/status", lambda answer: engine_views.view(self.url, answer)
        )

    async def rollback(
        self, flags: Sequence[str] | None, *, cause: str, reason: str
    ) -> BrakeAnswer:
        """`POST /admin/rollback`: the engine brakes these flags, or all, before it answers.

        Raises:
            EngineError: as `status`.
        """
        body = {"flags": flags, "cause": cause, "reason": reason[:LONGEST_REASON]}
        return await self._ask("POST", "/admin/rollback", engine_views.brake_answer, body)

    async def deliver(self, generation: int, flags: Mapping[str, Mapping[str, Any]]) -> Delivery:
        """`POST /admin/rollout`: what the store says of these flags, as of a generation.

        An engine that refuses it answers, with `taken` false and the reason.

        Raises:
            EngineError: as `status`.
        """
        body = {"generation": generation, "flags": flags}
        return await self._ask("POST", "/admin/rollout", engine_views.delivery, body)

    async def renew(self, seconds: float) -> float | None:
        """`POST /admin/lease`; when the lease ends, seconds since 1970, if one is needed.

        Raises:
            EngineError: as `status`.
        """
        return await self._ask("POST", "/admin/lease", engine_views.expiry, {"seconds": seconds})

    async def metrics(self) -> str:
        """`GET /metrics`, in the text format of Prometheus.

        Raises:
            EngineError: as `status`.
        """
        return (await self._send("GET", "/metrics", None)).text

    async def persistently(
        self, call: Callable[["EngineClient"], Awaitable[Answer]], seconds: float
    ) -> Answer:
        """Make attempts until one succeeds or fails for good, or the time is over.

        Raises:
            EngineError: that of the last attempt.
        """
        deadline = time.monotonic() + seconds
        tries = 0
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await call(self)
            except TimeoutError:
                raise EngineError(self.url, f"no answer within {seconds:g} s") from None
            except EngineError as error:
                pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
                if not error.passing or time.monotonic() + pause >= deadline:
                    raise
            tries += 1
            await asyncio.sleep(pause)

    async def _ask(
        self, method: str, path: str, read: Callable[[Any], Answer], body: Any = None
    ) -> Answer:
        answer = await self._send(method, path, body)
        try:
            return read(answer.json())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{method} {path}: not the answer of an engine: {error!r}"
            raise EngineError(self.url, reason) from error

    async def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        where = f"{method} {path}"
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                answer = await self._http.request(method, self.url + path, json=body)
        except TimeoutError as error:
            reason = f"{where}: no answer within {ATTEMPT_SECONDS:g} s"
            raise EngineError(self.url, reason, passing=True) from error
        except httpx.HTTPError as error:
            reason = f"{where}: {str(error) or type(error).__name__}"
            raise EngineError(self.url, reason, passing=True) from error
        if answer.status_code != httpx.codes.OK:
            reason = f"{where}: {answer.status_code} {_message(answer)}"
            raise EngineError(self.url, reason, passing=answer.status_code in _PASSING)
        return answer


@asynccontextmanager
async def clients(
    urls: Iterable[str], *, ca: Path | None = None
) -> AsyncIterator[tuple[EngineClient, ...]]:
    """A client for each engine.

    Args:
        urls: their bases.
        ca: a PEM file of the authorities to trust; None trusts the usual ones.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    urls = tuple(urls)
    async with httpx.AsyncClient(
        headers=headers,
        verify=_trust(urls, ca),
        timeout=ATTEMPT_SECONDS,
        trust_env=False,  # a brake must not depend on somebody's proxy
    ) as http:
        yield tuple(EngineClient(url, http) for url in urls)


async def ask_each(
    engines: Iterable[EngineClient],
    call: Callable[[EngineClient], Awaitable[Answer]],
    *,
    seconds: float,
) -> dict[str, Answer | EngineError]:
    """Ask all engines at once, each persistently; an answer or an error by URL."""
    engines = tuple(engines)
    answers = await asyncio.gather(*(_outcome(engine, call, seconds) for engine in engines))
    return {engine.url: answer for engine, answer in zip(engines, answers, strict=True)}


async def statuses(
    urls: Iterable[str], *, seconds: float, ca: Path | None = None
) -> dict[str, EngineView | EngineError]:
    """What all engines say of themselves."""
    async with clients(urls, ca=ca) as engines:
        return await ask_each(engines, lambda engine: engine.status(), seconds=seconds)


async def _outcome(
    engine: EngineClient, call: Callable[[EngineClient], Awaitable[Answer]], seconds: float
) -> Answer | EngineError:
    try:
        return await engine.persistently(call, seconds)
    except EngineError as error:
        return error


def _trust(urls: Sequence[str], ca: Path | None) -> Any:
    """Reading all authorities takes a while, and none is needed without TLS."""
    if not any(url.startswith("https:") for url in urls):
        return False
    if ca is None:
        return True
    import ssl

    return ssl.create_default_context(cafile=str(ca))


def _message(answer: httpx.Response) -> str:
    """The message of an error as OpenAI's API has it, else the beginning of the text."""
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.text
    return " ".join(str(message).split())[:_QUOTED]
