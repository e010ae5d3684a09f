"""What somebody has to hear of. Pure.

The guard judges flags and rolls them back by itself, whether anybody hears an alert or not. Alerts
say what it cannot mend, what it did, and when it is not there. Where data lacks, an expression is
empty and no alert can fire: so absence has alerts of its own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.rollout_config import LeaseSeconds
from gates.monitoring.recordings import INTERVAL, answered, errors
from gates.monitoring.rules import (
    DAY,
    ENGINES,
    GUARD,
    HOUR,
    MINUTE,
    Alert,
    Clock,
    Group,
    Severity,
    joined,
)
from gates.scene import SILENT_AFTER
from gates.stages import OFF, Policy

#: The criteria whose limits alerts take over.
ERROR_RATE: Final = "live_error_rate"
TTFT: Final = "live_ttft_p95"
MEMORY: Final = "no_leak"

_BACK: Final = "phase5 rollback --flag {{ $labels.flag }} --reason WHY"
_BACK_ALL: Final = "phase5 rollback --reason WHY"
_WATCH: Final = "phase5 watch"
_DOCTOR: Final = "phase5 doctor"


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast an error budget is spent, over two windows that must both show it.

    Rates, windows and who hears of them are those of the Site Reliability Workbook, chapter 5: a
    rate of 14.4 spends 2 % of a month's budget in an hour, 6 spends 5 % in six hours, 3 spends
    a tenth in a day, 1 in three days.
    """

    rate: float
    long: float  #: seconds
    short: float  #: seconds; ends the alert soon after its cause
    severity: Severity


BURNS: Final = (
    Burn(14.4, HOUR, 5 * MINUTE, Severity.PAGE),
    Burn(6, 6 * HOUR, 30 * MINUTE, Severity.PAGE),
    Burn(3, DAY, 2 * HOUR, Severity.TICKET),
    Burn(1, 3 * DAY, 6 * HOUR, Severity.TICKET),
)

#: Errors that must be behind a burn: with fewer, one unlucky client at night would wake somebody.
FEWEST_ERRORS: Final = 3

#: A crash loop, as `live_crashes` has it: two restarts in ten minutes.
CRASHES: Final = 2
CRASHES_WITHIN: Final = 10 * MINUTE

#: Over this many soaks a flag stands still for no good reason.
SOAKS: Final = 2

#: Long enough for a scrape that failed and one that was late.
_TWO_SCRAPES: Final = 2 * INTERVAL + 15

#: What happened once is told until somebody can have seen it.
_RECENTLY: Final = 15 * MINUTE

#: Over a short window an allocator's breath looks like a leak.
_LEAKING: Final = 6 * HOUR


def alerts(policy: Policy, leases: LeaseSeconds, clock: Clock) -> Iterator[Group]:
    """All groups of alerts.

    Raises:
        KeyError: `gates.yaml` has no criterion whose limit an alert takes over.
    """
    yield Group("phase5-service", INTERVAL, tuple(_service(policy, clock)))
    yield Group("phase5-telemetry", INTERVAL, tuple(_telemetry(clock)))
    yield Group("phase5-rollout-alerts", INTERVAL, tuple(_rollout(policy, leases, clock)))
    yield Group("phase5-engine", INTERVAL, tuple(_engine(policy, clock)))


def fewest(burn: Burn, limit: float) -> int:
    """Requests in the long window below which its rate says nothing."""
    return math.ceil(FEWEST_ERRORS / (burn.rate * limit))


def _limit(policy: Policy, name: str) -> float:
    limit = policy.criteria[name].limit
    if limit is None:
        raise KeyError(f"criterion {name!r} of gates.yaml has no limit")
    return limit


def _service(policy: Policy, clock: Clock) -> Iterator[Alert]:
    limit = _limit(policy, ERROR_RATE)
    for severity, name in (
        (Severity.PAGE, "Phase5ErrorBudgetBurnsFast"),
        (Severity.TICKET, "Phase5ErrorBudgetBurnsSlowly"),
    ):
        burns = [burn for burn in BURNS if burn.severity is severity]
        yield Alert(
            name=name,
            expression="\nor ".join(_burning(burn, limit) for burn in burns),
            severity=severity,
            summary="{{ $value | humanizePercentage }} of the answers are errors",
            description=(
                f"The limit is {limit:.2%}. Both arms count here: the guard takes back a flag that"
                " is to blame, and `phase5 status` says whether it did."
            ),
            command=_BACK_ALL if severity is Severity.PAGE else "phase5 status",
        )
    yield _late(policy, clock)


def _burning(burn: Burn, limit: float) -> str:
    over = f"> {burn.rate * limit:g}"
    return "({})".format(
        joined(
            f"{errors(burn.long)} {over}",
            f"{errors(burn.short)} {over}",
            f"{answered(burn.long)} >= {fewest(burn, limit)}",
        )
    )


def _late(policy: Policy, clock: Clock) -> Alert:
    criterion = policy.criteria[TTFT]
    limit, allowed = _limit(policy, TTFT), 1 - (criterion.quantile or 0)
    buckets = f'phase5_time_to_first_token_seconds_bucket{{job="{ENGINES}"'

    def share(window: float) -> str:
        within = f'sum(rate({buckets},le="{limit}"}}[{clock(window)}]))'
        return f'1 - {within} / sum(rate({buckets},le="+Inf"}}[{clock(window)}]))'

    volume = f'sum(increase({buckets},le="+Inf"}}[{clock(30 * MINUTE)}]))'
    return Alert(
        name="Phase5FirstTokensLate",
        # Exact, since the limit is an edge of the buckets; a P95 between edges would be a guess.
        expression=joined(
            f"({share(30 * MINUTE)}) > {allowed:g}",
            f"({share(5 * MINUTE)}) > {allowed:g}",
            f"{volume} >= {math.ceil(FEWEST_ERRORS / allowed)}",
        ),
        severity=Severity.TICKET,
        summary="{{ $value | humanizePercentage }} of the first tokens take too long",
        description=(
            f"At most {allowed:.0%} may take longer than {1000 * limit:g} ms. Both arms count"
            " here; the guard compares them."
        ),
    )


def _telemetry(clock: Clock) -> Iterator[Alert]:
    yield Alert(
        name="Phase5EngineDown",
        expression=f'up{{job="{ENGINES}"}} == 0',
        lasting=_TWO_SCRAPES,
        summary="{{ $labels.instance }} is not scraped",
        description=(
            "Whether it serves, and which flags, is unknown; its minutes do not count. Restart"
            " it, or take it out of the load balancer."
        ),
    )
    yield Alert(
        name="Phase5TelemetryAbsent",
        expression=f'absent(phase5_build_info{{job="{ENGINES}"}})',
        lasting=_TWO_SCRAPES,
        summary="no engine is scraped at all",
        description=(
            "Every other alert on engines is blind. The guard reads the engines itself; engines"
            " that hear of no guard take their flags back."
        ),
        command=_DOCTOR,
    )
    yield Alert(
        name="Phase5GuardAbsent",
        expression=f'absent(phase5_guard_last_poll_timestamp_seconds{{job="{GUARD}"}})',
        lasting=_TWO_SCRAPES,
        summary="no guard is scraped",
        description=(
            "Nobody is known to renew leases; engines take their flags back when they lapse."
        ),
        command=_WATCH,
    )
    silent = SILENT_AFTER.total_seconds()
    last = f'phase5_guard_last_poll_timestamp_seconds{{job="{GUARD}"}}'
    yield Alert(
        name="Phase5GuardSilent",
        expression=f"time() - max({last}) > {clock.seconds(silent)}",
        summary="the guard ended no poll for {{ $value | humanizeDuration }}",
        description=f"It polls every 15 s; {silent:g} s are a standstill. Leases run on meanwhile.",
        command=_WATCH,
    )
    yield Alert(
        name="Phase5NotificationsFail",
        expression=f"increase(phase5_guard_notifications_failed_total[{clock(_RECENTLY)}]) > 0",
        severity=Severity.TICKET,
        summary="a receiver does not take what the guard tells",
        description="People learn of a rollback from these alerts only, until that is mended.",
        command=_DOCTOR,
    )


def _rollout(policy: Policy, leases: LeaseSeconds, clock: Clock) -> Iterator[Alert]:
    rollbacks = f"phase5_guard_rollbacks_total[{clock(_RECENTLY)}]"
    yield Alert(
        name="Phase5RolledBack",
        expression=f"sum by (flag, cause) (increase({rollbacks})) > 0",
        summary="{{ $labels.flag }} was rolled back ({{ $labels.cause }})",
        description=(
            "It happened by itself. What is left is to find out why, and to mend the build."
        ),
    )
    yield Alert(
        name="Phase5RollbackUnconfirmed",
        expression="phase5_guard_open_rollbacks > 0",
        lasting=MINUTE,
        summary="{{ $value }} rollbacks are not everywhere yet",
        description="An engine may still serve the flag, or the store does not know of it.",
        command=_BACK_ALL,
    )
    yield Alert(
        name="Phase5FlagBraked",
        expression="max by (flag, instance) (phase5_flag_braked) == 1"
        " and on (flag) phase5:flag_percentage:max > 0",
        lasting=MINUTE,
        summary="{{ $labels.instance }} brakes {{ $labels.flag }}, and others serve it",
        description="Engines disagree: a rollback has not arrived, or an engine heard of no guard.",
        command=_BACK,
    )
    yield Alert(
        name="Phase5LeaseLapsed",
        expression="phase5_lease_lapsed == 1",
        summary="the lease of {{ $labels.instance }} lapsed",
        description=(
            "It heard of no guard for too long: its flags are at 0 %, or, at full, frozen as they"
            " stand."
        ),
        command=_WATCH,
    )
    soon = min(leases.model_dump().values()) / 2
    yield Alert(
        name="Phase5LeaseEnding",
        expression=f"phase5_lease_expires_seconds - time() < {clock.seconds(soon)}",
        lasting=MINUTE,
        summary="{{ $labels.instance }} takes its flags back in {{ $value | humanizeDuration }}",
        description=(
            f"A guard that sees enough of it would have renewed its lease {soon:g} s ago at the"
            " latest."
        ),
    )
    yield Alert(
        name="Phase5EvidenceUnsound",
        expression="phase5_guard_evidence_sound == 0",
        lasting=5 * MINUTE,
        summary="{{ $labels.flag }} has had no evidence that counts for five minutes",
        description="Its leases are not renewed. The guard's log names the reason.",
        command=_DOCTOR,
    )
    yield Alert(
        name="Phase5UnmanagedRaise",
        expression="phase5_flag_unmanaged == 1",
        summary="{{ $labels.instance }} serves {{ $labels.flag }}, raised by hand",
        description="Nobody judges it, and it cannot be promoted.",
        command=_BACK,
    )
    held, day = "max by (flag) (phase5_flag_held", clock(DAY)
    yield Alert(
        name="Phase5RolloutHeld",
        expression=joined(
            f"min_over_time({held})[{day}:{clock(HOUR)}]) == 1", f"{held} offset {day}) == 1"
        ),
        severity=Severity.TICKET,
        summary="{{ $labels.flag }} has been on hold for a day",
        description="A hold that nobody remembers looks like a soak.",
        command="phase5 resume --flag {{ $labels.flag }} --reason WHY",
    )
    yield from _stuck(policy, clock)


def _stuck(policy: Policy, clock: Clock) -> Iterator[Alert]:
    """A stage that lasts far longer than its soak asks for."""
    share = "phase5:flag_percentage:max"
    lasting = []
    for stage in policy.stages.values():
        if not stage.soak_hours or stage.name == OFF:
            continue
        window = clock(SOAKS * stage.soak_hours * HOUR)
        lasting.append(
            "({})".format(
                joined(
                    f"min_over_time({share}[{window}]) == {stage.percentage:g}",
                    f"max_over_time({share}[{window}]) == {stage.percentage:g}",
                    f"{share} offset {window} == {stage.percentage:g}",
                )
            )
        )
    if lasting:
        yield Alert(
            name="Phase5RolloutStuck",
            expression="\nor ".join(lasting),
            severity=Severity.TICKET,
            summary="{{ $labels.flag }} has served {{ $value }} % for twice its soak",
            description=(
                "Either minutes do not count, or a gate holds, or nobody asks for the next stage."
            ),
        )


def _engine(policy: Policy, clock: Clock) -> Iterator[Alert]:
    restarts = f"increase(phase5_runtime_restarts_total[{clock(CRASHES_WITHIN)}])"
    yield Alert(
        name="Phase5RuntimeCrashLoop",
        # `increase` extrapolates: what is counted as 2 may come out as 1.9.
        expression=f"{restarts} > {CRASHES - 0.5:g}",
        summary="{{ $labels.instance }} restarted its runtime over and over",
        description=f"{CRASHES} restarts in ten minutes take every flag back, whoever is to blame.",
        command=_BACK_ALL,
    )
    yield Alert(
        name="Phase5BreakerOpen",
        expression='phase5_remediation_breaker{state="open"} == 1',
        lasting=MINUTE,
        severity=Severity.TICKET,
        summary="{{ $labels.instance }} no longer uses {{ $labels.actuator }} as a remedy",
        description="It was tried and did not help, so a service level stays violated.",
    )
    yield Alert(
        name="Phase5StateNotDurable",
        expression="phase5_rollout_state_durable == 0",
        lasting=MINUTE,
        summary="{{ $labels.instance }} cannot write its rollout state",
        description=(
            "Brakes hold in memory; a restart would forget them. Usually its disk is full or"
            " read-only."
        ),
        command=_DOCTOR,
    )
    yield Alert(
        name="Phase5ReloadRefused",
        expression=f'increase(phase5_reloads_total{{outcome="refused"}}[{clock(_RECENTLY)}]) > 0',
        severity=Severity.TICKET,
        summary="{{ $labels.instance }} refused a configuration",
        description="It serves on with the one before; its log names line and key.",
        command=_DOCTOR,
    )
    yield _leak(policy, clock)


def _leak(policy: Policy, clock: Clock) -> Alert:
    criterion = policy.criteria[MEMORY]
    limit, window = _limit(policy, MEMORY), clock(_LEAKING)
    requests = f'sum by (instance) (increase(phase5_requests_total{{job="{ENGINES}"}}[{window}]))'

    def each(process: str, metric: str) -> str:
        """Bytes a request, of one of an engine's processes."""
        slope = f'deriv({metric}{{job="{ENGINES}"}}[{window}])'
        growth = f"{slope} * {clock.seconds(_LEAKING)} / on (instance) group_left () {requests}"
        return f'label_replace({growth}, "process", "{process}", "", "")'

    front, runtime = "process_resident_memory_bytes", "phase5_memory_bytes"
    either = f"({each('front end', front)}) or ({each('runtime', runtime)})"
    return Alert(
        name="Phase5MemoryGrows",
        expression=f"({either}) > {limit:g}\n"
        f"and on (instance) {requests} >= {criterion.min_samples}",
        lasting=HOUR,
        severity=Severity.TICKET,
        summary="the {{ $labels.process }} of {{ $labels.instance }} keeps memory of each request",
        description=(
            "{{ $value | humanize1024 }}B a request over six hours; the limit is"
            f" {limit / 1024:g} KiB a request, over {criterion.min_samples} requests or more."
        ),
    )
