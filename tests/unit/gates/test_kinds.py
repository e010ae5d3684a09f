"""The kinds of criteria on single groups, those included that no door lists yet."""

from dataclasses import replace
from typing import Any

import pytest
from gate_builders import answers, measurement, paired, policy, sample, traffic

from engine.core.flags import FLAGS
from gates.criteria import JUDGED, Criterion, Kind, Measure, Outcome, worst
from gates.findings import Finding
from gates.groups import grouped
from gates.kinds import JUDGES, assess, judgeable
from gates.samples import Outcome as Ended
from gates.text import grouped_digits, ms, percent

TTFT = Criterion(
    id="ttft_p95_ms",
    kind=Kind.CEILING,
    measure=Measure.TTFT,
    direction="lower",
    limit=0.55,
    quantile=0.95,
    min_samples=59,
    critical=True,
)


def only(criterion: Criterion, samples: Any, control: str = "", **changes: Any) -> Finding:
    measured = measurement("t", [criterion.id], "all", control, samples=tuple(samples), **changes)
    (group,) = grouped([measured])
    (finding,) = assess(criterion, group)
    return finding


def with_slow(n: int, slow: int, arm: str = "treatment") -> list[Any]:
    """So many requests, some of them with a first token after a second."""
    times = [1.0] * slow + [0.1] * (n - slow)
    first = 0 if arm == "treatment" else 1_000_000
    return [
        sample(first + i, "all", arm, first_token=first + i + t, end=first + i + t + 1)
        for i, t in enumerate(times)
    ]


@pytest.mark.parametrize(
    ("n", "slow", "outcome", "needs"),
    [
        (59, 0, Outcome.PASS, None),
        (58, 0, Outcome.INCONCLUSIVE, 1),
        (100, 1, Outcome.PASS, None),
        (100, 5, Outcome.INCONCLUSIVE, 108),
        (100, 12, Outcome.FAIL, None),
        (3, 3, Outcome.FAIL, None),
    ],
)
def test_a_quantile_ceiling_counts_the_times_beyond_it(
    n: int, slow: int, outcome: Outcome, needs: int | None
) -> None:
    finding = only(TTFT, with_slow(n, slow))
    assert (finding.outcome, finding.needs, finding.n) == (outcome, needs, n)
    assert finding.flags == frozenset(FLAGS)


def test_a_quantile_ceiling_states_both_numbers() -> None:
    finding = only(TTFT, with_slow(100, 12))
    assert finding.reason == (
        "ttft_p95_ms 1000 ms > 550 ms (95 % interval 1000-1000 ms, n=100, flags=all, model=tiny)"
    )


def test_a_request_without_a_time_is_beyond_every_ceiling() -> None:
    shed = [replace(s, outcome=Ended.SHED, first_token=None) for s in with_slow(40, 0)]
    assert only(TTFT, shed).outcome is Outcome.FAIL


#: (first token, leaving) in seconds from when the request was due, and whether the request is
#: left out, good or an exceedance: for the time to first token, and for the latency.
LEAVERS = {
    "before any text and the limit": (None, 0.2, "out", "out"),
    "at the limit, before any text": (None, 0.55, "out", "out"),
    "beyond the limit, still without text": (None, 0.6, "over", "over"),
    "nobody knows when": (None, None, "over", "over"),
    "after a text in time": (0.1, 0.2, "good", "out"),
    "after a text in time, beyond the limit": (0.1, 5.0, "good", "over"),
    "after a text that came late": (0.6, 0.7, "over", "over"),
}


@pytest.mark.parametrize("place", [0, 1], ids=["ttft", "latency"])
@pytest.mark.parametrize("leaver", LEAVERS.values(), ids=LEAVERS)
def test_a_client_that_leaves_counts_by_what_it_had_waited_for(
    leaver: tuple[float | None, float | None, str, str], place: int
) -> None:
    first, end, *expected = leaver
    criterion = replace(TTFT, measure=(Measure.TTFT, Measure.LATENCY)[place])
    left = sample(0, "all", first_token=first, end=end, outcome=Ended.CANCELLED)
    stayed = [sample(index, "all") for index in range(1, 60)]
    alone, beside = only(criterion, [left]), only(criterion, [left, *stayed])
    n = 0 if expected[place] == "out" else 1
    assert (alone.n or 0, beside.n) == (n, 59 + n)
    assert (alone.outcome is Outcome.NO_DATA) == (n == 0)
    # 59 good ones and nothing else are just enough for a P95.
    assert (beside.outcome is Outcome.PASS) == (expected[place] != "over")


def test_clients_that_leave_do_not_hide_what_the_others_waited() -> None:
    hasty = [
        replace(s, outcome=Ended.CANCELLED, first_token=None, end=s.scheduled + 0.1)
        for s in with_slow(1_000, 0)
    ]
    slow = [replace(s, index=s.index + 10_000) for s in with_slow(100, 12)]
    assert only(TTFT, hasty + slow).reason == only(TTFT, slow).reason


def left(samples: Any, arm: str, indices: range) -> list[Any]:
    """The same, but that the clients of some requests of an arm left before any text."""
    return [
        replace(s, outcome=Ended.CANCELLED, first_token=None, end=s.scheduled + 0.01)
        if s.arm == arm and s.index in indices
        else s
        for s in samples
    ]


@pytest.mark.parametrize(
    ("arm", "words"), [("treatment", "10 against 0"), ("control", "0 against 10")]
)
def test_a_comparison_leaves_out_the_pair_of_a_client_that_left(arm: str, words: str) -> None:
    criterion = policy().criteria["ttft_p95_vs_control"]
    fine = paired(100)
    finding = only(criterion, left(fine, arm, range(20)), control="off")
    rest = only(criterion, [s for s in fine if s.index >= 20], control="off")
    assert (finding.outcome, finding.n) == (Outcome.PASS, 90)
    assert (finding.estimate, finding.interval) == (rest.estimate, rest.interval)
    assert f"clients that left before: {words}" in finding.reason
    assert "clients" not in rest.reason


def test_a_comparison_of_nobody_who_stayed_is_inconclusive() -> None:
    criterion = policy().criteria["ttft_p95_vs_control"]
    finding = only(criterion, left(paired(10), "control", range(20)), control="off")
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "in each of 10 pairs a client left before its time could be told" in finding.reason


def test_a_comparison_keeps_who_left_after_the_first_token() -> None:
    criterion = policy().criteria["ttft_p95_vs_control"]
    fine = paired(100)
    some = [replace(s, outcome=Ended.CANCELLED) if s.index < 20 else s for s in fine]
    kept, all_of_them = only(criterion, some, control="off"), only(criterion, fine, control="off")
    assert kept.reason == all_of_them.reason
    latency = policy().criteria["latency_p95_vs_control"]
    assert only(latency, some, control="off").n == 90


def test_a_ceiling_over_no_request_has_no_data() -> None:
    assert only(TTFT, ()).outcome is Outcome.NO_DATA


@pytest.mark.parametrize(("slow", "attributed"), [(0, True), (30, False)])
def test_a_broken_ceiling_is_attributed_when_control_is_better(slow: int, attributed: bool) -> None:
    samples = [*with_slow(100, 30), *with_slow(100, slow, "control")]
    finding = only(TTFT, samples, control="off")
    assert (finding.outcome, finding.attributed) == (Outcome.FAIL, attributed)


def test_without_attribution_the_ceiling_alone_counts() -> None:
    samples = [*with_slow(100, 30), *with_slow(100, 30, "control")]
    assert only(replace(TTFT, attribution=False), samples, control="off").attributed


def test_streams_that_control_loses_as_well_are_not_the_treatments() -> None:
    criterion = policy().criteria["no_lost_stream"]
    lost = [*traffic(1_000, cut=1), *traffic(1_000, "off", cut=1, arm="control")]
    finding = only(criterion, lost, control="off")
    assert (finding.outcome, finding.attributed) == (Outcome.FAIL, False)
    assert "control lost 1 of 1 000 as well" in finding.reason


def test_runs_of_one_test_are_pooled_and_a_broken_one_hides_nothing() -> None:
    criterion = policy().criteria["ttft_p95_vs_control"]
    slow = measurement("t", [criterion.id], "all", "off", samples=paired(100, slower=2))
    half = replace(slow, id="half", samples=slow.samples[:-1])
    crowded = replace(slow, id="crowded", workers=4)
    (group,) = grouped([slow, half, crowded])
    outcomes = [finding.outcome for finding in assess(criterion, group)]
    assert worst(outcomes) is Outcome.FAIL
    assert outcomes.count(Outcome.INCONCLUSIVE) == 2


def test_groups_keep_models_flag_sets_and_controls_apart() -> None:
    one = answers(n=10)
    others = [
        replace(one, id="b", item="suite::other"),
        measurement(one.item, one.criteria, "off", samples=traffic(10, "off")),
        measurement(one.item, one.criteria, "all", "off", samples=traffic(10)),
    ]
    assert len(grouped([one, *others, replace(one, id="same")])) == 4


def test_a_kind_that_does_not_measure_this_has_no_judge() -> None:
    criterion = replace(TTFT, kind=Kind.INVARIANT)
    assert not judgeable(criterion)
    (group,) = grouped([measurement("t", ["ttft_p95_ms"], samples=traffic(3))])
    with pytest.raises(ValueError, match="has no judge of groups"):
        list(assess(criterion, group))


def test_live_evidence_has_no_judge_yet() -> None:
    assert judgeable(TTFT)
    assert not judgeable(replace(TTFT, source="live"))


@pytest.mark.parametrize(
    ("kind", "measure"),
    [
        (k, m)
        for k, measures in JUDGED.items()
        for m in sorted(measures)
        if m is not Measure.ATTEMPTS
    ],
)
def test_every_kind_that_is_listed_as_judged_has_a_judge(kind: Kind, measure: Measure) -> None:
    criterion = replace(TTFT, kind=kind, measure=measure, margin=1.25, min_samples=10**6)
    (group,) = grouped([measurement("t", [criterion.id], "all", "off", samples=paired(10))])
    found = list(assess(criterion, group))
    assert found
    assert Outcome.PASS not in {finding.outcome for finding in found}


def test_what_is_listed_as_judged_is_what_has_a_judge_of_groups() -> None:
    listed = {(k, m) for k, measures in JUDGED.items() for m in measures}
    assert listed - {(Kind.INVARIANT, Measure.ATTEMPTS)} == set(JUDGES)


def test_no_outcome_at_all_is_no_data() -> None:
    assert worst([]) is Outcome.NO_DATA


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (grouped_digits(8_120), "8 120"),
        (percent(0.0031), "0.31 %"),
        (percent(0.0022, 0.0042), "0.22-0.42 %"),
        (ms(0.612), "612 ms"),
        (ms(0.59, float("inf")), "590-? ms"),
    ],
)
def test_numbers_read_as_in_the_contract(text: str, expected: str) -> None:
    assert text == expected
