"""The properties of the judge over every kind: no doubtful evidence promotes, none improves."""

import os
from dataclasses import replace
from typing import Any

import pytest
from gate_builders import (
    NOW,
    RUN,
    answers,
    attempts,
    evidence,
    head,
    pace,
    phases,
    policy,
    request,
    starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_builders import busy, crowd, hits, in_turn, over, reported, survived

from gates.attempts import Attempt
from gates.attempts import Kind as AttemptKind
from gates.criteria import WORST_FIRST, Criterion, Outcome
from gates.evidence import REPORT_ITEM, Measurement
from gates.judge import judge
from gates.samples import Outcome as Ended
from gates.stages import Policy
from gates.verdict import Decision, Verdict, to_json

#: How many times as many examples as in a hurry.
FULL = 20 if os.environ.get("PHASE5_FULL") else 1

ORDER = tuple(Decision)
NAMES = (
    *("flag_sets_start", "error_rate", "no_lost_stream"),
    *("ttft_p95_vs_control", "latency_p95_vs_control", "ttft_p95_improved"),
    *("throughput_rps", "throughput_vs_control", "streams_75", "connection_overhead"),
    *("prefix_hit_rate", "chaos_recovery", "regression_green", "tests_green"),
)


def faster() -> Measurement:
    """First tokens in half the time of control."""
    criteria = ("ttft_p95_vs_control", "latency_p95_vs_control", "ttft_p95_improved")
    return replace(pace(slower=0.5), criteria=criteria)


WHOLE: tuple[Measurement, ...] = (
    *starts(),
    *(answers(), faster(), busy(), replace(in_turn(20, 1.6), item="turns")),
    *(replace(crowd(80), item="crowd"), replace(over("h1", 50), item="links")),
    *(replace(over("h2", 2), item="links"), hits(), survived(), reported()),
)
#: What a session plans: everything but the report of another program.
OWN = tuple(m for m in WHOLE if not m.item.startswith(REPORT_ITEM))
ROWS = attempts(OWN)


def demanding(names: tuple[str, ...] = NAMES, **criteria: Criterion) -> Policy:
    canary = replace(policy().stages["canary"], enter=names)
    stages = {**policy().stages, "canary": canary}
    return replace(policy(), criteria={**policy().criteria, **criteria}, stages=stages)


def judged(measured: tuple[Measurement, ...], rules: Policy | None = None) -> Verdict:
    whole = evidence(measured, attempts=ROWS)
    asked = request(environment={"machine": "linux-x86_64-2cpu"})
    return judge(rules or demanding(), whole, asked)


def test_everything_that_was_shown_promotes() -> None:
    verdict = judged(WHOLE)
    assert {row.id: row.reason for row in verdict.criteria if row.outcome is not Outcome.PASS} == {}
    assert verdict.verdict is Decision.PROMOTE


def _spoilt(fine: Measurement) -> list[Measurement]:
    changes: list[dict[str, Any]] = [
        {"valid": False},
        {"created": ""},
        {"created": NOW.replace(year=2020).isoformat()},
        {"samples": (), "checks": (), "journals": (), "usage": ()},
        {"run": "elsewhere", "commit": "other"},
    ]
    if fine.samples:
        first, *rest = fine.samples
        bad = replace(first, end=float("nan"), first_token=float("nan"))
        changes += [
            {"samples": tuple(replace(s, outcome=Ended.DROPPED) for s in fine.samples)},
            {"samples": (bad, *rest)},
            {"samples": (replace(first, scheduled=float("inf")), *rest)},
            {"samples": fine.samples[: len(fine.samples) // 50]},
            {"samples": (first, *fine.samples)},
        ]
    if fine.usage:
        changes.append({"usage": ()})
    for journal in fine.journals:
        others = tuple(j for j in fine.journals if j is not journal)
        changes += [
            {"journals": others},
            {"journals": (*others, replace(journal, proven=False))},
            {"journals": (*others, replace(journal, recovery_seconds=float("nan")))},
        ]
    return [replace(fine, **change) for change in changes]


@settings(max_examples=15 * FULL, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_evidence_with_anything_wrong_never_promotes(
    fine: Measurement, data: st.DataObject
) -> None:
    bad = data.draw(st.sampled_from(_spoilt(fine)))
    chosen = tuple(bad if m is fine else m for m in WHOLE)
    assert judged(chosen).verdict is not Decision.PROMOTE


@settings(max_examples=10 * FULL, deadline=None)
@given(st.sets(st.integers(0, len(WHOLE) - 1), min_size=1))
def test_evidence_that_is_missing_never_promotes(gone: set[int]) -> None:
    left = tuple(m for index, m in enumerate(WHOLE) if index not in gone)
    assert judged(left).verdict is not Decision.PROMOTE


@settings(max_examples=10 * FULL, deadline=None)
@given(st.sampled_from(WHOLE), st.sampled_from(WHOLE), st.data())
def test_one_thing_more_that_is_wrong_never_improves_a_verdict(
    first: Measurement, second: Measurement, data: st.DataObject
) -> None:
    once = tuple(data.draw(st.sampled_from(_spoilt(first))) if m is first else m for m in WHOLE)
    more = replace(data.draw(st.sampled_from(_spoilt(second))), id="more")
    before, after = judged(once), judged((*once, more))
    assert ORDER.index(after.verdict) <= ORDER.index(before.verdict)


#: Criteria with a number that can be made stricter, and by which factor.
STRICTER = {
    "throughput_rps": ("limit", (1.0, 1.4, 1.6, 3.0)),
    "throughput_vs_control": ("margin", (1.0, 1.2, 1.24, 2.0)),
    "streams_75": ("limit", (1.0, 1.06, 1.07, 2.0)),
    "connection_overhead": ("limit", (1.0, 0.5, 0.06, 0.01)),
    "prefix_hit_rate": ("limit", (1.0, 4.0, 5.0, 8.0)),
    "chaos_recovery": ("limit", (1.0, 0.1, 0.05, 0.01)),
    "ttft_p95_improved": ("margin", (1.0, 0.8, 0.7, 0.2)),
    "error_rate": ("limit", (1.0, 0.9, 0.5, 0.1)),
}


@settings(max_examples=15 * FULL, deadline=None)
@given(st.sampled_from(sorted(STRICTER)), st.integers(0, 2), st.sampled_from([0.5, 0.9, 1.0]))
def test_a_stricter_number_never_improves_an_outcome(name: str, step: int, worse: float) -> None:
    field, factors = STRICTER[name]
    measured = tuple(_worse(m, worse) for m in WHOLE)
    criterion = replace(policy().criteria[name], stretch=None)
    number = getattr(criterion, field)
    ranks = []
    for factor in (factors[step], factors[step + 1]):
        changed = replace(criterion, **{field: number * factor})
        verdict = judged(measured, demanding((name,), **{name: changed}))
        ranks.append((WORST_FIRST.index(verdict.criteria[0].outcome), ORDER.index(verdict.verdict)))
    assert ranks[1] <= ranks[0]


def _worse(fine: Measurement, share: float) -> Measurement:
    """The same with only a share of its requests ended well."""
    last = int(share * len(fine.samples))
    kept = [
        s if n < last or s.arm == "control" else replace(s, outcome=Ended.FAILED)
        for n, s in enumerate(fine.samples)
    ]
    return replace(fine, samples=tuple(kept))


@settings(max_examples=10 * FULL, deadline=None)
@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.sampled_from(NAMES),
    st.sampled_from(range(len(WHOLE))),
)
def test_one_criterion_more_never_improves_a_verdict(
    names: set[str], more: str, without: int
) -> None:
    measured = WHOLE[:without] + WHOLE[without + 1 :]
    before = judged(measured, demanding(tuple(sorted(names))))
    after = judged(measured, demanding(tuple(sorted(names | {more}))))
    assert ORDER.index(after.verdict) <= ORDER.index(before.verdict)


@settings(max_examples=10 * FULL, deadline=None)
@given(
    st.sets(st.sampled_from(sorted({m.item for m in OWN})), min_size=1),
    st.sampled_from(["skipped", "xfailed", "xpassed", "rerun", "failed", None, "deselected"]),
)
def test_items_without_a_pass_never_promote(items: set[str], end: str | None) -> None:
    """Whatever they measured: skipped, expected to fail, run twice, or taken away."""
    rows = [r for r in ROWS if not (r.kind is AttemptKind.PHASE and r.item in items)]
    for item in sorted(items):
        if end == "deselected":
            rows.insert(-1, Attempt(kind=AttemptKind.DESELECTED, run=RUN, item=item))
        else:
            rows[-1:-1] = phases(item, call=str(end) if end else "rerun")
            rows[-1:-1] = () if end else phases(item, attempt=2)
    whole = evidence(WHOLE, attempts=tuple(rows))
    asked = request(environment={"machine": "linux-x86_64-2cpu"})
    assert judge(demanding(), whole, asked).verdict is not Decision.PROMOTE


objections = st.sampled_from(["hold", "rollback", "promote", "", None]).map(
    lambda said: Attempt(kind=AttemptKind.OBJECTION, run=RUN, outcome=said, reason="odd")
)


@settings(max_examples=10 * FULL, deadline=None)
@given(
    st.sampled_from(range(len(WHOLE))),
    st.sets(st.sampled_from([*NAMES, "no_leak", "unheard_of"])),
    st.lists(objections, max_size=2),
)
def test_an_add_on_turns_green_to_red_and_never_red_to_green(
    without: int, required: set[str], said: list[Attempt]
) -> None:
    """It may require more and object; whatever it says, nothing gets better."""
    names = ("error_rate", "no_lost_stream", "tests_green")
    measured = WHOLE[:without] + WHOLE[without + 1 :]
    asked = request(environment={"machine": "linux-x86_64-2cpu"})
    alone = evidence(measured, attempts=ROWS)
    rows = (head(criteria=tuple(sorted(required))), *ROWS[1:], *said)
    beside = evidence(measured, attempts=rows)
    before, after = (judge(demanding(names), whole, asked) for whole in (alone, beside))
    for flag, decision in before.flags.items():
        assert ORDER.index(after.flags[flag]) <= ORDER.index(decision)


@settings(max_examples=3 * FULL, deadline=None)
@given(st.permutations(WHOLE))
def test_the_order_of_evidence_changes_no_byte(turned: list[Measurement]) -> None:
    assert to_json(judged(tuple(turned))) == to_json(judged(WHOLE))


def test_a_stretch_goal_is_reported_and_decides_nothing() -> None:
    rows = {row.id: row for row in judged(WHOLE).criteria}
    assert {name: rows[name].stretch for name in ("streams_75", "throughput_rps")} == {
        "streams_75": Outcome.INCONCLUSIVE,  # only 80 were asked for
        "throughput_rps": Outcome.PASS,
    }
    assert rows["error_rate"].stretch is None
    assert judged(WHOLE).verdict is Decision.PROMOTE


def test_the_worst_of_many_is_the_lowest_where_more_is_better() -> None:
    """The row of a floor shows its weakest passing run, not its strongest."""
    slow = replace(busy(150.0), id="slow")
    found = judged((*WHOLE, slow), demanding(("throughput_rps",))).criteria[0]
    assert found.estimate == pytest.approx(150, rel=0.02)
