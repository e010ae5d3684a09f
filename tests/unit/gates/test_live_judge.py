import itertools
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_builders import (
    BESIDE,
    BETTER,
    BLOCKS,
    CANARY,
    CRASHES,
    ERRORS,
    EVERY,
    FIRST,
    FLAG,
    HEADER,
    SHED,
    SOAK,
    TTFT,
    counts,
    drawn,
    just_after,
    row,
    rows,
)

from engine.core.flags import FLAGS
from gates.criteria import WORST_FIRST, Criterion, Measure, Outcome, worst
from gates.findings import Finding
from gates.ledger import CONTROL, TREATMENT, Header, Row
from gates.ledger_file import Ledger
from gates.live_fold import ALPHA_ROLLBACK, LiveFold, alpha_of
from gates.live_judge import decisions, findings, folded, together
from gates.planning import clean_needed_sequential
from gates.simulation.traffic import LATENCY_EDGES, MODELS, TTFT_EDGES, Change, traffic
from gates.verdict import Decision


def judged(
    criterion: Criterion, told: list[Row], *, header: Header = HEADER
) -> tuple[Finding, ...]:
    ledger = Ledger(header=header, rows=tuple(told))
    return findings(criterion, ledger, CANARY, just_after(told), EVERY)


def outcome(criterion: Criterion, told: list[Row], *, header: Header = HEADER) -> Outcome:
    return worst(finding.outcome for finding in judged(criterion, told, header=header))


def decided(told: list[Row], demanded: tuple[Criterion, ...] = EVERY) -> Decision:
    fold = folded(Ledger(header=HEADER, rows=tuple(told)), EVERY, CANARY)
    return decisions(demanded, EVERY, {FLAG: fold}, just_after(told))[FLAG]


# --- the error rate -----------------------------------------------------------------------


def test_fewer_clean_requests_than_needed_hold_and_say_how_many_are_missing() -> None:
    needed = clean_needed_sequential(0.001)
    (finding,) = judged(ERRORS, rows(60))
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert finding.needs == needed - 3_600
    assert f"needs about {needed - 3_600} more" in finding.reason
    assert "1 min at 1 a second" in finding.reason


def test_enough_clean_requests_pass() -> None:
    assert outcome(ERRORS, rows(61)) is Outcome.PASS


def test_a_treatment_that_fails_more_than_control_is_rolled_back_within_minutes() -> None:
    (finding,) = judged(ERRORS, rows(4, treatment=(60, 3, 0)))
    assert (finding.outcome, finding.attributed) == (Outcome.FAIL, True)
    assert "5 % > 0.1 %" in finding.reason
    assert "confidently worse than control" in finding.reason


def test_errors_of_both_arms_hold_and_page() -> None:
    (finding,) = judged(ERRORS, rows(120, treatment=(300, 1, 0), control=(1_200, 4, 0)))
    assert (finding.outcome, finding.attributed) == (Outcome.FAIL, False)
    assert "in both arms: not the treatment's doing, page" in finding.reason


def test_both_arms_recover_and_the_treatment_may_pass_again() -> None:
    trouble = rows(120, treatment=(300, 1, 0), control=(1_200, 4, 0))
    calm = [replace(r, minute=r.minute + 120) for r in rows(1_400, (600, 0, 0), (2_400, 0, 0))]
    assert outcome(ERRORS, trouble) is Outcome.FAIL
    assert outcome(ERRORS, [*trouble, *calm]) is Outcome.PASS


def test_without_any_control_the_limit_alone_decides() -> None:
    alone = [row(m, counts(TREATMENT, 60, 3)) for m in range(6)]
    assert decided(alone) is Decision.ROLLBACK


def test_attribution_off_takes_the_limit_literally() -> None:
    both = rows(120, treatment=(300, 1, 0), control=(1_200, 4, 0))
    literal = replace(ERRORS, attribution=False)
    ledger = Ledger(header=HEADER, rows=tuple(both))
    (finding,) = findings(literal, ledger, CANARY, just_after(both))
    assert finding.attributed


def test_what_was_broken_stays_broken() -> None:
    late = [replace(r, minute=r.minute + 5) for r in rows(1_435)]
    told = [*rows(5, treatment=(60, 6, 0)), *late]
    (finding,) = judged(ERRORS, told)
    assert finding.attributed
    assert decided(told) is Decision.ROLLBACK


def test_errors_of_one_broken_client_do_not_roll_back() -> None:
    one_key = [
        row(
            m,
            replace(counts(TREATMENT, 60, 12 if m == 2 else 0), bad_squares=312 if m == 2 else 0),
            counts(CONTROL, 240),
        )
        for m in range(60)
    ]
    many_keys = [
        replace(r, counts=(replace(r.counts[0], bad_squares=r.counts[0].bad), r.counts[1]))
        for r in one_key
    ]
    assert decided(one_key) is Decision.HOLD
    assert decided(many_keys) is Decision.ROLLBACK


def test_the_chance_of_a_wrong_rollback_is_shared_out_and_no_more() -> None:
    counted = [c for c in EVERY if c not in (SOAK, CRASHES)]
    spent = {c.measure: alpha_of(c, counted) for c in counted if c.critical}
    assert spent[Measure.ERROR_RATE] == spent[Measure.TTFT]
    assert len(FLAGS) * sum(spent.values()) == pytest.approx(ALPHA_ROLLBACK)


# --- times --------------------------------------------------------------------------------


def test_times_within_the_limit_pass_and_far_over_it_roll_back() -> None:
    assert outcome(TTFT, drawn(300, 1, slow=(0.02, 0.02))) is Outcome.PASS
    (finding,) = judged(TTFT, drawn(60, 2, slow=(0.3, 0.03)))
    assert (finding.outcome, finding.attributed) == (Outcome.FAIL, True)
    assert "over 550 ms > 5 %" in finding.reason


def test_a_limit_between_edges_is_read_in_doubt_against_a_pass_and_against_a_rollback() -> None:
    between = replace(TTFT, limit=0.9)  # the slow ones of the builders lie between 0.8 and 1.2
    slow = drawn(120, 3, slow=(0.3, 0.0))
    assert [f.outcome for f in judged(between, slow)] == [Outcome.INCONCLUSIVE]


def test_equal_times_pass_beside_control_and_are_no_improvement() -> None:
    rates = {frozenset({FLAG}): 60.0, frozenset[str](): 240.0}
    minutes = traffic(MODELS["E1"], rates, 400, Change(), np.random.default_rng(4)).minutes[FLAG]
    header = replace(HEADER, ttft_edges=TTFT_EDGES, latency_edges=LATENCY_EDGES)
    fold = LiveFold.of(header, EVERY, CANARY)
    fold.take(minutes)
    assert fold.watches[BESIDE.id].met
    assert not fold.watches[BETTER.id].met


def test_faster_is_an_improvement_and_slower_is_rolled_back() -> None:
    assert outcome(BETTER, drawn(300, 5, slow=(0.01, 0.03))) is Outcome.PASS
    assert decided(drawn(60, 6, slow=(0.15, 0.03))) is Decision.ROLLBACK


def test_more_shed_requests_than_control_do_not_pass() -> None:
    def told(shed: int) -> list[Row]:
        return [
            row(m, counts(TREATMENT, 60, shed=shed), counts(CONTROL, 240, shed=12))
            for m in range(200)
        ]

    assert outcome(SHED, told(3)) is Outcome.PASS
    assert judged(SHED, told(30))[-1].outcome is Outcome.FAIL


# --- soak, crashes, backstop --------------------------------------------------------------


def test_the_soak_counts_valid_minutes_only() -> None:
    assert outcome(SOAK, rows(1_440)) is Outcome.PASS
    broken = [replace(r, invalid="counter reset") if r.minute % 2 else r for r in rows(1_440)]
    (finding,) = judged(SOAK, broken)
    assert (finding.outcome, finding.needs) == (Outcome.INCONCLUSIVE, 720)
    assert "720 without valid evidence (counter reset)" in finding.reason


def test_a_crash_class_event_rolls_back_and_one_restart_does_not() -> None:
    once = [*rows(30)[:-1], row(29, crashes={"e1": 1})]
    twice = [*once, row(30, crashes={"e1": 1})]
    assert outcome(CRASHES, once) is Outcome.PASS
    assert decided(once) is Decision.HOLD
    assert decided(twice) is Decision.ROLLBACK


def outage(minutes: int, share: int = 50) -> list[Row]:
    bad = rows(minutes, treatment=(60, share * 60 // 100, 0), control=(240, share * 240 // 100, 0))
    return [*rows(600), *(replace(r, minute=r.minute + 600) for r in bad)]


def test_an_outage_of_both_arms_rolls_every_flag_back_after_five_minutes_and_not_before() -> None:
    assert decided(outage(4)) is Decision.HOLD
    assert decided(outage(5)) is Decision.ROLLBACK
    worst_finding = min(judged(ERRORS, outage(5)), key=lambda f: WORST_FIRST.index(f.outcome))
    assert worst_finding.flags == frozenset()


def test_below_tenfold_both_arms_hold() -> None:
    mild = rows(60, treatment=(240, 1, 0), control=(960, 4, 0))
    assert decided(mild) is Decision.HOLD


def test_an_invalid_minute_does_not_end_an_outage_and_a_sound_one_does() -> None:
    told = outage(6)
    holed = [*told[:-3], replace(told[-3], invalid="counter reset"), *told[-2:]]
    mended = [*told[:-3], replace(rows(1)[0], minute=told[-3].minute), *told[-2:]]
    assert decided(holed) is Decision.ROLLBACK
    assert decided(mended) is Decision.HOLD


# --- what cannot be believed --------------------------------------------------------------


def healthy() -> list[Row]:
    return drawn(1_440, 7, slow=(0.01, 0.03))


def test_a_healthy_day_is_promoted() -> None:
    assert decided(healthy(), (SOAK, CRASHES, ERRORS, TTFT, BESIDE, BETTER)) is Decision.PROMOTE


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        (lambda told: [*told, replace(told[-2], crashes={"e9": 1})], Outcome.INVALID),
        (lambda told: [*told[:100], *told[99:]], Outcome.PASS),
        (
            lambda told: [
                replace(r, counts=(replace(r.counts[0], busiest={"heavy": 20}), r.counts[1]))
                for r in told
            ],
            Outcome.INCONCLUSIVE,
        ),
        (lambda told: [replace(r, commit="other") for r in told], Outcome.NO_DATA),
        (
            lambda told: [replace(r, counts=(r.counts[0], counts(CONTROL, 120))) for r in told],
            Outcome.INVALID,
        ),
    ],
)
def test_a_damaged_ledger_never_passes(damage: object, seen: Outcome) -> None:
    told = damage(healthy())  # type: ignore[operator] # a function of the rows
    found = judged(ERRORS, told)
    assert worst(f.outcome for f in found) is seen


def test_the_configured_share_is_no_mismatch() -> None:
    fold = folded(Ledger(header=HEADER, rows=tuple(drawn(1_440, 8))), EVERY, CANARY)
    assert fold.ratio.mismatch == ""


def test_a_stale_ledger_is_no_data_and_one_from_the_future_is_invalid() -> None:
    told = healthy()
    ledger = Ledger(header=HEADER, rows=tuple(told))
    for later, seen in ((4, Outcome.PASS), (9, Outcome.NO_DATA), (-9, Outcome.INVALID)):
        now = just_after(told) + timedelta(minutes=later)
        found = findings(ERRORS, ledger, CANARY, now, EVERY)
        assert worst(f.outcome for f in found) is seen


def test_an_empty_ledger_and_one_with_damage_never_pass() -> None:
    now = just_after(rows(1))
    for ledger in (
        Ledger(header=HEADER),
        Ledger(header=HEADER, rows=tuple(healthy()), problems=("line 7: not a ledger's row",)),
    ):
        for criterion in EVERY:
            found = findings(criterion, ledger, CANARY, now, EVERY)
            assert worst(f.outcome for f in found) is not Outcome.PASS


@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(0, 90)),
        min_size=1,
        max_size=40,
    )
)
def test_no_short_story_is_promoted(story: list[tuple[int, int, int]]) -> None:
    told = [
        row(m, counts(TREATMENT, max(n, bad, slow), bad, slow), counts(CONTROL, 240))
        for m, (n, bad, slow) in enumerate(story)
    ]
    assert decided(told) is not Decision.PROMOTE


@settings(max_examples=30)
@given(
    st.integers(0, 10_000), st.floats(0, 0.004), st.floats(0.1, 1), st.sampled_from([TTFT, ERRORS])
)
def test_a_stricter_limit_never_turns_fail_into_pass(
    seed: int, rate: float, stricter: float, criterion: Criterion
) -> None:
    strict = replace(criterion, limit=stricter * (criterion.limit or 0))
    told = drawn(120, seed, errors=(rate, 0.0002), slow=(rate * 50, 0.03))
    loose, tight = outcome(criterion, told), outcome(strict, told)
    assert not (loose is not Outcome.PASS and tight is Outcome.PASS)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.002, 0.02]), st.sampled_from(EVERY))
def test_adding_a_criterion_never_improves_a_decision(
    seed: int, rate: float, added: Criterion
) -> None:
    told = drawn(90, seed, errors=(rate, 0.0002))
    demanded = (ERRORS, TTFT)
    order = list(Decision)
    before = decided(told, demanded)
    after = decided(told, (*demanded, added))
    assert order.index(after) <= order.index(before)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 119), max_size=8))
def test_the_same_ledger_says_the_same_however_it_was_polled(seed: int, cuts: list[int]) -> None:
    told = drawn(120, seed, errors=(0.002, 0.0002), slow=(0.05, 0.04))
    at_once = folded(Ledger(header=HEADER, rows=tuple(told)), EVERY, CANARY)
    polled = LiveFold.of(HEADER, EVERY, CANARY)
    edges = sorted({0, 120, *cuts})
    for begin, end in itertools.pairwise(edges):
        polled.extend(told[begin:end])
        polled.findings(ERRORS, just_after(told))
    now = just_after(told)
    for criterion in EVERY:
        assert at_once.findings(criterion, now) == polled.findings(criterion, now)


# --- several flags, and blocks ------------------------------------------------------------


def two_flags(cells: dict[str, tuple[int, int, int, int]]) -> dict[str, Finding]:
    """Both flags' treatment fails more than control; the cells tell whose doing it is."""
    told = rows(10, treatment=(60, 3, 0))
    told = [replace(r, cells=cells) for r in told]
    other = replace(HEADER, flag="http2_transport")
    folds = {
        h.flag: folded(Ledger(header=h, rows=tuple(told)), EVERY, CANARY) for h in (HEADER, other)
    }
    return {min(f.flags): f for f in together(ERRORS, folds, just_after(told))}


def test_of_two_suspects_only_the_guilty_one_is_rolled_back() -> None:
    found = two_flags(
        {
            "off": (200, 0, 0, 0),
            "http2_transport": (200, 0, 0, 0),
            "ttft_pipeline": (100, 5, 0, 0),
            "http2_transport+ttft_pipeline": (100, 5, 0, 0),
        }
    )
    assert found["ttft_pipeline"].attributed
    assert not found["http2_transport"].attributed
    assert found["http2_transport"].outcome is Outcome.FAIL
    assert "attribution: ttft_pipeline" in found["ttft_pipeline"].reason


def test_where_it_cannot_be_told_all_suspects_are_rolled_back() -> None:
    found = two_flags({"off": (200, 0, 0, 0), "http2_transport+ttft_pipeline": (200, 9, 0, 0)})
    assert all(finding.attributed for finding in found.values())
    assert "cannot tell which flag it is" in found["http2_transport"].reason


def by_block(length: int, slow: tuple[float, float], seed: int) -> list[Row]:
    """Four engines whose blocks are treated at random, half of them."""
    rng = np.random.default_rng(seed)
    told = []
    for block in range(length):
        arms = [TREATMENT if rng.random() < 0.5 else CONTROL for _ in range(4)]
        for minute in range(5):
            each = [
                counts(arm, 60, 0, int(rng.binomial(60, slow[arm == CONTROL])), engine=f"e{i}")
                for i, arm in enumerate(arms)
            ]
            told.append(row(block * 5 + minute - FIRST % 5, *each))
    return told


def test_a_flag_that_is_assigned_by_blocks_is_judged_by_pairs_of_blocks() -> None:
    sound = by_block(80, (0.03, 0.03), 1)
    slow = by_block(80, (0.3, 0.03), 2)
    assert judged(BESIDE, slow, header=BLOCKS)[-1].attributed
    assert not any(f.attributed for f in judged(BESIDE, sound, header=BLOCKS))


def test_one_block_is_one_observation_however_many_requests_it_has() -> None:
    few_blocks = by_block(4, (0.9, 0.0), 3)
    assert not any(f.attributed for f in judged(BESIDE, few_blocks, header=BLOCKS))


@settings(max_examples=15)
@given(st.integers(0, 1_000), st.lists(st.integers(1, 59), max_size=8))
def test_blocks_say_the_same_however_they_were_polled(seed: int, cuts: list[int]) -> None:
    told = by_block(12, (0.2, 0.03), seed)
    at_once = folded(Ledger(header=BLOCKS, rows=tuple(told)), EVERY, CANARY)
    polled = LiveFold.of(BLOCKS, EVERY, CANARY)
    for begin, end in pairwise(sorted({0, 60, *cuts})):
        polled.extend(told[begin:end])
    now = just_after(told)
    for criterion in EVERY:
        assert at_once.findings(criterion, now) == polled.findings(criterion, now)
