import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from told_engine import FIRST, FLAG, HEADER, OFF, ON, ToldEngine

from engine.core.flags import FLAGS
from gates.exposition import SAMPLES, Scrape, parse
from gates.ledger import CONTROL, TREATMENT
from gates.policy import load_policy
from gates.readings import SLOW_SECONDS, Asked, Seen, seen

ASKED = Asked(flag=FLAG, epoch=3, share=0.2, edges=(HEADER.ttft_edges, HEADER.latency_edges))


def one(engine: ToldEngine, **more: Any) -> Seen:
    return seen(FIRST, [engine.scrape(FIRST)], replace(ASKED, **more))


def doubt_of(text: str, *, age: float = 2.0) -> str:
    scrape = Scrape(target="a:1", at=FIRST * 60 - age, samples=parse(text, "a:1"))
    found = seen(FIRST, [scrape], ASKED)
    return "; ".join(found.doubts)


def served() -> ToldEngine:
    engine = ToldEngine()
    engine.serve(ON, 6)
    engine.serve(ON, 2, "failed", ttft=0.7)
    engine.serve(ON | {"qos_monitoring"}, 3)
    engine.serve(OFF, 20)
    engine.serve(OFF, 1, "shed")
    engine.serve(OFF, 1, "cancelled")
    return engine


def test_arms_are_told_apart_whatever_the_other_flags() -> None:
    engine = served()
    reading = one(engine).readings["e1"]
    treatment, control = reading.counts
    assert (treatment.arm, control.arm) == (TREATMENT, CONTROL)
    assert (treatment.ok, treatment.failed, treatment.n) == (9, 2, 11)
    assert (control.ok, control.shed, control.cancelled, control.early) == (20, 1, 1, 0)
    assert sum(treatment.ttft) == 11
    assert sum(treatment.latency) == 9
    assert reading.cells["ttft_pipeline"] == (8, 2, 8, 2)
    assert reading.cells["ttft_pipeline+qos_monitoring"] == (3, 0, 3, 0)
    assert reading.cells["off"] == (20, 0, 21, 0)
    assert (reading.commit, reading.config_sha256, reading.started) == ("c0ffee", "def", FIRST * 60)


def test_keys_are_counted_for_each_arm() -> None:
    engine = ToldEngine()
    engine.serve(ON, 3, key="a")
    engine.serve(ON, 3, "failed", key="a")
    for _ in range(60):
        engine.serve(OFF, 1, key="busy")
    treatment, control = one(engine).readings["e1"].counts
    assert (treatment.new_keys, treatment.bad_squares, treatment.keyed) == (3, 3, 3)
    assert (control.new_keys, [*control.busiest.values()]) == (1, [60])


def test_a_sound_engine_leaves_no_doubt() -> None:
    found = one(served())
    assert (found.doubts, found.held) == ((), False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 4}, "e1 is at epoch 3 of ttft_pipeline, not 4"),
        ({"share": 0.5}, "e1 serves 20 % of ttft_pipeline, not 50 %"),
        ({"edges": ((0.1,), (0.1,))}, "e1 has other buckets than the ledger"),
    ],
)
def test_what_serves_must_be_what_the_ledger_is_about(change: dict[str, Any], reason: str) -> None:
    found = one(served(), **change)
    assert found.doubts == (reason,)
    assert found.readings["e1"].counts == ()


def test_one_missed_scrape_is_too_old() -> None:
    text = served().text()
    assert not doubt_of(text, age=15.0)
    assert doubt_of(text, age=30.0) == (
        "e1 was seen last 30 s before the minute's edge; allowed: 16"
    )


def without(pattern: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"^{pattern}.*\n", "", text, count=1, flags=re.MULTILINE)


def instead(pattern: str, value: str) -> Callable[[str], str]:
    return lambda text: re.sub(
        rf"^({pattern}\S*) .*$", rf"\1 {value}", text, count=1, flags=re.MULTILINE
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without("phase5_build_info"), "a:1 does not tell which engine and build it is"),
        (without("phase5_requests_total"), "e1 tells phase5_requests_total in part"),
        (without("phase5_early_cancels_total"), "e1 tells phase5_early_cancels_total in part"),
        (without("phase5_time_to_first_token_seconds_bucket"), "in part"),
        (without('phase5_request_duration_seconds_bucket.*le="[+]Inf"'), "in part"),
        (without("phase5_flag_epoch.*ttft"), "tells phase5_flag_epoch 0 times, not once"),
        (without("phase5_flag_percentage.*ttft"), "phase5_flag_percentage 0 times, not once"),
        (without("phase5_start_time_seconds"), "phase5_start_time_seconds 0 times, not once"),
        (without("phase5_flag_held.*ttft"), "e1 tells phase5_flag_held 0 times, not once"),
        (without("phase5_runtime_restarts_total"), "does not tell phase5_runtime_restarts_total"),
        (without("phase5_unclean_starts_total"), "does not tell phase5_unclean_starts_total"),
        (instead("phase5_requests_total", "NaN"), "e1 tells nan for phase5_requests_total"),
        (instead("phase5_requests_total", "+Inf"), "e1 tells inf for phase5_requests_total"),
        (instead("phase5_requests_total", "-1"), "e1 tells -1.0 for phase5_requests_total"),
        (instead("phase5_requests_total", "0.5"), "e1 tells 0.5 for phase5_requests_total"),
        (instead('phase5_time.*_bucket.*le="0.4"', "9e9"), "with a bucket that falls"),
        (lambda text: text.replace('ttft_pipeline="on"', 'x="on"'), "without the arms of every"),
        (lambda _: "", "a:1 does not tell which engine and build it is"),
    ],
)
def test_what_lacks_or_is_no_number_is_doubted(damage: Callable[[str], str], reason: str) -> None:
    text = served().text()
    damaged = damage(text)
    assert damaged != text
    assert reason in doubt_of(damaged)


def test_one_engine_told_by_two_targets_is_doubted() -> None:
    engine = served()
    both = [engine.scrape(FIRST), engine.scrape(FIRST, target="other:9")]
    assert seen(FIRST, both, ASKED).doubts == ("e1 is told twice, as e1:8000 and other:9",)


def test_engines_with_different_models_are_doubted() -> None:
    scrapes = [ToldEngine(n, model=m).scrape(FIRST) for n, m in (("e1", "m1"), ("e2", "m2"))]
    assert seen(FIRST, scrapes, ASKED).doubts == ("engines differ in model",)


def test_an_engine_that_is_doubted_still_tells_how_long_it_lives() -> None:
    engine = served()
    engine.restarts = 2
    assert one(engine, epoch=9).lives["e1"].crashes == 2


def test_a_text_parses_to_the_samples_that_were_told() -> None:
    engine = served()
    scrape = engine.scrape(FIRST)
    told = {(s.name, *sorted(s.labels.items())): s.value for s in scrape.samples}
    parsed = parse(engine.text(), "a:1")
    assert {(s.name, *sorted(s.labels.items())): s.value for s in parsed} == told
    assert len(parsed) == len(scrape.samples)


def test_every_family_that_a_ledger_is_made_of_comes_from_the_engine() -> None:
    engine = served()
    for _ in range(60):
        engine.serve(OFF, 1, key="busy")
    given = {sample.name for sample in parse(engine.text(), "a")}
    assert set(SAMPLES) <= given


def test_the_slow_ones_of_attribution_are_those_over_the_live_limit() -> None:
    assert load_policy().criteria["live_ttft_p95"].limit == SLOW_SECONDS
    assert SLOW_SECONDS in HEADER.ttft_edges
    assert len(FLAGS) == 4
