"""Chaos and load: what comes in, what breaks, and how it is got over."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from engine.core.pressure import Rung
from engine.runtime.interface import ReplicaState
from gates.stages import Policy
from pytest_phase5.dashboards.board import Row, board
from pytest_phase5.dashboards.features import breakers, governor_mode
from pytest_phase5.dashboards.limits import limit, most
from pytest_phase5.dashboards.panels import ACT, FINE, WATCH, About, Panel, Query, graph, states
from pytest_phase5.dashboards.promql import (
    CHOSEN,
    REQUESTS,
    TTFT,
    error_rate,
    increase,
    mean,
    numbered,
    of,
    quantile,
    rate,
    total,
)

_RUNGS: Final = dict(zip(Rung, (FINE, WATCH, WATCH, "orange", "orange", ACT), strict=True))


def pressure(policy: Policy) -> model.Dashboard:
    """An engine under load and under faults."""
    return board(
        "phase5-chaos-and-load",
        "phase5 / Chaos and load",
        "What comes in, what breaks, and how it is got over: for load runs, drills and chaos.",
        (
            Row("Load", _load(policy)),
            Row("Faults", _faults()),
            Row("Recovery", _recovery(policy)),
        ),
    )


def _load(policy: Policy) -> list[Panel]:
    expected = most(policy.expected_load) if policy.expected_load else None
    return [
        graph(
            About(
                title="Requests that came in",
                text="Ended, by whatever outcome, and admitted ones. Dashed: expected_load of "
                "gates.yaml; `phase5 load run stress` goes to twice that.",
                unit="reqps",
            ),
            Query(rate(REQUESTS), "ended"),
            Query(rate("phase5_streams_admitted_total"), "admitted"),
            line=expected,
        ),
        graph(
            About(
                title="Completed requests a second",
                text="Red under the limit of throughput_rps, which only a load run must reach: a "
                "quiet night does not.",
                unit="reqps",
            ),
            Query(rate(REQUESTS, 'outcome="ok"'), "ok"),
            line=limit(policy, "throughput_rps"),
        ),
        graph(
            About(
                title="Streams at once",
                text="Running and waiting, and how many may run. Red under the limit of "
                "streams_75, which only a load run must reach.",
            ),
            Query(total("phase5_streams_in_flight"), "in flight"),
            Query(total("phase5_streams_waiting"), "waiting"),
            Query(total("phase5_concurrency_limit"), "limit"),
            line=limit(policy, "streams_75"),
        ),
        graph(
            About(
                title="TTFT by its parts",
                text="Means that add up. Queue grows: full. Prefill grows: long prompts, or the "
                "model is slow. Lookup and tokenise are small; if not, report it.",
                unit="s",
            ),
            Query(mean("phase5_ttft_stage_seconds", by=["stage"]), "{{stage}}"),
            stacked=True,
        ),
        graph(
            About(
                title="Shed by cause",
                text="Why streams were turned away, with word when to come again.",
            ),
            Query(rate("phase5_streams_shed_total", by=["cause"]), "{{cause}}"),
        ),
        graph(
            About(
                title="Slots in use",
                text="Running streams for each slot, by engine. Near 1 with a queue: full.",
                unit="percentunit",
            ),
            Query(of("phase5_utilisation"), "{{instance}}"),
        ),
        graph(
            About(
                title="Prompts to read",
                text="Tokens that streams with a slot still have to read, and the speed.",
                span=12,
            ),
            Query(of("phase5_prefill_unread_tokens"), "{{instance}} unread"),
            Query(of("phase5_prefill_tokens_per_second"), "{{instance}} tokens a second"),
        ),
        governor_mode(),
    ]


def _faults() -> list[Panel]:
    return [
        graph(
            About(
                title="Runtime processes",
                text="By state. failed: past the bound of restarts, serves no more; restart the "
                "engine, and look at the end of its log for why.",
            ),
            *(
                Query(total("phase5_replicas", f'state="{state}"'), state.value)
                for state in ReplicaState
            ),
            stacked=True,
        ),
        graph(
            About(
                title="Crashes and replays",
                text="Restarts of runtime processes, streams that went on elsewhere, and requests "
                "that fail the model alone. Two restarts in 10 minutes roll every flag back.",
            ),
            Query(increase("phase5_runtime_restarts_total"), "restarts"),
            Query(increase("phase5_runtime_replays_total"), "replays"),
            Query(increase("phase5_runtime_convictions_total"), "convictions"),
            Query(total("phase5_unclean_starts_total"), "unclean starts"),
        ),
        graph(
            About(
                title="How streams ended",
                text="A second. error: told to the client; nothing ends silently.",
            ),
            Query(rate("phase5_streams_ended_total", by=["kind"]), "{{kind}}"),
        ),
        graph(
            About(
                title="Slow clients",
                text="Streams that stand still for their clients now, and those that were given "
                "up, by reason, or that outlived server.stream_seconds.",
            ),
            Query(total("phase5_streams_paused"), "paused"),
            Query(increase("phase5_stream_pauses_total"), "pauses"),
            Query(total("phase5_sends_waiting"), "sends that wait"),
            Query(increase("phase5_streams_dropped_total", by=["reason"]), "dropped, {{reason}}"),
            Query(increase("phase5_streams_overdue_total"), "overdue"),
        ),
        graph(
            About(
                title="Connections",
                text="Open now, and streams that clients gave up.",
            ),
            Query(total("phase5_connections_open", by=["protocol"]), "{{protocol}} open"),
            Query(increase("phase5_streams_reset_total", by=["protocol"]), "{{protocol}} reset"),
        ),
        graph(
            About(
                title="Reclaimed",
                text="What had no owner any more. Tenants are forgotten in peace; any other kind "
                "is a fault of the engine: report it with its log.",
            ),
            Query(increase("phase5_cleanup_reclaimed_total", by=["kind"]), "{{kind}}"),
        ),
    ]


def _recovery(policy: Policy) -> list[Panel]:
    return [
        graph(
            About(
                title="Error rate",
                text="(failed + cut) / (ok + failed + cut). Dashed: the limit. After a fault it "
                "must come back under it within the limit of chaos_recovery.",
                unit="percentunit",
                span=12,
            ),
            Query(error_rate(), "errors"),
            line=limit(policy, "error_rate"),
        ),
        graph(
            About(
                title="TTFT P95",
                text="Dashed: the limit. A peak after a fault is the queue that built up.",
                unit="s",
                span=12,
            ),
            Query(quantile(0.95, TTFT), "P95"),
            line=limit(policy, "ttft_p95_ms"),
        ),
        states(
            About(
                title="Memory ladder",
                text="What is done against pressure: evict and shrink cost nobody an answer; shed "
                "turns requests away; unreachable: lower the load, or raise runtime.memory_bytes.",
                span=12,
            ),
            Query(
                numbered("phase5_memory_rung", "rung", _RUNGS, CHOSEN, by="instance"),
                "{{instance}}",
            ),
            colours={rung.value: colour for rung, colour in _RUNGS.items()},
        ),
        breakers(),
        graph(
            About(
                title="Measures against memory pressure",
                text="By action. renew replaces a runtime process; its streams go on.",
            ),
            Query(increase("phase5_memory_actions_total", by=["action"]), "{{action}}"),
        ),
        graph(
            About(
                title="Remedies",
                text="Of QoS monitoring: tried, and what came of them.",
            ),
            Query(
                increase("phase5_remediations_total", by=["action", "outcome"]),
                "{{action}} {{outcome}}",
            ),
        ),
        graph(
            About(
                title="Cooldown of remedies",
                text="Until the next move of each actuator (qos.remediation.cooldown_seconds).",
                unit="s",
            ),
            Query(
                f"max by (actuator) ({of('phase5_remediation_cooldown_seconds')})", "{{actuator}}"
            ),
        ),
    ]
