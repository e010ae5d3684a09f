"""What the engine says of itself while it is broken: looks at it, several each second.

The looks go straight to the engine, never through a proxy. An engine that does not answer is
a look as well.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chaos.errors import FaultError

#: Seconds between looks: what happens in between is known no better.
LOOK_SECONDS: Final = 0.1

#: An engine that takes longer to say how it is, is not well.
_ANSWER_SECONDS: Final = 2.0

#: The families that anything here reads; parsing all of them at each look would be a load.
_FAMILIES: Final = (
    "phase5_concurrency_limit",
    "phase5_memory_actions",
    "phase5_output_tokens",
    "phase5_qos_looks",
    "phase5_remediation_breaker",
    "phase5_remediations",
    "phase5_requests",
    "phase5_runtime_replays",
    "phase5_runtime_restarts",
    "phase5_stream_pauses",
    "phase5_streams",
    "qos_violations_total",
    "remediations_executed",
)


@dataclass(frozen=True, slots=True)
class Value:
    """One sample of a metric."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The engine at one moment, in seconds of the monotonic clock."""

    at: float
    status: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[Value, ...] = ()
    error: str = ""

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over the samples that carry these labels."""
        return total(self.values, name, labels)

    @property
    def pids(self) -> tuple[int, ...]:
        """The runtime processes."""
        found = (replica.get("pid") for replica in self.status.get("replicas", ()))
        return tuple(pid for pid in found if isinstance(pid, int))

    @property
    def serving(self) -> bool:
        """Whether it answers, all of it is ready, and nobody is turned away for want of memory."""
        status = self.status
        return (
            not self.error
            and bool(status.get("ready"))
            and all(r.get("state") == "ready" for r in status.get("replicas", ()))
            and self._rung not in ("shed", "renew")
        )

    @property
    def well(self) -> bool:
        """Whether it serves and complains of nothing: a violated SLO stays so for its window."""
        violated = self.status.get("qos", {}).get("violations")
        return self.serving and self._rung == "rest" and not violated

    @property
    def _rung(self) -> str:
        return str(self.status.get("memory", {}).get("rung", "rest"))


class Observer:
    """Looks at one engine from `start` to `stop`, in a thread of its own."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._over = threading.Event()
        self._news = threading.Condition()
        self._looks: list[Look] = []
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with a last look."""
        self._over.set()
        self._thread.join()

    @property
    def looks(self) -> tuple[Look, ...]:
        """All so far."""
        with self._news:
            return tuple(self._looks)

    def first(self, wanted: Callable[[Look], bool], seconds: float, what: str) -> Look:
        """Wait for a look that is wanted; one that is being taken already tells of earlier.

        Raises:
            FaultError: none came in time.
        """
        begun, seen = self._clock(), len(self.looks)
        deadline = begun + seconds
        with self._news:
            while True:
                for look in self._looks[seen:]:
                    if look.at >= begun and wanted(look):
                        return look
                seen = len(self._looks)
                left = deadline - self._clock()
                if left <= 0:
                    raise FaultError(f"never within {seconds:g} s: {what}")
                self._news.wait(left)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=_ANSWER_SECONDS, trust_env=False) as client:
            while True:
                over = self._over.is_set()
                look = _look(client, self._clock)
                with self._news:
                    self._looks.append(look)
                    self._news.notify_all()
                if over:
                    return
                self._over.wait(LOOK_SECONDS)


def _look(client: httpx.Client, clock: Callable[[], float]) -> Look:
    at = clock()
    try:
        status = client.get("/v1/status")
        metrics = client.get("/metrics")
        status.raise_for_status()
        metrics.raise_for_status()
    except httpx.HTTPError as error:
        return Look(at=at, error=type(error).__name__)
    return Look(at=at, status=status.json(), values=tuple(_values(metrics.text.splitlines())))


def _values(lines: Iterable[str]) -> list[Value]:
    return parsed("\n".join(line for line in lines if line.startswith(_FAMILIES)))


def parsed(text: str) -> list[Value]:
    """The samples of an exposition."""
    return [
        Value(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(f"{text}\n")
        for sample in family.samples
    ]


def total(values: Iterable[Value], name: str, labels: Mapping[str, str]) -> float:
    """The sum of a metric over the samples that carry these labels."""
    wanted = labels.items()
    return sum(v.value for v in values if v.name == name and wanted <= v.labels.items())
