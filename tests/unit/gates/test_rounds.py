"""Throughput, streams and connections: from samples to findings."""

from dataclasses import replace

import pytest
from gate_builders import measurement, sample
from kind_builders import POLICY, block, crowd, in_turn, over

from gates.criteria import Criterion, Kind, Measure, Outcome
from gates.evidence import Measurement
from gates.findings import Finding
from gates.groups import grouped
from gates.kinds import assess
from gates.samples import Outcome as Ended

RATIO, FLOOR = POLICY["throughput_vs_control"], POLICY["throughput_rps"]
STREAMS, CONNECTIONS = POLICY["streams_75"], POLICY["connection_overhead"]
HITS = POLICY["prefix_hit_rate"]


def found(criterion: Criterion, *measured: Measurement) -> list[Finding]:
    (group,) = grouped(measured)
    return list(assess(criterion, group))


@pytest.mark.parametrize(
    ("rounds", "faster", "outcome"),
    [
        (20, 1.6, Outcome.PASS),
        (20, 1.3, Outcome.INCONCLUSIVE),
        (20, 1.0, Outcome.FAIL),
        (12, 1.6, Outcome.INCONCLUSIVE),
    ],
)
def test_throughput_is_compared_round_by_round(
    rounds: int, faster: float, outcome: Outcome
) -> None:
    (finding,) = found(RATIO, in_turn(rounds, faster))
    assert (finding.outcome, finding.n) == (outcome, rounds)
    assert finding.estimate == pytest.approx(faster)
    assert (finding.needs is None) == (outcome is not Outcome.INCONCLUSIVE or faster == 1.3)


def test_a_throughput_states_ratio_margin_and_rounds() -> None:
    (finding,) = found(RATIO, in_turn(20, 1.0))
    assert finding.reason.startswith("throughput_vs_control 1 < 1.3 (95 % interval 0.")
    assert finding.reason.endswith("n=20 rounds, flags=all, model=tiny)")


def test_not_worse_than_control_has_its_margin_below_one() -> None:
    safe = replace(RATIO, kind=Kind.NON_INFERIORITY, margin=0.8, stretch=None)
    assert found(safe, in_turn(20, 1.0))[0].outcome is Outcome.PASS
    assert found(safe, in_turn(20, 0.5))[0].outcome is Outcome.FAIL


def test_rounds_that_do_not_pair_are_set_aside_and_the_others_count() -> None:
    whole = in_turn(20, 1.0)
    spoilt = {
        "lone": {"samples": whole.samples[:-10]},
        "alone": {"samples": tuple(s for s in whole.samples if s.arm == "treatment")},
        "broken": {
            "samples": tuple(
                replace(s, outcome=Ended.FAILED) if s.arm == "control" else s for s in whole.samples
            )
        },
    }
    for name, change in spoilt.items():
        findings = found(RATIO, whole, replace(whole, id=name, **change))
        assert [f.outcome for f in findings] == [Outcome.INCONCLUSIVE, Outcome.FAIL]


def test_throughput_beside_other_workers_is_not_judged() -> None:
    (finding,) = found(RATIO, in_turn(20, 1.6, workers=2))
    assert finding.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("rate", "outcome"), [(200, Outcome.PASS), (130, Outcome.INCONCLUSIVE), (90, Outcome.FAIL)]
)
def test_a_floor_takes_the_median_stretch_of_a_run(rate: float, outcome: Outcome) -> None:
    long = measurement("t", [FLOOR.id], samples=tuple(block("treatment", 1, rate, 2_000)))
    (finding,) = found(FLOOR, long)
    assert finding.estimate == pytest.approx(rate, rel=0.02)
    assert finding.outcome is outcome or (rate == 130 and finding.outcome is not Outcome.FAIL)


def test_a_floor_judges_each_run_by_itself() -> None:
    runs = [
        measurement("t", [FLOOR.id], samples=tuple(block("treatment", 1, rate, 2_000)), id=str(n))
        for n, rate in enumerate((200, 90))
    ]
    assert [f.outcome for f in found(FLOOR, *runs)] == [Outcome.PASS, Outcome.FAIL]


def test_nothing_sent_is_no_throughput() -> None:
    (finding,) = found(FLOOR, measurement("t", [FLOOR.id], samples=()))
    assert finding.outcome is Outcome.NO_DATA


@pytest.mark.parametrize(
    ("streams", "waiting", "turns", "outcome"),
    [
        (75, 0, 10, Outcome.PASS),
        (100, 0, 10, Outcome.PASS),
        (50, 25, 10, Outcome.FAIL),
        (74, 0, 20, Outcome.INCONCLUSIVE),
        (75, 0, 2, Outcome.INCONCLUSIVE),
    ],
)
def test_streams_count_while_they_are_generated(
    streams: int, waiting: int, turns: int, outcome: Outcome
) -> None:
    (finding,) = found(STREAMS, crowd(streams, turns, waiting))
    assert finding.outcome is outcome


def test_streams_that_failed_were_not_held() -> None:
    whole = crowd(80)
    failed = tuple(replace(s, outcome=Ended.CUT) if s.index % 2 else s for s in whole.samples)
    (finding,) = found(replace(STREAMS, min_samples=400), replace(whole, samples=failed))
    assert finding.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("new", "outcome"),
    [(2, Outcome.PASS), (30, Outcome.PASS), (31, Outcome.FAIL), (50, Outcome.FAIL)],
)
def test_connections_over_http2_are_a_share_of_those_over_http1(new: int, outcome: Outcome) -> None:
    (finding,) = found(CONNECTIONS, over("h1", 50), over("h2", new))
    assert (finding.outcome, finding.estimate) == (outcome, new / 50)


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        ((over("h1", 50),), Outcome.NO_DATA),
        ((over("h1", 50), over("h2", None)), Outcome.NO_DATA),
        ((over("h1", 50), over("h2", 2, requests=10)), Outcome.INCONCLUSIVE),
        ((over("h1", 0), over("h2", 2)), Outcome.NO_DATA),
    ],
    ids=["one protocol", "no reading", "few requests", "none held"],
)
def test_connections_that_cannot_be_compared_do_not_pass(
    runs: tuple[Measurement, ...], outcome: Outcome
) -> None:
    assert {f.outcome for f in found(CONNECTIONS, *runs)} == {outcome}


def test_a_run_over_two_protocols_tells_nothing() -> None:
    mixed = over("h1", 50)
    turned = tuple(replace(s, protocol="h2") if s.index % 2 else s for s in mixed.samples)
    outcomes = {f.outcome for f in found(CONNECTIONS, replace(mixed, samples=turned))}
    assert outcomes == {Outcome.INCONCLUSIVE, Outcome.NO_DATA}


@pytest.mark.parametrize(
    ("hits", "outcome"),
    [(40, Outcome.PASS), (12, Outcome.INCONCLUSIVE), (1, Outcome.FAIL), (0, Outcome.FAIL)],
)
def test_a_hit_rate_is_confidently_over_its_floor(hits: int, outcome: Outcome) -> None:
    samples = tuple(sample(i, "all", cached_tokens=64 if i < hits else 0) for i in range(100))
    (finding,) = found(HITS, measurement("t", [HITS.id], samples=samples))
    assert (finding.outcome, finding.estimate) == (outcome, hits / 100)
    assert finding.interval is not None
    assert finding.interval.low <= hits / 100 <= finding.interval.high


def test_an_engine_that_tells_no_hits_has_not_missed() -> None:
    samples = tuple(sample(i, "all") for i in range(100))
    (finding,) = found(HITS, measurement("t", [HITS.id], samples=samples))
    assert finding.outcome is Outcome.NO_DATA


def test_an_improvement_of_a_time_lies_under_its_margin() -> None:
    improved = POLICY["ttft_p95_improved"]
    assert (improved.kind, improved.measure) == (Kind.IMPROVEMENT, Measure.TTFT)
