"""Alerts on what is not seen. Pure.

Where data lacks, an expression is empty and no alert can fire: so absence has alerts of its own.
"""

from collections.abc import Iterator
from typing import Final

from gates.monitoring.rules import (
    ENGINES,
    GUARD,
    INTERVAL,
    MINUTE,
    Alert,
    Clock,
    Severity,
    of_engines,
)
from gates.scene import SILENT_AFTER

#: Long enough for a scrape that failed and one that was late.
SCRAPES: Final = 3 * INTERVAL

#: What happened once is told until somebody can have seen it.
RECENTLY: Final = 15 * MINUTE

_HEARTBEAT: Final = f'phase5_guard_last_poll_timestamp_seconds{{job="{GUARD}"}}'
_UNKNOWN: Final = "what it serves is unknown, and its minutes do not count, so leases run out."


def telemetry(clock: Clock) -> Iterator[Alert]:
    """Alerts on engines and guards that are not heard of."""
    yield from _engines()
    yield from _guard(clock)


def _engines() -> Iterator[Alert]:
    yield Alert(
        name="Phase5EngineDown",
        expression=f'up{{job="{ENGINES}"}} == 0',
        lasting=SCRAPES,
        summary="{{ $labels.instance }} does not answer",
        description=f"For {SCRAPES:g} s, three scrapes: {_UNKNOWN}",
    )
    yield Alert(
        name="Phase5TelemetryStale",
        expression=(
            f'up{{job="{ENGINES}"}} == 1 unless on (instance) {of_engines("phase5_requests_total")}'
        ),
        lasting=SCRAPES,
        summary="{{ $labels.instance }} answers, and tells nothing of an engine",
        description=f"No phase5_requests_total in it for {SCRAPES:g} s: {_UNKNOWN}",
        command="phase5 doctor",
    )
    yield Alert(
        name="Phase5TelemetryAbsent",
        expression=f"absent({of_engines('phase5_requests_total')})",
        lasting=SCRAPES,
        summary="no engine is scraped at all",
        description=(
            f"0 engines for {SCRAPES:g} s: every other alert on them is blind. The guard reads the"
            " engines itself; engines that hear of no guard take their flags back."
        ),
        command="phase5 doctor",
    )


def _guard(clock: Clock) -> Iterator[Alert]:
    silent = SILENT_AFTER.total_seconds()
    yield Alert(
        name="Phase5GuardAbsent",
        expression=f"absent({_HEARTBEAT})",
        lasting=SCRAPES,
        summary="no guard is scraped",
        description=(
            f"0 guards for {SCRAPES:g} s: nobody is known to renew leases, and engines take their"
            " flags back when they lapse."
        ),
        command="phase5 watch",
    )
    yield Alert(
        name="Phase5GuardSilent",
        expression=f"time() - max({_HEARTBEAT}) > {clock.seconds(silent)}",
        summary="the guard ended no poll for {{ $value | humanizeDuration }}",
        description=f"More than {silent:g} s are a standstill. Leases run on meanwhile.",
        command="phase5 watch",
    )
    yield Alert(
        name="Phase5NotificationsFail",
        expression=f"increase(phase5_guard_notifications_failed_total[{clock(RECENTLY)}]) > 0",
        severity=Severity.TICKET,
        summary="a receiver does not take what the guard tells",
        description=(
            "{{ $value | humanize }} times in 15 minutes; 0 is right. People learn of a rollback"
            " from these alerts only, until that is mended."
        ),
        command="phase5 doctor",
    )
