"""Alerts on the rollout itself: what was taken back, or is about to be; what stands still. Pure."""

from collections.abc import Iterator
from typing import Final

from engine.rollout_config import LeaseSeconds
from gates.monitoring.recordings import SHARE
from gates.monitoring.rules import (
    DAY,
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
from gates.stages import Policy

#: Over this many soaks a flag stands still for no good reason.
SOAKS: Final = 2

_BACK: Final = "phase5 rollback --flag {{ $labels.flag }} --reason WHY"
_HELD: Final = f"max by (flag) ({of_engines('phase5_flag_held')})"


def rollout(limits: Limits, clock: Clock) -> Iterator[Alert]:
    """Alerts on rollbacks, leases, and flags that stand still."""
    yield from _rollbacks(clock)
    yield from _leases(limits.leases, clock)
    yield from _unsound()
    yield from _still(limits.policy, clock)


def _rollbacks(clock: Clock) -> Iterator[Alert]:
    yield Alert(
        name="Phase5RolledBack",
        expression=(
            f"sum by (flag, cause) (increase(phase5_guard_rollbacks_total[{clock(RECENTLY)}])) > 0"
        ),
        # It mended itself. What is left can wait; what did not mend is the next alert.
        severity=Severity.TICKET,
        summary="{{ $labels.flag }} was rolled back ({{ $labels.cause }})",
        description=(
            "{{ $value | humanize }} rollbacks in 15 minutes; 0 is usual. It happened by itself."
            " What is left is to find out why, and to mend the build."
        ),
    )
    yield Alert(
        name="Phase5RollbackUnconfirmed",
        expression="phase5_guard_open_rollbacks > 0",
        lasting=MINUTE,
        summary="{{ $value }} rollbacks are not everywhere yet",
        description=(
            "For 60 s; most are within 2 s. An engine may still serve the flag, or the"
            " store does not know of it."
        ),
        command="phase5 rollback --reason WHY",
    )
    braked = f"max by (flag, instance) ({of_engines('phase5_flag_braked')}) == 1"
    yield Alert(
        name="Phase5FlagBraked",
        expression=f"{SHARE} > 0 and on (flag) ({braked})",
        lasting=MINUTE,
        summary="an engine brakes {{ $labels.flag }}, and others serve {{ $value }} %",
        description=(
            "0 % on one, {{ $value }} % on others, for a minute: a rollback has not arrived, or an"
            " engine heard of no guard."
        ),
        command=_BACK,
    )


def _leases(leases: LeaseSeconds, clock: Clock) -> Iterator[Alert]:
    # A guard that sees enough renews every 15 s; half a lease is far beyond that, and time to act.
    soon = min(leases.model_dump().values()) / 2
    share = of_engines("phase5_flag_percentage")
    left = f"{of_engines('phase5_lease_expires_seconds')} - time()"
    yield Alert(
        name="Phase5LeaseEnding",
        # Of an engine that serves nothing it may end.
        expression=joined(
            f"{left} < {clock.seconds(soon)}",
            f"{left} > 0",
            f"on (instance) max by (instance) ({share}) > 0",
        ),
        summary="{{ $labels.instance }} takes its flags back in {{ $value | humanizeDuration }}",
        description=(
            f"Under {soon:g} s are left: a guard that sees enough of it would have renewed its"
            " lease long ago."
        ),
    )
    recently = f"max_over_time({share}[{clock(soon)}])"
    yield Alert(
        name="Phase5LeaseLapsed",
        # With nothing to serve, a lease is left to lapse.
        expression=joined(
            f"{of_engines('phase5_lease_lapsed')} == 1",
            f"on (instance) max by (instance) ({recently}) > 0",
        ),
        summary="the lease of {{ $labels.instance }} lapsed",
        description=(
            f"No guard renewed it for {leases.canary:g} s at canary, {leases.early:g} s at early,"
            f" {leases.mid:g} s at mid or full: its flags are at 0 %, or, at full, frozen."
        ),
        command="phase5 watch",
    )


def _unsound() -> Iterator[Alert]:
    yield Alert(
        name="Phase5EvidenceUnsound",
        expression="phase5_guard_evidence_sound == 0",
        lasting=5 * MINUTE,
        summary="{{ $labels.flag }} has had no evidence that counts for five minutes",
        description=(
            "{{ $value }} where 1 is sound: its leases are not renewed. The guard's log names the"
            " reason."
        ),
        command="phase5 doctor",
    )
    yield Alert(
        name="Phase5UnmanagedRaise",
        expression=(
            f"{of_engines('phase5_flag_percentage')} and on (instance, flag)"
            f" {of_engines('phase5_flag_unmanaged')} == 1"
        ),
        lasting=MINUTE,  # a delivery may be under way
        summary="{{ $labels.instance }} serves {{ $labels.flag }} to {{ $value }} %, by hand",
        description=(
            "{{ $value }} % is more than the rollout brought: nobody judges it, and it cannot be"
            " promoted."
        ),
        command=_BACK,
    )


def _still(policy: Policy, clock: Clock) -> Iterator[Alert]:
    yield Alert(
        name="Phase5RolloutHeld",
        expression=joined(
            f"min_over_time({_HELD}[{clock(DAY)}:{clock(HOUR)}]) == 1",
            f"max by (flag) ({of_engines('phase5_flag_held')} offset {clock(DAY)}) == 1",
        ),
        severity=Severity.TICKET,
        summary="{{ $labels.flag }} has been on hold for a day",
        description="24 hours and more. A hold that nobody remembers looks like a soak.",
        command="phase5 resume --flag {{ $labels.flag }} --reason WHY",
    )
    for stage in policy.stages.values():
        if stage.soak_hours:
            yield _stuck(stage.name, stage.percentage, stage.soak_hours, clock)


def _stuck(stage: str, percentage: float, soak_hours: float, clock: Clock) -> Alert:
    window = clock(SOAKS * soak_hours * HOUR)
    held = f"max_over_time({_HELD}[{window}:{clock(HOUR)}]) == 1"
    standing = joined(
        f"min_over_time({SHARE}[{window}]) == {percentage:g}",
        f"max_over_time({SHARE}[{window}]) == {percentage:g}",
        f"{SHARE} offset {window} == {percentage:g}",
    )
    return Alert(
        name="Phase5RolloutStuck",
        expression=f"{standing}\nunless {held}",
        severity=Severity.TICKET,
        labels={"stage": stage},
        summary=f"{{{{ $labels.flag }}}} has been at {stage} for twice its soak",
        description=(
            f"{{{{ $value }}}} % for {SOAKS * soak_hours:g} hours; its soak is {soak_hours:g}."
            " Minutes do not count, or a gate holds, or nobody asks for the next stage."
        ),
    )
