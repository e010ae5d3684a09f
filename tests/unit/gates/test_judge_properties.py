"""No way from evidence that is missing, broken or not to be believed to a promotion."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from gate_builders import (
    NOW,
    RUN,
    answers,
    attempts,
    end,
    engine,
    evidence,
    healthy,
    pace,
    phases,
    policy,
    request,
    swapped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.flags import FLAGS
from gates.attempts import Attempt, Kind
from gates.criteria import WORST_FIRST, Outcome
from gates.evidence import Check, Measurement
from gates.judge import Evidence, judge
from gates.samples import Outcome as Ended
from gates.stages import Policy
from gates.verdict import Decision, to_json

ORDER = tuple(Decision)
HEALTHY = healthy()


@st.composite
def spoilt_measurements(draw: st.DrawFn) -> Measurement:
    """A measurement of the healthy gate with one thing wrong."""
    fine = draw(st.sampled_from(HEALTHY))
    return draw(st.sampled_from([m for m in _spoilt(fine) if m != fine]))


def _spoilt(fine: Measurement) -> list[Measurement]:
    changes: list[dict[str, Any]] = [
        {"run": "run-0"},
        {"valid": False},
        {"created": (NOW - timedelta(days=8)).isoformat()},
        {"created": (NOW + timedelta(days=2)).isoformat()},
        {"created": ""},
        {"attempt": 2},
        {"criteria": ()},
        {"samples": (), "checks": ()},
        {"arms": {}},
        {"arms": {a: replace(e, commit="other") for a, e in fine.arms.items()}},
        {"arms": {a: replace(e, model_sha256="other") for a, e in fine.arms.items()}},
    ]
    if not fine.journals:
        changes.append({"checks": (*fine.checks, Check(name="sound", ok=False))})
    if fine.samples:
        changes += _spoilt_samples(fine)
    return [replace(fine, **change) for change in changes]


def _spoilt_samples(fine: Measurement) -> list[dict[str, Any]]:
    first, *rest = fine.samples
    wrong: list[dict[str, Any]] = [
        {"end": float("nan"), "first_token": float("nan")},
        {"end": float("inf"), "first_token": float("inf")},
        {"scheduled": float("-inf")},
        {"flags": "adaptive_governor"},
        {"flags": None},
        {"outcome": Ended.DROPPED},
        {"index": rest[0].index},
        {"arm": "nobody"},
    ]
    return [{"samples": (replace(first, **change), *rest)} for change in wrong]


@settings(max_examples=60)
@given(spoilt_measurements())
def test_spoilt_evidence_never_promotes(bad: Measurement) -> None:
    chosen = tuple(bad if m.id == bad.id else m for m in HEALTHY)
    verdict = judge(policy(), evidence(chosen, attempts=attempts(HEALTHY)), request())
    assert verdict.verdict is not Decision.PROMOTE


@pytest.mark.parametrize("bad", [replace(fine, arms={}) for fine in HEALTHY], ids=lambda m: m.id)
def test_a_measurement_of_no_engine_stands_for_no_flag_set(bad: Measurement) -> None:
    chosen = tuple(bad if m.id == bad.id else m for m in HEALTHY)
    verdict = judge(policy(), evidence(chosen, attempts=attempts(HEALTHY)), request())
    assert verdict.verdict is not Decision.PROMOTE


@settings(max_examples=40)
@given(st.sets(st.integers(0, len(HEALTHY) - 1), min_size=1))
def test_missing_evidence_never_promotes(gone: set[int]) -> None:
    left = tuple(m for index, m in enumerate(HEALTHY) if index not in gone)
    for whole in (evidence(left), evidence(left, attempts=attempts(HEALTHY))):
        assert judge(policy(), whole, request()).verdict is not Decision.PROMOTE


ROWS = attempts(HEALTHY)


@settings(max_examples=60)
@given(st.sets(st.integers(0, len(ROWS) - 1), min_size=1, max_size=5))
def test_lost_rows_never_promote(gone: set[int]) -> None:
    left = tuple(r for index, r in enumerate(ROWS) if index not in gone)
    verdict = judge(policy(), evidence(attempts=left), request())
    assert verdict.verdict is not Decision.PROMOTE


extra_rows = st.one_of(
    st.sampled_from(sorted({r.item for r in ROWS if r.item})).map(
        lambda item: phases(item, call="rerun")[1]
    ),
    st.sampled_from(["failed", "skipped", "xfailed", "xpassed", "rerun", None, "passed"]).map(
        lambda outcome: Attempt(
            kind=Kind.PHASE, run=RUN, item="x::y", attempt=1, phase="call", outcome=outcome
        )
    ),
    st.sampled_from([Kind.COLLECT_ERROR, Kind.WORKER_CRASH, Kind.DESELECTED, Kind.PLANNED]).map(
        lambda kind: Attempt(kind=kind, run=RUN, item="x::y")
    ),
    st.just(end()),
)


@settings(max_examples=40)
@given(st.lists(extra_rows, min_size=1, max_size=3), st.integers(1, len(ROWS) - 1))
def test_rows_that_tell_of_trouble_never_promote(extra: list[Attempt], at: int) -> None:
    rows = (*ROWS[:at], *extra, *ROWS[at:])
    verdict = judge(policy(), evidence(attempts=rows), request())
    assert verdict.verdict is not Decision.PROMOTE


@settings(max_examples=40)
@given(spoilt_measurements(), st.booleans(), st.sampled_from([0, 3, 60]))
def test_more_trouble_never_improves_a_verdict(
    bad: Measurement, under_its_own_id: bool, failed: int
) -> None:
    base = swapped(HEALTHY, answers(failed=failed))
    more = bad if under_its_own_id else replace(bad, id="another")
    before = judge(policy(), evidence(base), request())
    after = judge(policy(), evidence((*base, more), attempts=attempts(base)), request())
    for flag in FLAGS:
        assert ORDER.index(after.flags[flag]) <= ORDER.index(before.flags[flag])


@settings(max_examples=25)
@given(st.sampled_from([0, 1, 3, 10, 60]), st.sampled_from([0.0005, 0.001, 0.005, 0.02, 0.1]))
def test_a_stricter_limit_never_turns_a_fail_into_a_pass(failed: int, limit: float) -> None:
    whole = evidence(swapped(HEALTHY, answers(failed=failed)))
    loose = judge(_with_limit(limit), whole, request())
    strict = judge(_with_limit(limit / 2), whole, request())
    assert _rank(strict, "error_rate") <= _rank(loose, "error_rate")
    assert ORDER.index(strict.verdict) <= ORDER.index(loose.verdict)


@settings(max_examples=10)
@given(st.sampled_from([1.0, 1.1, 1.3, 2.0]), st.sampled_from([1.05, 1.25, 1.6]))
def test_a_stricter_margin_never_turns_a_fail_into_a_pass(slower: float, margin: float) -> None:
    whole = evidence(swapped(HEALTHY, pace(slower=slower)))
    loose = judge(_with_margin(margin), whole, request())
    strict = judge(_with_margin(1 + (margin - 1) / 2), whole, request())
    assert _rank(strict, "ttft_p95_vs_control") <= _rank(loose, "ttft_p95_vs_control")


def _rank(verdict: Any, criterion: str) -> int:
    outcome: Outcome = next(r.outcome for r in verdict.criteria if r.id == criterion)
    return WORST_FIRST.index(outcome)


def _with_limit(limit: float) -> Policy:
    criteria = policy().criteria
    stricter = replace(criteria["error_rate"], limit=limit, min_samples=1)
    return replace(policy(), criteria={**criteria, "error_rate": stricter})


def _with_margin(margin: float) -> Policy:
    criteria = policy().criteria
    stricter = replace(criteria["ttft_p95_vs_control"], margin=margin)
    return replace(policy(), criteria={**criteria, "ttft_p95_vs_control": stricter})


WHOLES: tuple[Evidence, ...] = (
    evidence(),
    evidence(swapped(HEALTHY, answers(failed=60))),
    evidence(swapped(HEALTHY, answers(n=100))),
    evidence(()),
)
NAMES = sorted(policy().criteria)


@settings(max_examples=25)
@given(st.sampled_from(WHOLES), st.sets(st.sampled_from(NAMES), min_size=1), st.sampled_from(NAMES))
def test_one_more_criterion_never_improves_a_verdict(
    whole: Evidence, names: set[str], more: str
) -> None:
    before = judge(_demanding(names), whole, request())
    after = judge(_demanding(names | {more}), whole, request())
    assert ORDER.index(after.verdict) <= ORDER.index(before.verdict)


def _demanding(names: set[str]) -> Policy:
    canary = replace(policy().stages["canary"], enter=tuple(sorted(names)))
    return replace(policy(), stages={**policy().stages, "canary": canary})


@settings(max_examples=15)
@given(st.permutations(HEALTHY))
def test_the_order_of_files_changes_no_byte(turned: list[Measurement]) -> None:
    whole = evidence()
    other = replace(whole, measurements=tuple(turned))
    assert to_json(judge(policy(), whole, request())) == to_json(judge(policy(), other, request()))


def test_the_treatment_of_another_model_is_another_group() -> None:
    """The worst of two models counts, however good the other one is."""
    arms = {"treatment": engine("all", model="tiny2", model_sha256="bb" * 32)}
    second = replace(answers(failed=60), id="second", arms=arms, item="suite::test_second")
    models = {**request().subject.models, "tiny2": "bb" * 32}
    asked = request(subject=replace(request().subject, models=models))
    assert judge(policy(), evidence((*HEALTHY, second)), asked).verdict is Decision.ROLLBACK
