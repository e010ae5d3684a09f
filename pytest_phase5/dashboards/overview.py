"""The first page: is the service well, what is it doing, and what does it take?"""

from grafana_foundation_sdk.models import dashboard as model

from gates.stages import Policy
from pytest_phase5.dashboards.board import Row, board
from pytest_phase5.dashboards.limits import limit, most, ttft_edge
from pytest_phase5.dashboards.panels import About, Panel, Query, graph, number
from pytest_phase5.dashboards.promql import (
    DURATION,
    EARLY,
    INTER_TOKEN,
    REQUESTS,
    TTFT,
    below,
    error_rate,
    increase,
    of,
    quantile,
    rate,
    share_of_all,
    total,
)

_QUANTILES = {"P50": 0.5, "P95": 0.95, "P99": 0.99}


def overview(policy: Policy) -> model.Dashboard:
    """The service as a whole, against the limits of a policy."""
    return board(
        "phase5-overview",
        "phase5 / Overview",
        "Is the service well? Start here; the limits are those of gates.yaml.",
        (
            Row("Now", _now(policy)),
            Row("Latency", _latency(policy)),
            Row("Traffic", _traffic(policy)),
            Row("Service levels", _levels()),
            Row("Machine", _machine()),
        ),
    )


def _now(policy: Policy) -> list[Panel]:
    return [
        number(
            About(
                title="TTFT P95",
                text="Time to the first generated text. Red: over the limit of ttft_p95_ms. See "
                "whether one arm is slow on the page of each flag before you roll anything back.",
                unit="s",
                span=4,
            ),
            Query(quantile(0.95, TTFT), "P95"),
            line=limit(policy, "ttft_p95_ms"),
        ),
        number(
            About(
                title="Errors",
                text="(failed + cut) / (ok + failed + cut). Red: over the limit of error_rate. The "
                "guard rolls back a flag that is to blame; `phase5 status` says what it did.",
                unit="percentunit",
                span=4,
            ),
            Query(error_rate(), "errors"),
            line=limit(policy, "error_rate"),
        ),
        number(
            About(
                title="Requests a second",
                text="That ended well. Falling while requests are shed: see Chaos and load.",
                unit="reqps",
                span=4,
            ),
            Query(rate(REQUESTS, 'outcome="ok"'), "ok"),
        ),
        number(
            About(
                title="Output tokens a second",
                text="Of all engines. Falling at the same requests a second: answers got shorter, "
                "or the model slower; compare the time between tokens.",
                unit="suffix: tok/s",
                span=4,
            ),
            Query(rate("phase5_output_tokens_total"), "tokens"),
        ),
        number(
            About(
                title="Braked flags",
                text="Brakes that engines hold: those flags are at 0 % there, whatever any file "
                "says. `phase5 status` names the cause and the next command.",
                span=4,
            ),
            Query(total("phase5_flag_braked"), "brakes"),
            line=most(1),
        ),
        number(
            About(
                title="Engines",
                text="That Prometheus hears. Fewer than rollout.engines: the minutes that lack one "
                "are no evidence, and its lease runs out. Start it again, or take it out.",
                span=4,
            ),
            Query(f"count({of('phase5_build_info')})", "engines"),
        ),
    ]


def _latency(policy: Policy) -> list[Panel]:
    edge = ttft_edge(policy)
    return [
        graph(
            About(
                title="Time to first token",
                text="From the request's arrival to its first generated text. Dashed: the limit of "
                "the P95. Which part of it grew is under Chaos and load, TTFT by its parts.",
                unit="s",
            ),
            *(Query(quantile(share, TTFT), name) for name, share in _QUANTILES.items()),
            line=limit(policy, "ttft_p95_ms"),
        ),
        graph(
            About(
                title="Time of whole requests",
                text="Dashed: the limit of the P99. It grows with the length of answers; compare "
                "the time between tokens before you call it slow.",
                unit="s",
            ),
            *(Query(quantile(share, DURATION), name) for name, share in _QUANTILES.items()),
            line=limit(policy, "latency_p99_ms"),
        ),
        graph(
            About(
                title="Time between tokens",
                text="The pace of running streams. It rises with the number of streams and with "
                "prompts that are read in between (runtime.prefill_chunk).",
                unit="s",
            ),
            *(Query(quantile(share, INTER_TOKEN), name) for name, share in _QUANTILES.items()),
        ),
        *([_in_time(edge)] if edge else ()),
    ]


def _in_time(edge: float) -> Panel:
    return graph(
        About(
            title=f"First token within {1000 * edge:g} ms",
            text="Exact, since it is an edge of the buckets; the quantiles above are guesses "
            "between two edges. Under 95 % the limit of the P95 is broken.",
            unit="percentunit",
            span=24,
        ),
        Query(below(edge, TTFT), "in time"),
    )


def _traffic(policy: Policy) -> list[Panel]:
    return [
        graph(
            About(
                title="Requests by outcome",
                text="Shed ones are told when to come again; cut and failed ones are errors.",
                unit="reqps",
            ),
            Query(rate(REQUESTS, by=["outcome"]), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            About(
                title="Error rate",
                text="(failed + cut) / (ok + failed + cut). Dashed: the limit. Over it: "
                "`phase5 status`, then the runbook incident-response.",
                unit="percentunit",
            ),
            Query(error_rate(), "errors"),
            line=limit(policy, "error_rate"),
        ),
        graph(
            About(
                title="Shed, and left before the first token",
                text="Of all requests. Shed: more came than the queue serves in time; add engines "
                "or replicas. Left: clients did not wait; look at the time to first token.",
                unit="percentunit",
            ),
            Query(share_of_all(REQUESTS, 'outcome="shed"'), "shed"),
            Query(share_of_all(EARLY), "left early"),
        ),
        graph(
            About(
                title="Tokens a second",
                text="Written to clients, and read from prompts: computed anew, or found cached.",
                unit="suffix: tok/s",
                span=12,
            ),
            Query(rate("phase5_output_tokens_total"), "output"),
            Query(rate("phase5_prompt_tokens_total", by=["source"]), "prompt, {{source}}"),
        ),
        graph(
            About(
                title="Streams",
                text="Running and waiting, and how many may run. Running at the limit with a "
                "queue: the engine is full.",
                span=12,
            ),
            Query(total("phase5_streams_in_flight"), "in flight"),
            Query(total("phase5_streams_waiting"), "waiting"),
            Query(total("phase5_concurrency_limit"), "limit"),
        ),
    ]


def _levels() -> list[Panel]:
    return [
        graph(
            About(
                title="QoS violations",
                text="New ones, by service level. Only engines with qos_monitoring look for them; "
                "policies stand in runtime.yaml under qos.",
                span=12,
            ),
            Query(increase("phase5_qos_violations_total", by=["slo"]), "{{slo}}"),
        ),
        graph(
            About(
                title="Violated now",
                text="Engines on which a service level is violated at present.",
                span=12,
            ),
            Query(total("phase5_slo_violated", by=["slo"]), "{{slo}}"),
        ),
    ]


def _machine() -> list[Panel]:
    return [
        graph(
            About(
                title="CPU",
                text="Processors in use, by the front end (known on Linux alone) and by the "
                "runtime's processes together. Front end near 1: it is the bottleneck.",
                unit="suffix: cores",
                span=6,
            ),
            Query(rate("process_cpu_seconds_total", by=["instance"]), "{{instance}} front end"),
            Query(
                rate("phase5_runtime_cpu_seconds_total", by=["instance"]), "{{instance}} runtime"
            ),
        ),
        graph(
            About(
                title="Memory",
                text="The runtime's process that holds most, against its budget, and the front end "
                "(known on Linux alone). A slope that does not end is a leak: no_leak.",
                unit="bytes",
                span=6,
            ),
            Query(of("process_resident_memory_bytes"), "{{instance}} front end"),
            Query(of("phase5_memory_bytes"), "{{instance}} runtime"),
            Query(of("phase5_memory_budget_bytes"), "{{instance}} budget"),
        ),
        graph(
            About(
                title="Caches",
                text="What of the runtime's memory are keys and values of live streams, the prefix "
                "store, and prefixes held for waiting streams.",
                unit="bytes",
                span=6,
            ),
            Query(total("phase5_kv_bytes"), "live streams"),
            Query(total("phase5_prefix_bytes"), "prefix store"),
            Query(total("phase5_pinned_bytes"), "pinned"),
        ),
        graph(
            About(
                title="GPU memory",
                text="What the runtime's processes hold on a GPU: on Metal that is the unified "
                "memory in mlx's hands. 0 on Linux: there is no GPU. mlx tells no load of it.",
                unit="bytes",
                span=6,
            ),
            Query(of("phase5_gpu_bytes"), "{{instance}}"),
        ),
    ]
