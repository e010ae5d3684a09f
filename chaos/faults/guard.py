"""The guard's Prometheus is lost: it answers nobody, and hears of no engine."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from chaos.errors import FaultError
from chaos.faults.base import until, wait
from chaos.faults.network import cut_off
from chaos.observing import parsed, total
from chaos.record import Effect, Record
from chaos.stage import Ground, Watch

#: For the guard to read its Prometheus, and to come back to it: a minute and its closing.
_GUARD_SECONDS: Final = 150.0

_ANSWER_SECONDS: Final = 5.0

#: A question that was on its way when all was cut is counted by then.
_IN_FLIGHT_SECONDS: Final = 1.0

#: What is asked through a cut is not waited for as long as by the guard.
_UNHEARD_SECONDS: Final = 1.0

_RENEWALS: Final = "phase5_guard_lease_renewals_total"
_ROLLBACKS: Final = "phase5_guard_rollbacks_total"
_MINUTES: Final = "phase5_guard_ledger_minutes_total"
_OPEN: Final = "phase5_guard_open_rollbacks"
_CONCERNS: Final = "phase5_guard_concerns"

#: What Prometheus counts of the guard: nobody else asks it for ranges.
_ASKED: Final = "prometheus_http_requests_total"
_RANGES: Final = {"handler": "/api/v1/query_range", "code": "200"}


class _Severed:
    """Nothing passes between guard and Prometheus, nor between Prometheus and engine."""

    def __init__(self, ground: Ground) -> None:
        if ground.watched is None:
            raise FaultError("nobody watches the engine; allowed: an experiment with `watched`")
        self._watched: Watch = ground.watched
        self._observer = ground.observer
        self._toxics = cut_off([self._watched.queries, self._watched.scrapes])
        self._seen: dict[str, Any] = {}
        self._healed: Mapping[str, Any] = {}
        self._from = 0  #: of the guard's log
        self.requested: Mapping[str, Any] = self._toxics.requested

    def inject(self) -> Mapping[str, Any]:
        """Let the guard judge on Prometheus and renew the lease, then cut both ways."""
        closing = self._watched.guard.start()
        self._settle()
        self._await(
            lambda: self._count(_RENEWALS) > 0 and self._count(_MINUTES, valid="yes") > 0,
            "the guard renews the lease on what Prometheus tells",
        )
        self._note("before")
        self._from = len(self._watched.guard.log)
        found = self._toxics.inject()
        wait(_IN_FLIGHT_SECONDS)
        self._seen["asked_at_cut"] = self._asked()
        return {**found, "minutes_close_after_seconds": closing}

    def hold(self, seconds: float) -> None:
        """So long, and until the guard did what it does without Prometheus."""
        begun = time.monotonic()
        wait(seconds)
        self._endure()
        self._note("during")
        self._seen["cut_seconds"] = time.monotonic() - begun

    def heal(self) -> Mapping[str, Any]:
        """Let everything pass, and wait until the guard is at rest again."""
        if self._healed or "during" not in self._seen:
            return self._healed or self._toxics.heal()
        found = self._toxics.heal()
        begun = time.monotonic()
        self._recover()
        self._note("after")
        self._healed = {**found, "at_rest_after_seconds": time.monotonic() - begun}
        return self._healed

    def effect(self, record: Record) -> Effect:  # noqa: ARG002 - Prometheus and the guard told
        """Scrapes and questions came through before, and neither did while it was cut."""
        before, during = self._seen.get("before", {}), self._seen.get("during", {})
        proven = (
            (before.get("up"), before.get("query")) == (1, "answered")
            and (during.get("up"), during.get("query")) == (0, "unanswered")
            and during.get("asked") == self._seen.get("asked_at_cut")
        )
        why = f"before the cut {before}, behind it {during}"
        return Effect(values={**self._seen, **self._healed}, proven=proven, why=why)

    def _settle(self) -> None:
        """What the guard needs before the cut; nothing, unless a fault says more."""

    def _endure(self) -> None:
        raise NotImplementedError

    def _recover(self) -> None:
        raise NotImplementedError

    def _note(self, when: str) -> None:
        look = self._observer.first(lambda look: not look.error, _ANSWER_SECONDS, "a look")
        self._seen[when] = {
            "up": self._up(),
            "query": self._query(),
            "asked": self._asked(),
            "renewals": self._count(_RENEWALS),
            "rollbacks": self._count(_ROLLBACKS),
            "dead_man": self._count(_ROLLBACKS, cause="dead_man"),
            "open": self._count(_OPEN),
            "concerns": self._count(_CONCERNS),
            "minutes_valid": self._count(_MINUTES, valid="yes"),
            "minutes_invalid": self._count(_MINUTES, valid="no"),
            "lease_expires_at": look.status["lease"]["expires_at"],
        }

    def _complaint(self) -> str:
        """What the guard last told of what it misses since the cut, unless that is over."""
        lines = self._watched.guard.log[self._from :].splitlines()
        told = [line for line in lines if self._of_this(line) and "WARNING" in line]
        return "" if not told or "over: " in told[-1] else told[-1].partition("phase5.guard: ")[2]

    def _of_this(self, line: str) -> bool:
        raise NotImplementedError

    def _up(self) -> float | None:
        """Whether Prometheus's last scrape of the engine came through; it is asked straight."""
        answer = httpx.get(
            f"{self._watched.prometheus}/api/v1/query",
            params={"query": "up"},
            timeout=_ANSWER_SECONDS,
            trust_env=False,
        )
        found = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def _query(self) -> str:
        """Whether a question comes through on the guard's way."""
        url = f"{self._watched.queries.url()}/-/ready"
        try:
            answer = httpx.get(url, timeout=_UNHEARD_SECONDS, trust_env=False)
        except httpx.HTTPError:
            return "unanswered"
        return "answered" if answer.is_success else f"answered {answer.status_code}"

    def _asked(self) -> float:
        return _total(f"{self._watched.prometheus}/metrics", _ASKED, _RANGES)

    def _count(self, name: str, **labels: str) -> float:
        return _total(f"{self._watched.guard.url}/metrics", name, labels)

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        until(condition, _GUARD_SECONDS, what)


class LosePrometheus(_Severed):
    """The guard knows enough of the engine, and can read it itself."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._long = ground.long

    def _settle(self) -> None:
        """In the full form the guard has read the engine at two edges of minutes itself."""
        if self._long:
            wait(60 - time.time() % 60 + 60)

    def _endure(self) -> None:
        """Until it has asked in vain or judged a minute without Prometheus, and goes on."""
        judged = self._seen["before"]["minutes_valid"]
        self._await(
            lambda: bool(self._complaint()) or self._count(_MINUTES, valid="yes") > judged,
            "a minute falls due without Prometheus",
        )
        # A lease goes on: it is renewed after that as well.
        self._seen["told"] = self._complaint()
        known = self._count(_RENEWALS)
        self._await(lambda: self._count(_RENEWALS) > known, "the lease is renewed without it")

    def _recover(self) -> None:
        """Until it asks Prometheus again, and judges a minute."""
        asked, judged = self._seen["during"]["asked"], self._count(_MINUTES, valid="yes")
        self._await(
            lambda: (
                self._up() == 1
                and self._asked() > asked
                and self._count(_MINUTES, valid="yes") > judged
                and not self._complaint()
            ),
            "the guard judges on Prometheus again",
        )

    def _of_this(self, line: str) -> bool:
        return f"prometheus {self._watched.queries.url()}" in line


class BlindGuard(_Severed):
    """What the guard knows of the engine is too old soon, and it has not read it itself."""

    def _endure(self) -> None:
        """Until the engine, of which no guard was heard in time, has braked itself."""
        self._await(lambda: bool(self._complaint()), "what the guard knows is too old")
        self._seen["told"] = self._complaint()
        self._observer.first(
            lambda look: any(flag["braked"] for flag in look.status.get("flags", {}).values()),
            _GUARD_SECONDS,
            "the engine brakes itself",
        )

    def _recover(self) -> None:
        """Until that is in the store, and nothing troubles the guard."""
        self._await(
            lambda: (
                self._up() == 1
                and self._count(_ROLLBACKS) > 0
                and not self._count(_OPEN)
                and not self._count(_CONCERNS)
            ),
            "the guard has written the rollback down",
        )

    def _complaint(self) -> str:
        """Since the guard began: the minute may turn while it is being cut off."""
        self._from = 0
        return super()._complaint()

    def _of_this(self, line: str) -> bool:
        return "the lease of " in line


def _total(url: str, name: str, labels: Mapping[str, str]) -> float:
    """The sum of a metric over the samples that carry these labels."""
    try:
        text = httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False).text
    except httpx.HTTPError as error:
        raise FaultError(f"{url}: {error!r}") from None
    return total(parsed(text), name, labels)
