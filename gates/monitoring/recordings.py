"""Recorded series: the ten names of the requirements, and the windows that alerts look at. Pure.

Each is made from what engines count, never from what they have already made a rate or quantile of:
quantiles of several engines cannot be put together. The scrape configuration drops the engines' own
series of these ten names, so that a name means one thing: the fleet.
"""

from collections.abc import Iterator
from typing import Final

from gates.monitoring.rules import DAY, ENGINES, HOUR, MINUTE, Clock, Group, Recording

#: Windows of the burn rates: each pair is a long one and, to end soon when it is over, a short one.
WINDOWS: Final = (5 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, DAY, 3 * DAY)

#: What the requirements' own metrics look back: as long as the engines' own do, and four scrapes.
RECENT: Final = MINUTE

#: Requests that the engine answered, well or badly; shed and rejected ones it never began.
ANSWERED: Final = 'outcome=~"ok|failed|cut"'
BAD: Final = 'outcome=~"failed|cut"'

#: Seconds between evaluations: as often as the scrape configuration scrapes.
INTERVAL: Final = 15.0


def recordings(clock: Clock) -> Iterator[Group]:
    """All groups of recorded series."""
    yield Group("phase5-requirements", INTERVAL, tuple(_required(clock)))
    yield Group("phase5-windows", INTERVAL, tuple(_windows(clock)))
    yield Group("phase5-rollout", INTERVAL, (Recording(*_SHARE),))


#: The largest share of a flag that any engine serves, in per cent.
_SHARE: Final = (
    "phase5:flag_percentage:max",
    f'max by (flag) (phase5_flag_percentage{{job="{ENGINES}"}})',
)


def errors(window: float) -> str:
    """The name of the share of bad answers in a window."""
    return f"phase5:error_ratio:rate{Clock()(window)}"


def answered(window: float) -> str:
    """The name of the number of answers in a window."""
    return f"phase5:answered:increase{Clock()(window)}"


def _required(clock: Clock) -> Iterator[Recording]:
    def rate(metric: str, *matchers: str) -> str:
        return f"sum(rate({_of_engines(metric, *matchers)}[{clock(RECENT)}]))"

    buckets = _of_engines("phase5_time_to_first_token_seconds_bucket")
    ttft = f"sum by (le) (rate({buckets}[{clock(RECENT)}]))"
    hits = rate("phase5_warm_streams_total", 'found="hit"')
    executed = _of_engines("phase5_remediations_total", 'outcome="executed"')
    yield Recording("ttft_p95_ms", f"1000 * histogram_quantile(0.95, {ttft})")
    yield Recording("throughput_rps", rate("phase5_requests_total", 'outcome="ok"'))
    yield Recording("throughput_tps", rate("phase5_output_tokens_total"))
    yield Recording("concurrent_streams", f"sum({_of_engines('phase5_streams_in_flight')})")
    yield Recording(
        "error_rate",
        f"{rate('phase5_requests_total', BAD)} / {rate('phase5_requests_total', ANSWERED)}",
    )
    yield Recording(
        "qos_violations_total", f"sum by (slo) ({_of_engines('phase5_qos_violations_total')})"
    )
    yield Recording("remediations_executed", f"sum({executed})")
    connections = _of_engines("phase5_connections_open", 'protocol="http2"')
    yield Recording("http2_connections", f"sum({connections})")
    yield Recording("ttft_pipeline_hits", f"{hits} / {rate('phase5_warm_streams_total')}")
    yield Recording("pid_concurrency_limit", f"sum({_of_engines('phase5_concurrency_limit')})")


def _windows(clock: Clock) -> Iterator[Recording]:
    requests = "phase5_requests_total"
    for window in WINDOWS:
        bad = f"sum(rate({_of_engines(requests, BAD)}[{clock(window)}]))"
        every = f"sum(rate({_of_engines(requests, ANSWERED)}[{clock(window)}]))"
        count = f"sum(increase({_of_engines(requests, ANSWERED)}[{clock(window)}]))"
        yield Recording(errors(window), f"{bad} / {every}")
        yield Recording(answered(window), count)


def _of_engines(metric: str, *matchers: str) -> str:
    own = f'job="{ENGINES}"'
    return f"{metric}{{{','.join([own, *matchers])}}}"


#: The names of the requirements, which engines serve as well, each for itself.
REQUIRED: Final = tuple(recording.name for recording in _required(Clock()))
