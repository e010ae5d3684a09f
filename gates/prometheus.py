"""Live evidence from a Prometheus server, over its HTTP API.

Raw counters at the edges of minutes are asked for, never rates: they can be read back later, and
a rate hides a counter that began anew.
"""

import os
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from httpx_retries import Retry, RetryTransport

from gates.exposition import BUILD, SAMPLES, Sample, Scrape
from gates.live import Edge, SourceError

#: Seconds for which a server that does not answer is waited for: the ledger's last minute may be
#: so old before the judge holds for it.
PATIENCE: Final = 300.0

#: Minutes that are asked for at once: an hour of one engine is some 2 MB.
_AT_ONCE: Final = 60

#: Tries after the first, within 3.5 s: a connection that was just lost, a proxy that just began.
#: One that takes too long is not asked again at once.
_RETRIES: Final = Retry(
    total=3,
    backoff_factor=0.5,
    max_backoff_wait=2.0,
    respect_retry_after_header=False,
    allowed_methods=("POST",),  # which asks here, and changes nothing
    retry_on_exceptions=(httpx.NetworkError, httpx.RemoteProtocolError),
)

#: Labels that the engine gives; all others are the target's.
_OURS: Final = frozenset(
    {
        *("__name__", "outcome", "protocol", "le", "flag", "arm", "key", "quantile", "state"),
        *("adaptive_governor", "http2_transport", "ttft_pipeline", "qos_monitoring"),
        *("version", "commit", "model", "model_sha256", "config_sha256", "engine"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to get in. Secrets are never here, only the names of the variables that hold them."""

    token: str = "PHASE5_PROMETHEUS_TOKEN"  # noqa: S105 - the name of a variable
    user: str = "PHASE5_PROMETHEUS_USER"
    password: str = "PHASE5_PROMETHEUS_PASSWORD"  # noqa: S105 - the name of a variable
    ca: Path | None = None  #: certificates to trust, in place of the system's
    timeout: float = 10.0  #: seconds for one answer


class Prometheus:
    """A `gates.live.Source`.

    Args:
        url: base URL of the server.
        access: how to get in.
        match: further label matchers, such as `job="engines"`, where it scrapes others as well.
        transport: below the retries; given by tests.
        clock: seconds that never go back.

    Raises:
        SourceError: the URL holds a secret, or the certificates cannot be read.
    """

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        match: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        access = access or Access()
        if urlsplit(url).username or urlsplit(url).password:
            raise SourceError(
                f"the Prometheus URL holds a name or password; allowed: {access.user} and "
                f"{access.password} in the environment"
            )
        self._url = url.rstrip("/")
        self._match = match
        self._clock = clock
        self._failing_since: float | None = None
        below = transport or httpx.HTTPTransport(verify=_trusted(access.ca))
        self._client = httpx.Client(
            transport=RetryTransport(transport=below, retry=_RETRIES),
            timeout=access.timeout,
            headers=_bearer(access),
            auth=_basic(access),
        )

    @property
    def name(self) -> str:
        """See `Source`."""
        return f"prometheus {self._url}"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def now(self) -> datetime:
        """The server's clock.

        Raises:
            SourceError: it does not answer.
        """
        answer = self._ask("query", {"query": "time()"})
        try:
            return datetime.fromtimestamp(float(answer["result"][1]), UTC)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self._failed(f"what it calls its time is none: {error}") from error

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """See `Source`."""
        for begin in range(first, last + 1, _AT_ONCE):
            yield from self._edges(begin, min(begin + _AT_ONCE - 1, last))

    def queries(self) -> tuple[str, str]:
        """What is asked: when each target was seen last, and what it had counted then."""
        names = "|".join(SAMPLES)
        extra = f",{self._match}" if self._match else ""
        build = f"{{{self._match}}}" if self._match else ""
        return f"timestamp({BUILD}{build})", f'{{__name__=~"{names}"{extra}}}'

    def _edges(self, first: int, last: int) -> Iterator[Edge]:
        times, samples = (self._range(query, first, last) for query in self.queries())
        at = {
            (minute, _target(labels)): value for labels, points in times for minute, value in points
        }
        told: dict[int, defaultdict[str, list[Sample]]] = {
            minute: defaultdict(list) for minute in range(first, last + 1)
        }
        for labels, points in samples:
            own = {name: value for name, value in labels.items() if name in _OURS}
            name, target = own.pop("__name__", ""), _target(labels)
            for minute, value in points:
                told[minute][target].append(Sample(name, own, value))
        for minute, targets in told.items():
            # Who does not tell its build was seen at no time, which is too long ago.
            scrapes = (
                Scrape(target=target, at=at.get((minute, target), 0.0), samples=tuple(found))
                for target, found in sorted(targets.items())
            )
            yield Edge(minute=minute, scrapes=tuple(scrapes))

    def _range(
        self, query: str, first: int, last: int
    ) -> list[tuple[Mapping[str, str], list[tuple[int, float]]]]:
        """The values of each series at the edges of minutes where it has one."""
        asked = {"query": query, "start": first * 60, "end": last * 60, "step": 60}
        answer = self._ask("query_range", asked)
        try:
            return [
                (series["metric"], [(int(at) // 60, float(text)) for at, text in series["values"]])
                for series in answer["result"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._failed(f"an answer that is none: {error!r}") from error

    def _ask(self, what: str, form: Mapping[str, Any]) -> dict[str, Any]:
        """One question.

        Raises:
            SourceError: no answer, a refusal, or one that says itself that it is not all.
        """
        try:
            response = self._client.post(f"{self._url}/api/v1/{what}", data=dict(form))
        except httpx.HTTPError as error:
            raise self._failed(str(error) or type(error).__name__) from error
        body = _object(response)
        if body.get("status") != "success":
            told = body.get("error", "and no answer of a Prometheus")
            raise self._failed(f"HTTP {response.status_code}, {told}")
        if body.get("warnings"):
            raise self._failed(f"its answer is not whole: {'; '.join(body['warnings'])}")
        self._failing_since = None
        data: dict[str, Any] = body.get("data") or {}
        return data

    def _failed(self, why: str) -> SourceError:
        now = self._clock()
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        return SourceError(f"{self.name}: {why}", lasting=now - since >= PATIENCE)


def _target(labels: Mapping[str, str]) -> str:
    """Where a series was read: its instance, and what else tells targets apart."""
    rest = {name: value for name, value in labels.items() if name not in _OURS}
    instance = rest.pop("instance", "")
    return " ".join([instance, *(f"{name}={value}" for name, value in sorted(rest.items()))])


def _object(response: httpx.Response) -> dict[str, Any]:
    """A JSON object; empty where the answer is something else."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _bearer(access: Access) -> dict[str, str]:
    token = os.environ.get(access.token)
    return {"authorization": f"Bearer {token}"} if token else {}


def _basic(access: Access) -> httpx.BasicAuth | None:
    user, password = os.environ.get(access.user), os.environ.get(access.password)
    if os.environ.get(access.token) or not user:
        return None
    return httpx.BasicAuth(user, password or "")


def _trusted(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"certificates {ca}: {error}") from error
