from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from told_engine import FIRST, HEADER, ToldEngine

from gates.hygiene import answer_faults, clock_fault, limit_faults, query_faults
from gates.live import Edge
from gates.policy import load_policy
from gates.prometheus import Prometheus

LIVE = [c for c in load_policy().criteria.values() if c.source == "live"]
COUNT = 'phase5_requests_total{ttft_pipeline="on",outcome="failed"}'


@pytest.mark.parametrize(
    "query",
    [
        COUNT,
        f"sum(increase({COUNT}[1m]))",
        "sum by (ttft_pipeline, outcome) (increase(phase5_requests_total[60s]))",
        "sum without (instance) (phase5_requests_total)",
        "phase5_flag_epoch or phase5_generation",
        "1000 * phase5_flag_epoch / 2",
    ],
)
def test_counts_of_an_arm_may_be_asked_for(query: str) -> None:
    assert query_faults(query, 15) == ()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (f"sum(rate({COUNT}[30s]))", "rate over 30 s: fewer than 4 scrapes of 15 s; allowed: 60"),
        (f"irate({COUNT}[59s])", "irate over 59 s"),
        (f"sum({COUNT}) or vector(0)", "a number is put in where there is none"),
        (f"(sum({COUNT}) or (vector(0))) > 1", "a number is put in where there is none"),
        (f"vector(0) or {COUNT}", "a number is put in where there is none"),
        (f"sum({COUNT}) / sum({COUNT})", "a ratio: ask for both counts"),
        (
            (
                "histogram_quantile(0.95, sum by (le, ttft_pipeline) "
                "(rate(phase5_time_to_first_token_seconds_bucket[1m])))"
            ),
            "a quantile: ask for the buckets",
        ),
        ("sum(phase5_requests_total)", "phase5_requests_total without the label of a flag"),
        ("sum by (outcome) (increase(phase5_requests_total[1m]))", "both arms in one number"),
        (
            (
                "sum without (adaptive_governor, http2_transport, ttft_pipeline, qos_monitoring) "
                "(phase5_requests_total)"
            ),
            "both arms in one number",
        ),
        ("sum((", "is no PromQL"),
    ],
)
def test_a_question_that_would_fool_the_judge_is_refused(query: str, reason: str) -> None:
    (fault,) = query_faults(query, 15)
    assert reason in fault


def test_our_own_questions_are_clean() -> None:
    source = Prometheus("http://p", transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    assert [query_faults(query, 15) for query in source.queries()] == [(), ()]
    source.close()


def edge(*engines: ToldEngine) -> Edge:
    return Edge(minute=FIRST, scrapes=tuple(engine.scrape(FIRST) for engine in engines))


def test_engines_that_tell_what_the_ledger_is_about_are_believed() -> None:
    assert answer_faults(edge(ToldEngine("e1"), ToldEngine("e2")), HEADER, LIVE) == ()


@pytest.mark.parametrize(
    ("engines", "reason"),
    [
        ((), "no engine told"),
        ((ToldEngine(commit="new"),), "e1 is of commit new, not c0ffee"),
        ((ToldEngine(config="new"),), "e1 is of config_sha256 new, not def"),
        ((ToldEngine(""),), ":8000 does not tell which engine and build it is"),
    ],
)
def test_an_answer_of_another_build_is_named(engines: tuple[ToldEngine, ...], reason: str) -> None:
    assert reason in answer_faults(edge(*engines), HEADER, LIVE)


def test_another_epoch_is_named() -> None:
    (fault,) = answer_faults(edge(ToldEngine()), replace(HEADER, epoch=4))
    assert fault == "e1 is at epoch 3 of ttft_pipeline, not 4"


def test_a_limit_between_two_edges_is_named() -> None:
    assert list(limit_faults(HEADER, LIVE)) == []
    coarse = replace(HEADER, ttft_edges=(0.1, 0.5, 1.0))
    assert list(limit_faults(coarse, LIVE)) == [
        "live_ttft_p95: its limit 550 ms is no edge of a bucket"
    ]


def test_clocks_may_differ_by_seconds_only() -> None:
    now = datetime.now(UTC)
    assert clock_fault(now + timedelta(seconds=4), now) == ""
    assert clock_fault(now + timedelta(seconds=73), now) == "its clock is 73 s ahead of ours"
    assert clock_fault(now - timedelta(seconds=6), now) == "its clock is 6 s behind ours"
