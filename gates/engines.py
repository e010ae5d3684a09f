"""Engines over HTTP, typed: what the commands and the guard ask of them, and tell them.

Every call has a deadline and names its engine when it fails. An answer that lacks what it must
have is a failure: absence is never success.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from gates import engine_views
from gates.asking import (
    ATTEMPT_SECONDS,
    LONGEST_REASON,
    PASSING,
    EngineError,
    headers,
    message_of,
    pause_after,
)
from gates.engine_views import BrakeAnswer, Delivery, EngineView

__all__ = ["EngineClient", "EngineError", "ask_each", "clients", "statuses"]

Answer = TypeVar("Answer")


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
            tries += 1
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await call(self)
            except TimeoutError:
                raise EngineError(self.url, f"no answer within {seconds:g} s") from None
            except EngineError as error:
                pause = pause_after(tries)
                if not error.passing or time.monotonic() + pause >= deadline:
                    raise
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
            reason = f"{where}: {answer.status_code} {message_of(answer.text)}"
            raise EngineError(self.url, reason, passing=answer.status_code in PASSING)
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
    urls = tuple(urls)
    async with httpx.AsyncClient(
        headers=headers(),
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
