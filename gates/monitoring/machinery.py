"""Alerts on an engine itself. Pure."""

from collections.abc import Iterator
from typing import Final

from gates.ledger_fold import CRASH_MINUTES, CRASHES_OF_ALL, CRASHES_OF_ONE
from gates.monitoring.recordings import CRASHES, MEMORY
from gates.monitoring.rules import (
    HOUR,
    MINUTE,
    Alert,
    Clock,
    Limits,
    Severity,
    joined,
    of_engines,
)
from gates.monitoring.telemetry import RECENTLY

#: The criterion whose limit on memory is taken over.
LEAK: Final = "no_leak"

#: Over a short window an allocator's breath looks like a leak.
LEAKING: Final = 6 * HOUR


def machinery(limits: Limits, clock: Clock) -> Iterator[Alert]:
    """Alerts on crashes, remedies, the engine's own files, and memory.

    Raises:
        ValueError: `gates.yaml` has no limit for one of them.
    """
    yield _crashes()
    yield Alert(
        name="Phase5BreakerOpen",
        expression=f"{of_engines('phase5_remediation_breaker', state='open')} == 1",
        lasting=MINUTE,
        severity=Severity.TICKET,
        summary="{{ $labels.instance }} no longer uses {{ $labels.actuator }} as a remedy",
        description=(
            "1 for a minute, 0 is right: it was tried again and again and did not help, so a"
            " service level stays violated."
        ),
    )
    yield Alert(
        name="Phase5StateNotDurable",
        expression=f"{of_engines('phase5_rollout_state_durable')} == 0",
        lasting=MINUTE,
        summary="{{ $labels.instance }} cannot write its rollout state",
        description=(
            "{{ $value }} for a minute, 1 is right: brakes hold in memory, and a restart would"
            " forget them. Usually its disk is full or read-only."
        ),
        command="phase5 doctor",
    )
    refused = of_engines("phase5_reloads_total", outcome="refused")
    yield Alert(
        name="Phase5ReloadRefused",
        expression=f"increase({refused}[{clock(RECENTLY)}]) > 0",
        severity=Severity.TICKET,
        summary="{{ $labels.instance }} refused a configuration",
        description=(
            "{{ $value | humanize }} times in 15 minutes: it serves on with the one before; its"
            " log names line and key."
        ),
        command="phase5 doctor",
    )
    yield _leak(limits, clock)


def _crashes() -> Alert:
    fleet = f'label_replace(sum({CRASHES}), "instance", "the fleet", "", "")'
    return Alert(
        name="Phase5CrashLoop",
        # `increase` guesses at the edges of its window: what is counted as 2 may come out as 1.9.
        expression=(f"{CRASHES} > {CRASHES_OF_ONE - 0.5:g}\nor {fleet} > {CRASHES_OF_ALL - 0.5:g}"),
        summary="{{ $labels.instance }} crashed {{ $value | humanize }} times",
        description=(
            f"{CRASHES_OF_ONE} crashes of an engine in {CRASH_MINUTES} minutes, or"
            f" {CRASHES_OF_ALL} in the fleet, take every flag back, whoever is to blame."
        ),
        command="phase5 rollback --reason WHY",
    )


def _leak(limits: Limits, clock: Clock) -> Alert:
    limit, window = limits.of(LEAK), clock(LEAKING)
    fewest = limits.policy.criteria[LEAK].min_samples
    admitted = of_engines("phase5_streams_admitted_total")
    requests = f"sum by (instance) (increase({admitted}[{window}]))"
    grown = f"deriv({MEMORY}[{window}]) * {clock.seconds(LEAKING)}"
    old = f"time() - {of_engines('phase5_start_time_seconds')} > {clock.seconds(LEAKING)}"
    return Alert(
        name="Phase5MemoryGrows",
        # One that has just begun warms up: its slope is not that of a leak.
        expression=joined(
            f"{grown} / on (instance) group_left () {requests} > {limit:g}",
            f"on (instance) {requests} >= {fewest}",
            f"on (instance) {old}",
        ),
        lasting=HOUR,
        severity=Severity.TICKET,
        summary="the {{ $labels.process }} of {{ $labels.instance }} keeps memory of each request",
        description=(
            f"{{{{ $value | humanize1024 }}}}B a request over six hours; the limit is"
            f" {limit / 1024:g} KiB, over {fewest} requests or more."
        ),
    )
