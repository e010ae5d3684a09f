"""Recorded series: the ten names of the requirements, and what alerts look at. Pure.

Each is made from what engines count, never from what they have already made a rate or quantile of:
quantiles of several engines cannot be put together. The scrape configuration drops the engines' own
series of these ten names, so that a name means one thing: the fleet.
"""

from collections.abc import Iterator
from typing import Final

from engine.core.flags import FLAGS
from gates.ledger_fold import CRASH_MINUTES
from gates.monitoring.rules import (
    DAY,
    HOUR,
    MINUTE,
    Clock,
    Group,
    Recording,
    of_engines,
)

#: Over which the rates of answers and errors are taken. Longer windows are sums of these, so that
#: three days cost one series and not the counters of every engine.
SHORTEST: Final = 5 * MINUTE

#: Longer windows of the burn rates; each long one has a short one, to end soon when it is over.
WINDOWS: Final = (30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, DAY, 3 * DAY)

#: What the requirements' own metrics look back: as long as the engines' own do, and four scrapes.
RECENT: Final = MINUTE

#: What counts as an error, and what as an answer: shed and rejected requests were never begun.
_BAD: Final = 'outcome=~"failed|cut"'
_ANSWERED: Final = 'outcome=~"ok|failed|cut"'

#: The `flag` of what is counted over both arms of every flag.
ALL: Final = "all"

#: The largest share of a flag that any engine serves, in per cent.
SHARE: Final = "phase5:flag_percentage:max"

#: Unplanned restarts of an engine's runtime, and of itself.
CRASHES: Final = f"phase5:crashes:increase{CRASH_MINUTES}m"

#: Memory of a process without the store of prompts, a cache that has a budget of its own.
MEMORY: Final = "phase5:private_bytes"

_REQUESTS: Final = "phase5_requests_total"
_ERRORS: Final = f"phase5:errors:rate{Clock()(SHORTEST)}"
_ANSWERS: Final = f"phase5:answers:rate{Clock()(SHORTEST)}"
_WHOLE: Final = f'{{flag="{ALL}"}}'
_PARTS: Final = f'{{flag!="{ALL}"}}'

#: A sum of rates: far under that of one answer, far over what rounding leaves of none.
_NOBODY: Final = 0.001


def recordings(clock: Clock) -> Iterator[Group]:
    """All groups of recorded series."""
    yield Group("phase5-requirements", tuple(_required(clock)))
    yield Group("phase5-windows", tuple(_windows(clock)))
    yield Group("phase5-looked-at", tuple(_looked_at(clock)))


def errors(window: float) -> str:
    """The name of the share of errors among the answers in a window."""
    return f"phase5:error_ratio:rate{Clock()(window)}"


def without(window: float) -> str:
    """The name of the same share among the answers that a flag had no hand in."""
    return f"phase5:error_ratio_without:rate{Clock()(window)}"


def answers(window: float) -> str:
    """The name of the number of answers in a window of so many seconds."""
    return f"phase5:answers:increase{Clock()(window)}"


def _required(clock: Clock) -> Iterator[Recording]:
    def rate(metric: str, *matchers: str, **labels: str) -> str:
        return f"sum(rate({of_engines(metric, *matchers, **labels)}[{clock(RECENT)}]))"

    buckets = of_engines("phase5_time_to_first_token_seconds_bucket")
    ttft = f"sum by (le) (rate({buckets}[{clock(RECENT)}]))"
    hits = rate("phase5_warm_streams_total", found="hit")
    executed = of_engines("phase5_remediations_total", outcome="executed")
    yield Recording("ttft_p95_ms", f"1000 * histogram_quantile(0.95, {ttft})")
    yield Recording("throughput_rps", rate(_REQUESTS, outcome="ok"))
    yield Recording("throughput_tps", rate("phase5_output_tokens_total"))
    yield Recording("concurrent_streams", f"sum({of_engines('phase5_streams_in_flight')})")
    yield Recording("error_rate", f"{rate(_REQUESTS, _BAD)} / {rate(_REQUESTS, _ANSWERED)}")
    yield Recording(
        "qos_violations_total", f"sum by (slo) ({of_engines('phase5_qos_violations_total')})"
    )
    yield Recording("remediations_executed", f"sum({executed})")
    yield Recording(
        "http2_connections", f"sum({of_engines('phase5_connections_open', protocol='http2')})"
    )
    yield Recording("ttft_pipeline_hits", f"{hits} / {rate('phase5_warm_streams_total')}")
    yield Recording("pid_concurrency_limit", f"sum({of_engines('phase5_concurrency_limit')})")


def _windows(clock: Clock) -> Iterator[Recording]:
    """Of all answers, and of those that each flag had a hand in.

    A flag at canary can answer nothing but errors and move the whole by one per cent.
    """
    for name, outcomes in ((_ERRORS, _BAD), (_ANSWERS, _ANSWERED)):
        for flag in (ALL, *FLAGS):
            arm = {} if flag == ALL else {flag: "on"}
            counted = of_engines(_REQUESTS, outcomes, **arm)
            rate = f"sum(rate({counted}[{clock(SHORTEST)}]))"
            yield Recording(name, rate, {"flag": flag})
    yield Recording(errors(SHORTEST), f"{_ERRORS} / {_ANSWERS}")
    for window in WINDOWS:
        over = clock(window)

        def total(name: str, over: str = over) -> str:
            return f"sum_over_time({name}[{over}])"

        yield Recording(errors(window), f"{total(_ERRORS)} / {total(_ANSWERS)}")
        # What was seen, not what a gap may have hidden: each evaluation stands for an interval.
        yield Recording(answers(window), f"{total(_ANSWERS)} * {clock.interval:g}")
        bad, every = (
            f"{total(name + _WHOLE)} - ignoring (flag) group_right () {total(name + _PARTS)}"
            for name in (_ERRORS, _ANSWERS)
        )
        yield Recording(without(window), f"({bad}) / ({every} > {_NOBODY})")


def _looked_at(clock: Clock) -> Iterator[Recording]:
    within = clock(CRASH_MINUTES * MINUTE)
    restarts = f"increase({of_engines('phase5_runtime_restarts_total')}[{within}])"
    starts = f"changes({of_engines('phase5_start_time_seconds')}[{within}])"
    unclean = of_engines("phase5_unclean_starts_total")
    yield Recording(SHARE, f"max by (flag) ({of_engines('phase5_flag_percentage')})")
    yield Recording(CRASHES, f"{restarts} + {starts} * {unclean}")
    resident = of_engines("process_resident_memory_bytes")
    yield Recording(MEMORY, resident, {"process": "front end"})
    # The runtime process that holds most, and what one of them keeps of prompts on average.
    processes = f"sum by (instance, job) ({of_engines('phase5_replicas')})"
    kept = f"{of_engines('phase5_prefix_bytes')} / {processes}"
    yield Recording(MEMORY, f"{of_engines('phase5_memory_bytes')} - {kept}", {"process": "runtime"})


#: The names of the requirements, which engines serve as well, each for itself.
REQUIRED: Final = tuple(recording.name for recording in _required(Clock()))
