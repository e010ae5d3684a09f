"""One flag: its treatment beside its control, side by side in time."""

from collections.abc import Callable, Iterator

from grafana_foundation_sdk.models import dashboard as model

from gates.stages import Policy
from pytest_phase5.dashboards.board import Row, board
from pytest_phase5.dashboards.features import FEATURES
from pytest_phase5.dashboards.limits import Line, limit
from pytest_phase5.dashboards.panels import About, Panel, Query, graph
from pytest_phase5.dashboards.promql import (
    ARMS,
    DURATION,
    EARLY,
    INTER_TOKEN,
    REQUESTS,
    TTFT,
    arm,
    error_rate,
    of,
    quantile,
    rate,
    share_of_all,
)


def flag_board(flag: str, policy: Policy) -> model.Dashboard:
    """Both arms of a flag, and what is its own."""
    return board(
        f"phase5-flag-{flag.replace('_', '-')}",
        f"phase5 / Flag {flag}",
        f"Does {flag} do harm, and does it help? The arm is the assignment of each stream.",
        (
            Row("Treatment over control: 1 is alike", _ratios(flag, policy)),
            Row("Latency by arm", _latency(flag, policy)),
            Row("Requests by arm", _requests(flag, policy)),
            Row(f"{flag} at work", FEATURES[flag](policy)),
            Row("Who was counted", _keys(flag)),
        ),
    )


def _ratios(flag: str, policy: Policy) -> list[Panel]:
    on, off = arm(flag, "on"), arm(flag, "off")
    return [
        _ratio(
            "TTFT P95",
            f"{quantile(0.95, TTFT, on)} / {quantile(0.95, TTFT, off)}",
            limit(policy, "live_ttft_vs_control"),
        ),
        _ratio(
            "P95 of whole requests",
            f"{quantile(0.95, DURATION, on)} / {quantile(0.95, DURATION, off)}",
            limit(policy, "live_latency_vs_control"),
        ),
        _ratio(
            "P95 between tokens",
            f"{quantile(0.95, INTER_TOKEN, on)} / {quantile(0.95, INTER_TOKEN, off)}",
            None,
        ),
    ]


def _ratio(title: str, expr: str, line: Line | None) -> Panel:
    margin = "Dashed: the margin that live traffic is judged by. " if line else ""
    about = About(
        title=f"{title}, treatment / control",
        text=f"Under 1 the flag helps. {margin}A few minutes over it are no verdict: the Rollout "
        "page has the evidence, and `phase5 rollback --flag` needs none.",
        unit="suffix:x",
    )
    return graph(about, Query(expr, "treatment / control"), line=line)


def _latency(flag: str, policy: Policy) -> list[Panel]:
    def panel(title: str, metric: str, share: float, line: Line | None) -> Panel:
        about = About(
            title=title,
            text="Both arms at once: where both rise it is the hour or the machine, not the flag."
            + (" Dashed: the limit." if line else ""),
            unit="s",
        )
        return graph(about, *_arms(flag, lambda of_arm: quantile(share, metric, of_arm)), line=line)

    return [
        panel("TTFT P50", TTFT, 0.5, None),
        panel("TTFT P95", TTFT, 0.95, limit(policy, "ttft_p95_ms")),
        panel("TTFT P99", TTFT, 0.99, None),
        panel("Whole requests P50", DURATION, 0.5, None),
        panel("Whole requests P99", DURATION, 0.99, limit(policy, "latency_p99_ms")),
        panel("Between tokens P95", INTER_TOKEN, 0.95, None),
    ]


def _requests(flag: str, policy: Policy) -> list[Panel]:
    return [
        graph(
            About(
                title="Error rate",
                text="(failed + cut) / (ok + failed + cut). Dashed: the limit. Treatment alone "
                "over it: the guard rolls back by itself; both: look at the engines.",
                unit="percentunit",
            ),
            *_arms(flag, error_rate),
            line=limit(policy, "error_rate"),
        ),
        graph(
            About(
                title="Requests a second",
                text="That ended, of whatever outcome. Whether so many reach a verdict in time: "
                "`phase5 plan STAGE --rate`.",
                unit="reqps",
            ),
            *_arms(flag, lambda of_arm: rate(REQUESTS, of_arm)),
        ),
        graph(
            About(
                title="Share of the requests",
                text="Seen, beside the share that engines serve. Far apart for long: the "
                "assignment or the counting is broken, and the evidence is invalid (sample ratio).",
                unit="percentunit",
            ),
            Query(share_of_all(REQUESTS, arm(flag, "on")), "treatment"),
            Query(
                f"avg({of('phase5_flag_percentage', _named(flag))}) / 100",
                "configured",
            ),
        ),
        graph(
            About(
                title="Shed",
                text="Of the arm's requests. The margin of live_shed_vs_control is between arms.",
                unit="percentunit",
            ),
            *_arms(flag, lambda of_arm: share_of_all(REQUESTS, 'outcome="shed"', given=[of_arm])),
        ),
        graph(
            About(
                title="Left before the first token",
                text="Of the arm's requests: clients that did not wait for a first token.",
                unit="percentunit",
            ),
            *_arms(flag, lambda of_arm: share_of_all(EARLY, given=[of_arm])),
        ),
        graph(
            About(
                title="Output tokens a second",
                text="By arm; in proportion to the shares where the flag makes no difference.",
                unit="suffix: tok/s",
            ),
            *_arms(flag, lambda of_arm: rate("phase5_output_tokens_total", of_arm)),
        ),
    ]


def _keys(flag: str) -> list[Panel]:
    named = _named(flag)
    return [
        graph(
            About(
                title="New keys a second",
                text="First seen in this epoch, by arm: how traffic is split where requests are "
                "not. A key stays in its arm.",
            ),
            Query(rate("phase5_new_keys_total", named, by=["arm"]), "{{arm}}"),
        ),
        graph(
            About(
                title="Requests of the busiest keys",
                text="Keys with over a tenth of an arm, by digest. One with over 20 % is the arm's "
                "result, and holds the rollout: ask who it is.",
                unit="reqps",
            ),
            Query(
                rate("phase5_busiest_key_requests_total", named, by=["arm", "key"]),
                "{{arm}} {{key}}",
            ),
        ),
        graph(
            About(
                title="Epoch and share served",
                text="By engine. Two epochs, or two shares, for longer than a poll of the guard: "
                "an engine did not get the store's state.",
            ),
            Query(of("phase5_flag_epoch", named), "{{instance}} epoch"),
            Query(of("phase5_flag_percentage", named), "{{instance}} percent"),
        ),
    ]


def _named(flag: str) -> str:
    return f'flag="{flag}"'


def _arms(flag: str, expr: Callable[[str], str]) -> Iterator[Query]:
    """The same query of both arms, as people call them."""
    for value, name in ARMS.items():
        yield Query(expr(arm(flag, value)), name)
