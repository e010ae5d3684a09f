"""The rollout: where each flag stands, what is known, whether the guard lives, what may lapse."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from gates.criteria import Outcome
from gates.scene import SILENT_AFTER
from gates.stages import STAGES, UNMANAGED, Policy
from pytest_phase5.dashboards.board import Row, board
from pytest_phase5.dashboards.limits import least, limit, most
from pytest_phase5.dashboards.panels import (
    ACT,
    FINE,
    IDLE,
    WATCH,
    About,
    Panel,
    Query,
    graph,
    number,
    states,
)
from pytest_phase5.dashboards.promql import SPAN, increase, numbered, of, total

_STAGES: Final = dict(
    zip(
        (*STAGES, UNMANAGED),
        (IDLE, "light-blue", "blue", "dark-blue", FINE, ACT),
        strict=True,
    )
)

_OUTCOMES: Final = {
    Outcome.PASS: FINE,
    Outcome.INCONCLUSIVE: "blue",
    Outcome.NO_DATA: IDLE,
    Outcome.INVALID: WATCH,
    Outcome.FAIL: ACT,
}

_LIMIT: Final = "phase5_guard_criterion_limit"


def rollout(policy: Policy) -> model.Dashboard:
    """The rollout as store, guard and engines tell of it."""
    return board(
        "phase5-rollout",
        "phase5 / Rollout",
        "May the next stage be entered, and is anybody watching? `phase5 status` says it in words.",
        (
            Row("Where each flag stands", _flags()),
            Row("Evidence", _evidence()),
            Row("The guard", _guard(policy)),
            Row("Leases and configuration", _leases()),
        ),
    )


def _flags() -> list[Panel]:
    soak = "phase5_guard_soak_minutes / (phase5_guard_soak_demanded_minutes > 0)"
    return [
        states(
            About(
                title="Stage",
                text="In the store, as the guard last read it. unmanaged: raised by hand; it is "
                "never promoted. `phase5 rollback --flag` first, then through the doors.",
                span=12,
            ),
            Query(numbered("phase5_guard_flag_stage", "stage", _STAGES, by="flag"), "{{flag}}"),
            colours=_STAGES,
        ),
        graph(
            About(
                title="Share",
                text="What the store gives, and the most and the least that engines serve. Apart "
                "for longer than a poll: an engine is braked, away, or did not get the state.",
                unit="percent",
                span=12,
            ),
            Query("max by (flag) (phase5_guard_flag_percentage)", "{{flag}} store"),
            Query(f"max by (flag) ({of('phase5_flag_percentage')})", "{{flag}} most"),
            Query(f"min by (flag) ({of('phase5_flag_percentage')})", "{{flag}} least"),
        ),
        graph(
            About(
                title="Soak",
                text="Minutes with valid evidence, of those that the stage must last. Standing "
                "still: minutes are invalid (below), or the flag is held.",
                unit="percentunit",
            ),
            Query(f"max by (flag) ({soak})", "{{flag}}"),
            line=least(1),
        ),
        graph(
            About(
                title="Braked, raised by hand, on hold",
                text="Engines on which it is so. Braked: `phase5 status` says why and what lifts "
                "it. On hold: `phase5 resume` when the reason is gone.",
            ),
            Query(total("phase5_flag_braked", by=["flag"]), "{{flag}} braked"),
            Query(total("phase5_flag_unmanaged", by=["flag"]), "{{flag}} by hand"),
            Query(total("phase5_flag_held", by=["flag"]), "{{flag}} on hold"),
        ),
        graph(
            About(
                title="Epochs",
                text="Of the store, and the oldest among the engines. Evidence counts for one "
                "epoch only; an engine behind makes every minute invalid.",
            ),
            Query("max by (flag) (phase5_guard_flag_epoch)", "{{flag}} store"),
            Query(f"min by (flag) ({of('phase5_flag_epoch')})", "{{flag}} engines"),
        ),
    ]


def _evidence() -> list[Panel]:
    bounds = f"phase5_guard_criterion_bound / ignoring (side) group_left {_LIMIT}"
    outcome = numbered("phase5_guard_criterion_outcome", "outcome", _OUTCOMES, by="flag, criterion")
    return [
        states(
            About(
                title="Live criteria",
                text="How each stands on the traffic of its flag. fail: the guard acts where the "
                "treatment is to blame, and tells otherwise. `phase5 status` has the reasons.",
                span=24,
            ),
            Query(outcome, "{{flag}} {{criterion}}"),
            colours={name.value: colour for name, colour in _OUTCOMES.items()},
            height=10,
        ),
        graph(
            About(
                title="Evidence for a pass",
                text="The logarithm of what speaks for it, of what a pass needs: at 1 it is met. "
                "Level for hours: the truth is near the limit, or too few requests come.",
                unit="percentunit",
            ),
            Query("phase5_guard_criterion_evidence_ratio", "{{flag}} {{criterion}}"),
            line=least(1),
        ),
        graph(
            About(
                title="Bounds against the limit",
                text="Ends of the interval, of the limit. Both under 1: met. Both over 1: broken. "
                "1 between them: nobody can tell yet.",
                unit="percentunit",
            ),
            Query(bounds, "{{flag}} {{criterion}} {{side}}"),
            line=most(1),
        ),
        graph(
            About(
                title="Estimates against the limit",
                text="As measured, of the limit or margin. An estimate under 1 alone is no pass.",
                unit="percentunit",
            ),
            Query(f"phase5_guard_criterion_estimate / {_LIMIT}", "{{flag}} {{criterion}}"),
            line=most(1),
        ),
        graph(
            About(
                title="Minutes written",
                text="Into the ledgers, by whether they count. valid=no rises: the reason is in "
                "the ledger's rows, and in `phase5 status`; such minutes do not soak.",
                span=12,
            ),
            Query("sum by (flag, valid) (phase5_guard_ledger_minutes_total)", "{{flag}} {{valid}}"),
        ),
        states(
            About(
                title="Sound enough to renew leases",
                text="no: leases run out and engines brake. The reason was told, and stands in the "
                "guard's log: Prometheus, an engine, or an epoch.",
                span=12,
            ),
            Query("min by (flag) (phase5_guard_evidence_sound)", "{{flag}}"),
            colours={"no": ACT, "yes": FINE},
        ),
    ]


def _guard(policy: Policy) -> list[Panel]:
    took = f"sum by (le) (increase(phase5_guard_rollback_seconds_bucket[{SPAN}]))"
    return [
        number(
            About(
                title="Heartbeat",
                text="Since the guard's last poll. Red: it is dead or stuck; leases run out. Start "
                "`phase5 watch` again, it goes on where it was.",
                unit="s",
                span=6,
            ),
            Query("time() - max(phase5_guard_last_poll_timestamp_seconds)", "age"),
            line=most(SILENT_AFTER.total_seconds()),
        ),
        number(
            About(
                title="Concerns",
                text="What somebody must look at now. Each was told, and is in the guard's log; "
                "`phase5 status` names the next command.",
                span=6,
            ),
            Query("max(phase5_guard_concerns)", "concerns"),
            line=most(1),
        ),
        number(
            About(
                title="Rollbacks under way",
                text="Not everywhere yet: an engine does not confirm 0 %, or the store does not "
                "know. `phase5 status` names which; the guard goes on trying.",
                span=6,
            ),
            Query("max(phase5_guard_open_rollbacks)", "open"),
            line=most(1),
        ),
        number(
            About(
                title="Messages not taken",
                text="Since the guard began. Any: nobody may have heard of a rollback. Look at "
                "rollout.webhook, and what it answers in the guard's log.",
                span=6,
            ),
            Query("sum(phase5_guard_notifications_failed_total)", "not taken"),
            line=most(1),
        ),
        graph(
            About(
                title="Rollbacks",
                text="Since the guard began, by flag and cause. verdict: its candidate may not "
                "come back; read the verdict (`phase5 gate verify`) before the next try.",
            ),
            Query("sum by (flag, cause) (phase5_guard_rollbacks_total)", "{{flag}} {{cause}}"),
        ),
        graph(
            About(
                title="Time of rollbacks",
                text="P95, from the decision until every engine served 0 % and the store knew. "
                "Dashed: the limit of drill.",
                unit="s",
            ),
            Query(f"histogram_quantile(0.95, {took})", "P95"),
            line=limit(policy, "drill"),
        ),
        graph(
            About(
                title="Polls and renewals",
                text="A minute. Renewals stop while evidence is unsound; polls with a concern end "
                "as concern.",
            ),
            Query(f"60 * sum by (outcome) (rate(phase5_guard_polls_total[{SPAN}]))", "{{outcome}}"),
            Query(f"60 * sum(rate(phase5_guard_lease_renewals_total[{SPAN}]))", "renewals"),
        ),
    ]


def _leases() -> list[Panel]:
    return [
        graph(
            About(
                title="Lease left",
                text="Of each engine that serves a stage. Falling to 0: the guard does not reach "
                "it, or sees nothing sound; at 0 the engine brakes itself.",
                unit="s",
            ),
            Query(f"{of('phase5_lease_expires_seconds')} - time()", "{{instance}}"),
            line=least(SILENT_AFTER.total_seconds()),
        ),
        graph(
            About(
                title="Lapsed leases, state that cannot be kept",
                text="Engines. Lapsed: braked by itself, or frozen at full. Not kept: a brake "
                "would not outlive a restart; free its disk, or mend its rights.",
            ),
            Query(of("phase5_lease_lapsed"), "{{instance}} lapsed"),
            Query(f"1 - {of('phase5_rollout_state_durable')}", "{{instance}} not kept"),
        ),
        graph(
            About(
                title="Generations and reloads",
                text="Of the store and of each engine; apart for longer than a poll, a raise waits "
                "or an engine is away. Refused reloads: read the engine's log.",
            ),
            Query("max(phase5_guard_generation)", "store"),
            Query(of("phase5_generation"), "{{instance}}"),
            Query(increase("phase5_reloads_total", by=["outcome"]), "reload {{outcome}}"),
        ),
    ]
