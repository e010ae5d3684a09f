"""What is a flag's own: how its feature works, beside what it does to the arms."""

from collections.abc import Callable, Mapping
from typing import Final

from engine.core.breaker import BreakerState
from engine.core.flags import ADAPTIVE_GOVERNOR, HTTP2_TRANSPORT, QOS_MONITORING, TTFT_PIPELINE
from gates.stages import Policy
from pytest_phase5.dashboards.limits import limit
from pytest_phase5.dashboards.panels import (
    ACT,
    FINE,
    IDLE,
    WATCH,
    About,
    Panel,
    Query,
    graph,
    states,
)
from pytest_phase5.dashboards.promql import (
    CHOSEN,
    HIT,
    REQUESTS,
    WARM,
    increase,
    mean,
    numbered,
    of,
    rate,
    total,
)


def governor_mode() -> Panel:
    """What the governor of each engine does."""
    modes = {"off": IDLE, "steering": FINE, "safe": WATCH}
    query = numbered("phase5_governor_mode", "mode", modes, CHOSEN, by="instance")
    return states(
        About(
            title="What the governor does",
            text="Off in the blocks of control. Safe: its loop was unstable, so the limit is "
            "admission.limit until it is calm; often safe: report it, and turn the flag off.",
            span=12,
        ),
        Query(query, "{{instance}}"),
        colours=modes,
    )


def breakers() -> Panel:
    """The breakers of what remedies move."""
    colours = {
        BreakerState.CLOSED.value: FINE,
        BreakerState.HALF_OPEN.value: WATCH,
        BreakerState.OPEN.value: ACT,
    }
    query = numbered(
        "phase5_remediation_breaker", "state", colours, CHOSEN, by="instance, actuator"
    )
    return states(
        About(
            title="Breakers of remedies",
            text="Open: its remedies failed or undid each other, and it is left alone. Look into "
            "the engine's log for why before it closes by itself.",
            span=12,
        ),
        Query(query, "{{instance}} {{actuator}}"),
        colours=colours,
    )


def _governor(policy: Policy) -> list[Panel]:
    return [
        governor_mode(),
        graph(
            About(
                title="Limit of streams",
                text="What may run at once. The governor's moves between governor.min_limit and "
                "max_limit, and goes to admission.limit where a block of control begins.",
                span=12,
            ),
            Query(of("phase5_concurrency_limit"), "{{instance}} limit"),
            Query(of("phase5_streams_in_flight"), "{{instance}} in flight"),
        ),
        graph(
            About(
                title="P95 that the governor steers by",
                text="From slot to first token; there is none in blocks of control. Dashed: the "
                "limit of ttft_p95_ms, which governor.target_ttft_ms should be.",
                unit="s",
            ),
            Query(of("phase5_governor_ttft_p95_seconds"), "{{instance}}"),
            line=limit(policy, "ttft_p95_ms"),
        ),
        graph(
            About(
                title="Shed by cause",
                text="Why streams were turned away. would_be_late is the governor's: refused at "
                "once, instead of late.",
            ),
            Query(rate("phase5_streams_shed_total", by=["cause"]), "{{cause}}"),
        ),
        graph(
            About(
                title="Falls into safe mode",
                text="By trouble. One after a change of load is no matter; more and more are.",
            ),
            Query(
                increase("phase5_governor_safe_mode_entries_total", by=["trouble"]), "{{trouble}}"
            ),
        ),
    ]


def _http2(policy: Policy) -> list[Panel]:
    return [
        graph(
            About(
                title="Requests by protocol",
                text="What clients really used: the arm is only what they were offered. No HTTP/2 "
                "in spite of the flag: the proxy or the clients do not take it.",
                unit="reqps",
                span=12,
            ),
            Query(rate(REQUESTS, by=["protocol"]), "{{protocol}}"),
        ),
        graph(
            About(
                title="Connections open now",
                text="By protocol. HTTP/2 carries the same streams over fewer of them.",
                span=12,
            ),
            Query(total("phase5_connections_open", by=["protocol"]), "{{protocol}}"),
        ),
        graph(
            About(
                title="Connections for each request",
                text="Opened / requests. Dashed: the limit of connection_overhead, for HTTP/2 in "
                "proportion to HTTP/1.1.",
                unit="percentunit",
            ),
            Query(
                f"{rate('phase5_connections_opened_total', by=['protocol'])} / "
                f"{rate(REQUESTS, by=['protocol'])}",
                "{{protocol}}",
            ),
            line=limit(policy, "connection_overhead"),
        ),
        graph(
            About(
                title="Streams on the fullest connection",
                text="100 are announced. At 100 for long: clients queue behind one connection.",
            ),
            Query(
                f"max by (protocol) ({of('phase5_connection_streams_max')})",
                "{{protocol}}",
            ),
        ),
        graph(
            About(
                title="Resets and goodbyes",
                text="Streams that clients gave up, and connections told to go. Goodbyes come with "
                "a rollback of the flag and with a stop; otherwise ask why.",
            ),
            Query(increase("phase5_streams_reset_total", by=["protocol"]), "{{protocol}} reset"),
            Query(
                increase("phase5_connections_goaways_total", by=["protocol"]), "{{protocol}} goaway"
            ),
        ),
    ]


def _pipeline(policy: Policy) -> list[Panel]:
    tokens = "phase5_prompt_tokens_total"
    cached = rate(tokens, 'source="cached"', by=[TTFT_PIPELINE])
    drafts = "phase5_runtime_drafted_tokens_total", "phase5_runtime_accepted_tokens_total"
    return [
        graph(
            About(
                title="Requests that found a beginning",
                text="As ttft_pipeline_hits of the fleet. Dashed: what prefix_hit_rate "
                "demands. Lower: prompts have little in common, or the prefix store is too small.",
                unit="percentunit",
            ),
            Query(
                f"{rate(WARM, HIT, by=['instance'])} / {rate(WARM, by=['instance'])}",
                "{{instance}}",
            ),
            line=limit(policy, "prefix_hit_rate"),
        ),
        graph(
            About(
                title="Prompt tokens that were cached",
                text="Of all prompt tokens, by arm (on: treatment). Control reuses none.",
                unit="percentunit",
            ),
            Query(f"{cached} / {rate(tokens, by=[TTFT_PIPELINE])}", "{{ttft_pipeline}}"),
        ),
        graph(
            About(
                title="TTFT by its parts, treatment",
                text="Means that add up. Queue: too few slots; prefill: long prompts, few hits.",
                unit="s",
            ),
            Query(_parts("on"), "{{stage}}"),
            stacked=True,
        ),
        graph(
            About(
                title="TTFT by its parts, control",
                text="Means that add up, of the streams without the flag.",
                unit="s",
            ),
            Query(_parts("off"), "{{stage}}"),
            stacked=True,
        ),
        graph(
            About(
                title="Warm queue",
                text="Announced streams by what they found, and those that waited too long "
                "(ttft_pipeline.warm_seconds).",
            ),
            Query(rate(WARM, by=["found"]), "{{found}}"),
            Query(rate("phase5_runtime_warm_expired_total"), "expired"),
        ),
        graph(
            About(
                title="Speculation",
                text="Drafted and accepted tokens a second, and processes in which drafts pay. 0: "
                "they do not pay with these answers, so none are made.",
            ),
            Query(rate(drafts[0]), "drafted"),
            Query(rate(drafts[1]), "accepted"),
            Query(total("phase5_runtime_speculating"), "processes"),
        ),
    ]


def _parts(arm: str) -> str:
    return mean("phase5_ttft_stage_seconds", f'{TTFT_PIPELINE}="{arm}"', by=["stage"])


def _qos(_: Policy) -> list[Panel]:
    return [
        breakers(),
        graph(
            About(
                title="Service levels as measured",
                text="The last value of each, in the unit of its policy. None while fewer streams "
                "than qos.min_samples were looked at.",
                span=12,
            ),
            Query(of("phase5_slo_value"), "{{instance}} {{slo}}"),
        ),
        graph(
            About(
                title="Remedies",
                text="Tried, and what came of them. taken_back: it did not help, so it was undone.",
            ),
            Query(
                increase("phase5_remediations_total", by=["action", "outcome"]),
                "{{action}} {{outcome}}",
            ),
            Query(
                total("phase5_remediations_total", 'outcome="executed"'),
                "executed since the start",
            ),
        ),
        graph(
            About(
                title="Remedies held back",
                text="By what held them back. Many by rate_limit or loop: the policy asks for more "
                "than its remedy can do.",
            ),
            Query(increase("phase5_remediations_refused_total", by=["reason"]), "{{reason}}"),
        ),
        graph(
            About(
                title="Streams looked at, and looks",
                text="A second. No looks: the flag is at 0 % or braked on those engines.",
            ),
            Query(rate("phase5_qos_streams_total"), "streams"),
            Query(rate("phase5_qos_looks_total"), "looks"),
        ),
    ]


#: By flag: the panels of its own row.
FEATURES: Final[Mapping[str, Callable[[Policy], list[Panel]]]] = {
    ADAPTIVE_GOVERNOR: _governor,
    HTTP2_TRANSPORT: _http2,
    TTFT_PIPELINE: _pipeline,
    QOS_MONITORING: _qos,
}
