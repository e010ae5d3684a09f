"""The adaptive governor at work: what it is fed with, what it decides, what it shows.

Decisions are `core.governor` (how many streams), `core.guard` (which ones). The guard sees
every stream, governed or not, so that it knows the load when a block of the governor begins.
"""

import logging
from collections.abc import Iterator
from math import nan
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.config import Config
from engine.core.admission import CAUSES
from engine.core.governor import AdaptiveGovernor
from engine.core.guard import GovernorGuard
from engine.core.seeker import Seeker
from engine.core.stability import TROUBLES
from engine.core.tenants import TenantBudgets
from engine.runtime.messages import Prefill

log = logging.getLogger("engine.server.governor")

#: The governor's interval: some tens of streams at the rates that one machine serves, which
#: a 95th percentile needs.
INTERVAL_SECONDS: Final = 5.0


class Governance(Collector):
    """Owns the governor of the block that runs, and the guard of the admission queue."""

    def __init__(self, config: Config) -> None:
        self._config = config
        given = config.governor
        self._target = given.target_ttft_ms / 1000
        self.guard = GovernorGuard(
            self._target,
            TenantBudgets(
                given.tenant.burst_share, given.tenant.sustained_share, given.tenant.decay_seconds
            ),
        )
        self._governor: AdaptiveGovernor | None = None
        self._seeker: Seeker | None = None
        self._fewer = False  # whether the seeker lets fewer run than the governor would
        self.trouble: str | None = None  #: why it is in safe mode
        self._sheds = dict.fromkeys(CAUSES, 0)
        self._entries = dict.fromkeys(TROUBLES, 0)

    @property
    def target_seconds(self) -> float:
        """The time to first token that governed streams are to keep."""
        return self._target

    @property
    def mode(self) -> str:
        """`off`, `steering`, or `safe`."""
        if self._governor is None:
            return "off"
        return "steering" if self.trouble is None else "safe"

    def stop(self) -> None:
        """The block is over: the configuration's limit serves."""
        self._governor = self._seeker = self.trouble = None

    def limit(self, current: int, now: float) -> int:
        """How many streams may run at once; a block starts at the `current` limit."""
        if self._governor is None:
            self._governor = self._new_governor(current)
        allowed = self._governor.limit(now)
        self._notice(self._governor.trouble, allowed)
        if self.trouble is not None:
            self._seeker, self._fewer = None, False  # in safe mode nothing is tried
            return allowed
        if self._seeker is None:
            self._seeker = Seeker(self._low, INTERVAL_SECONDS)
        enough = self._seeker.limit(allowed, now)
        self._fewer = enough < allowed
        return enough

    def first_text(self, uid: int, seconds: float, now: float, *, at_limit: bool) -> None:
        """A stream has its first text, so long after it got its place."""
        self.guard.first_text(uid, seconds, now)
        if self._seeker is not None:
            self._seeker.first_text(self.guard.running)
        if self._governor is not None:
            # Where fewer are enough, a good TTFT says nothing about a higher limit.
            self._governor.observe(seconds, now, at_limit=at_limit and not self._fewer)

    def prefilled(self, prefill: Prefill, cached: int, now: float) -> None:
        """A chunk of a prompt was read; `cached` tokens of it were not, for they were kept."""
        self.guard.tokens.progress(prefill.uid, prefill.total - prefill.done, now, cached)

    def shed(self, cause: str, streams: int = 1) -> None:
        """Streams were turned away, for one of `CAUSES`."""
        self._sheds[cause] += streams
        if self._seeker is not None:
            self._seeker.shed(streams)

    def collect(self) -> Iterator[Metric]:
        """Read at the scrape."""
        guard, tokens = self.guard, self.guard.tokens
        mode = GaugeMetricFamily("phase5_governor_mode", "What it does", labels=("mode",))
        for name in ("off", "steering", "safe"):
            mode.add_metric((name,), self.mode == name)
        yield mode
        for name, text, value in (
            ("tokens_per_second", "Prompt tokens read a second", tokens.tokens_per_second or 0.0),
            ("unread_tokens", "Prompt tokens to read of streams with a slot", tokens.outstanding),
        ):
            yield GaugeMetricFamily(f"phase5_prefill_{name}", text, value=value)
        governor = self._governor
        yield GaugeMetricFamily(
            "phase5_governor_ttft_p95_seconds",
            "P95 from slot to first token that the governor saw last",
            value=nan if governor is None or governor.ttft_p95_s is None else governor.ttft_p95_s,
        )
        enough = None if self._seeker is None else self._seeker.enough
        yield GaugeMetricFamily(
            "phase5_governor_enough_slots",
            "Slots that do as much as more would, as far as was tried",
            value=nan if enough is None else enough,
        )
        yield GaugeMetricFamily(
            "phase5_slot_hold_seconds",
            "How long a stream keeps its slot",
            value=guard.forecast.hold_seconds or 0.0,
        )
        yield GaugeMetricFamily(
            "phase5_tenants", "Tenants that are remembered", value=len(guard.tenants)
        )
        yield from _counters("phase5_streams_shed", "Streams turned away", "cause", self._sheds)
        yield from _counters(
            "phase5_governor_safe_mode_entries", "Falls into safe mode", "trouble", self._entries
        )

    def _notice(self, trouble: str | None, limit: int) -> None:
        """Log and count what changed between steering and safe mode."""
        if trouble == self.trouble:
            return
        if trouble is not None:
            self._entries[trouble] += 1
            log.warning("governor: safe mode at limit %d: the loop is %s", limit, trouble)
        else:
            log.info("governor: steering again from limit %d: TTFT has been steady", limit)
        self.trouble = trouble

    @property
    def _high(self) -> int:
        return min(self._config.governor.max_limit, self._config.runtime.max_rows)

    @property
    def _low(self) -> int:
        return min(self._config.governor.min_limit, self._high)

    def _new_governor(self, current: int) -> AdaptiveGovernor:
        bounds, low, high = self._config.governor, self._low, self._high
        return AdaptiveGovernor(
            target_ttft_s=self._target,
            min_limit=low,
            max_limit=high,
            start_limit=min(max(current, low), high),
            interval_s=INTERVAL_SECONDS,
            safe_limit=self._config.admission.limit,
            calm_s=bounds.calm_seconds,
        )


def _counters(name: str, text: str, label: str, counts: dict[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    yield family
