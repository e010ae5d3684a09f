from typing import Any

import pytest

from engine.core.flags import FLAGS
from engine.server.metrics import DURATION_BUCKETS, OUTCOMES, PROTOCOLS, TTFT_BUCKETS
from engine.server.recent import Ended, Recent

REQUIRED = (
    *("ttft_p95_ms", "throughput_rps", "throughput_tps", "concurrent_streams", "error_rate"),
    *("qos_violations_total", "remediations_executed", "http2_connections"),
    *("ttft_pipeline_hits", "pid_concurrency_limit"),
)


def samples(bench: Any) -> dict[str, list[dict[str, str]]]:
    """Labels of every sample of a scrape, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in bench.engine.metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_every_child_is_there_before_the_first_request(make_bench: Any) -> None:
    found = samples(make_bench())
    arms = 2 ** len(FLAGS)
    assert len(found["phase5_requests_total"]) == arms * len(OUTCOMES) * len(PROTOCOLS)
    for name in ("time_to_first_token_seconds", "request_duration_seconds", "inter_token_seconds"):
        assert len(found[f"phase5_{name}_count"]) == arms
    assert len(found["phase5_output_tokens_total"]) == arms
    assert {labels["flag"] for labels in found["phase5_flag_epoch"]} == set(FLAGS)


@pytest.mark.parametrize("name", REQUIRED)
def test_the_names_of_the_requirements_are_served(make_bench: Any, name: str) -> None:
    lines = make_bench().get("/metrics").text.splitlines()
    assert any(line.startswith((f"{name} ", f"{name}{{")) for line in lines)


def test_no_series_tells_when_it_was_created(make_bench: Any) -> None:
    assert not [name for name in samples(make_bench()) if name.endswith("_created")]


@pytest.mark.parametrize("limit", [0.4, 0.55, 0.6, 0.8, 1.2])
def test_limits_of_the_requirements_are_bucket_edges(limit: float) -> None:
    assert limit in TTFT_BUCKETS
    assert limit in DURATION_BUCKETS


def ended(now: float, outcome: str = "ok", ttft: float | None = 0.1, **more: Any) -> Ended:
    fields = {"tokens": 10, "pipeline": False, "hit": False, **more}
    return Ended(now=now, outcome=outcome, ttft=ttft, **fields)


def test_gauges_are_over_the_last_minute() -> None:
    recent = Recent(0.0)
    recent.add(ended(1.0, ttft=9.0, tokens=1000))
    for second in range(60, 90):
        recent.add(ended(float(second), ttft=0.2))
    assert recent.ttft_p95_ms(90.0) == 200
    assert recent.rps(90.0) == 0.5
    assert recent.tps(90.0) == 5
    assert recent.ttft_p95_ms(1000.0) == 0


@pytest.mark.parametrize(
    ("outcomes", "rate"),
    [
        ((), 0),
        (("ok", "ok", "ok", "failed"), 0.25),
        (("ok", "cut"), 0.5),
        (("ok", "shed", "rejected", "cancelled"), 0),
    ],
)
def test_only_our_own_failures_are_errors(outcomes: tuple[str, ...], rate: float) -> None:
    recent = Recent(0.0)
    for outcome in outcomes:
        recent.add(ended(1.0, outcome))
    assert recent.error_rate(2.0) == rate


def test_the_hit_rate_is_over_the_streams_of_the_pipeline() -> None:
    recent = Recent(0.0)
    for pipeline, hit in ((True, True), (True, False), (False, False)):
        recent.add(ended(1.0, pipeline=pipeline, hit=hit))
    assert recent.hit_rate(2.0) == 0.5
