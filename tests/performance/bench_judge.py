"""What live judging costs: one poll at a month's history, and a verdict from raw samples.

    ./dev run python tests/performance/bench_judge.py [--days 30] [--polls 200] [--samples 1000000]

A poll takes one more row of a ledger in and gives the findings of ten criteria. The verdict
counts raw samples into minutes and decides by the same ten. The result is one JSON object.
"""

import argparse
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

import numpy as np

from gates.criteria import Criterion
from gates.ledger import CLOSED_AFTER, CONTROL, TREATMENT, Counts, Header, Row, Unit
from gates.live_fold import LiveFold
from gates.live_judge import decisions
from gates.minutes import Columns
from gates.policy import load_policy
from gates.raw_minutes import Raw, minutes_of
from gates.simulation.traffic import (
    FIRST_MINUTE,
    LATENCY_EDGES,
    MODELS,
    TTFT_EDGES,
    Change,
    traffic,
)

FLAG = "ttft_pipeline"
HEADER = Header(
    flag=FLAG,
    epoch=1,
    stage="full",
    share=0.2,
    unit=Unit.KEY,
    commit="c",
    config_sha256="s",
    ttft_edges=TTFT_EDGES,
    latency_edges=LATENCY_EDGES,
)


def ten() -> list[Criterion]:
    """The packaged live criteria that count requests, filled up to ten with stricter twins."""
    live = [c for c in load_policy().criteria.values() if c.source == "live"]
    counted = [c for c in live if c.id not in ("soak", "live_crashes")]
    twins = [replace(c, id=f"{c.id}_2") for c in counted]
    return [*counted, *twins][:10]


def _row(minute: int, arms: dict[str, Columns], place: int) -> Row:
    counts = tuple(
        Counts(
            arm=arm,
            ok=int(columns.n[place] - columns.bad[place]),
            failed=int(columns.bad[place]),
            ttft=tuple(int(n) for n in columns.ttft[place]),
            latency=tuple(int(n) for n in columns.latency[place]),
        )
        for arm, columns in arms.items()
    )
    return Row(minute=minute, counts=counts, engines=("e",), commit="c", config_sha256="s")


def polls(days: int, count: int) -> list[float]:
    """Milliseconds of each poll after so many days."""
    length = days * 1440 - count  # the last poll ends the month: nothing is renewed before
    rates = {frozenset({FLAG}): 60.0, frozenset[str](): 240.0}
    rng = np.random.default_rng(1)
    minutes = traffic(MODELS["E3"], rates, length + count, Change(), rng).minutes[FLAG]
    stage = load_policy().stages["full"]
    criteria = ten()
    fold = LiveFold.of(HEADER, criteria, stage)
    history = minutes.part(0, length)
    fold.ledger.count(history, {})
    fold.take(history)
    arms = {TREATMENT: minutes.treatment, CONTROL: minutes.control}
    times = []
    for place in range(length, length + count):
        row = _row(FIRST_MINUTE + place, arms, place)
        now = datetime.fromtimestamp((row.minute + 1) * 60 + CLOSED_AFTER, UTC)
        begin = time.perf_counter()
        fold.extend([row])
        for criterion in criteria:
            fold.findings(criterion, now)
        times.append(1e3 * (time.perf_counter() - begin))
    return times


def verdict(samples: int) -> float:
    """Milliseconds from raw samples of a day to a decision."""
    rng = np.random.default_rng(2)
    raw = Raw(
        minute=FIRST_MINUTE + rng.integers(0, 1440, samples),
        treated=rng.random(samples) < 0.2,
        failed=rng.random(samples) < 0.0002,
        ttft=rng.lognormal(np.log(0.26), 0.35, samples),
        latency=rng.lognormal(np.log(1.5), 0.35, samples),
    )
    stage, criteria = load_policy().stages["canary"], ten()
    now = datetime.fromtimestamp((FIRST_MINUTE + 1440) * 60 + CLOSED_AFTER, UTC)
    begin = time.perf_counter()
    fold = LiveFold.of(replace(HEADER, stage="canary"), criteria, stage)
    minutes = minutes_of(raw, TTFT_EDGES, LATENCY_EDGES)
    fold.ledger.count(minutes, {})
    fold.take(minutes)
    decisions(criteria, criteria, {FLAG: fold}, now)
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    """Measure, and print one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--polls", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1_000_000)
    options = parser.parse_args()
    times = polls(options.days, options.polls)
    verdicts = [verdict(options.samples) for _ in range(5)]
    result = {
        "days": options.days,
        "criteria": 10,
        "poll_ms": {"median": median(times), "p95": sorted(times)[int(0.95 * len(times))]},
        "samples": options.samples,
        "verdict_ms": {"median": median(verdicts), "worst": max(verdicts)},
    }
    print(json.dumps(result))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
