"""Queries in words. What a query is about, an engine or its fleet, is chosen in Grafana."""

from collections.abc import Iterable
from typing import Final

from engine.core.flags import FLAGS

#: The engines that are chosen above the panels.
CHOSEN: Final = 'instance=~"$instance"'

#: Grafana's own: at least four scrapes, so that a late one leaves no gap.
SPAN: Final = "$__rate_interval"

#: What counts: shed, rejected and cancelled requests are no errors, and no successes either.
BAD: Final = 'outcome=~"failed|cut"'
COUNTED: Final = 'outcome=~"ok|failed|cut"'

TTFT: Final = "phase5_time_to_first_token_seconds"
DURATION: Final = "phase5_request_duration_seconds"
INTER_TOKEN: Final = "phase5_inter_token_seconds"  # noqa: S105 - a metric, not a password
REQUESTS: Final = "phase5_requests_total"
WARM: Final = "phase5_warm_streams_total"
HIT: Final = 'found="hit"'
EARLY: Final = "phase5_early_cancels_total"

#: The two values of a flag's label, as they are called.
ARMS: Final = {"on": "treatment", "off": "control"}


def of(metric: str, *matchers: str) -> str:
    """A metric of the chosen engines."""
    return f"{metric}{{{', '.join((CHOSEN, *matchers))}}}"


def total(metric: str, *matchers: str, by: Iterable[str] = ()) -> str:
    """The sum of a gauge over the chosen engines."""
    return f"sum{_by(by)}({of(metric, *matchers)})"


def rate(metric: str, *matchers: str, by: Iterable[str] = ()) -> str:
    """How much a counter of the chosen engines rises in a second."""
    return f"sum{_by(by)}(rate({of(metric, *matchers)}[{SPAN}]))"


def increase(metric: str, *matchers: str, by: Iterable[str] = ()) -> str:
    """How often something happened lately on the chosen engines."""
    return f"sum{_by(by)}(increase({of(metric, *matchers)}[{SPAN}]))"


def quantile(share: float, metric: str, *matchers: str) -> str:
    """A quantile of a histogram: between two edges of its buckets it is a guess."""
    buckets = f"sum by (le) (rate({of(f'{metric}_bucket', *matchers)}[{SPAN}]))"
    return f"histogram_quantile({share:g}, {buckets})"


def mean(metric: str, *matchers: str, by: Iterable[str] = ()) -> str:
    """The mean of a histogram."""
    parts = (rate(f"{metric}_{part}", *matchers, by=by) for part in ("sum", "count"))
    return " / ".join(parts)


def below(edge: float, metric: str, *matchers: str) -> str:
    """The share that took no longer than an edge of its buckets: exact there."""
    inside = rate(f"{metric}_bucket", f'le="{edge!r}"', *matchers)
    return f"{inside} / {rate(f'{metric}_count', *matchers)}"


def error_rate(*matchers: str) -> str:
    """(failed + cut) / (ok + failed + cut)."""
    return f"{rate(REQUESTS, BAD, *matchers)} / {rate(REQUESTS, COUNTED, *matchers)}"


def share_of_all(metric: str, *matchers: str, given: Iterable[str] = ()) -> str:
    """A counter as a share of all requests that ended; `given` holds for both."""
    return f"{rate(metric, *matchers, *given)} / {rate(REQUESTS, *given)}"


def arm(flag: str, value: str) -> str:
    """The streams of one arm of a flag: its label is the assignment.

    Raises:
        ValueError: there is no such flag.
    """
    if flag not in FLAGS:
        raise ValueError(f"unknown flag {flag!r}; allowed: {', '.join(FLAGS)}")
    return f'{flag}="{value}"'


def numbered(metric: str, label: str, values: Iterable[str], *matchers: str, by: str) -> str:
    """Which of a state set's values is 1, as its place among them: for a timeline."""
    states = (
        f"{metric}{{{', '.join((*matchers, _is(label, value)))}}} * {place}"
        for place, value in enumerate(values)
    )
    return f"max by ({by}) ({' or '.join(states)})"


def _is(label: str, value: str) -> str:
    return f'{label}="{value}"'


def _by(labels: Iterable[str]) -> str:
    names = ", ".join(labels)
    return f" by ({names}) " if names else ""
