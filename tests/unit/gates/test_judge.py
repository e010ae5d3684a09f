"""What the judge makes of evidence: one healthy gate, and one thing wrong with it at a time."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from gate_builders import (
    NOW,
    RUN,
    START,
    SUBJECT,
    TIMING,
    TRAFFIC,
    answers,
    attempts,
    drilled,
    end,
    engine,
    evidence,
    head,
    healthy,
    measurement,
    pace,
    phases,
    planned,
    policy,
    request,
    row,
    sample,
    starts,
    swapped,
    traffic,
)

from engine.core.flags import FLAGS
from gates.attempts import Attempt, Kind
from gates.criteria import Kind as Rule
from gates.criteria import Outcome
from gates.evidence import Check, Measurement
from gates.judge import Evidence, judge
from gates.samples import Outcome as Ended
from gates.stages import Transition, Waiver
from gates.verdict import Decision, to_json

ALL = [c.id for c in policy().required(Transition("off", "canary"))]


def verdict_on(measurements: tuple[Measurement, ...] | None = None, **changes: Any) -> Any:
    return judge(policy(), evidence(measurements, **changes), request())


def with_rows(*extra: Attempt, exit_status: int = 0, **head_changes: Any) -> Evidence:
    """The healthy gate with more rows before its end."""
    rows = attempts(healthy(), extra, **head_changes)[:-1]
    return evidence(attempts=(*rows, end(exit_status)))


def without_phases(item: str, *instead: Attempt) -> Evidence:
    rows = [r for r in attempts(healthy()) if not (r.kind is Kind.PHASE and r.item == item)]
    return evidence(attempts=(*rows[:-1], *instead, rows[-1]))


def test_a_healthy_gate_promotes_every_flag() -> None:
    verdict = verdict_on()
    assert verdict.verdict is Decision.PROMOTE
    assert verdict.flags == dict.fromkeys(FLAGS, Decision.PROMOTE)
    assert [r.id for r in verdict.criteria] == ALL
    assert {r.outcome for r in verdict.criteria} == {Outcome.PASS}
    assert not verdict.dry_run


def test_the_same_evidence_gives_the_same_bytes_in_any_order() -> None:
    whole = evidence()
    turned = replace(whole, measurements=whole.measurements[::-1])
    assert to_json(judge(policy(), whole, request())) == to_json(judge(policy(), turned, request()))


# What the measurements show.


@pytest.mark.parametrize(
    ("changed", "criterion", "outcome", "decision", "reason"),
    [
        (
            answers(failed=60),
            "error_rate",
            Outcome.FAIL,
            Decision.ROLLBACK,
            "error_rate 2 % > 0.1 % (95 % interval 1.6-2.5 %, n=3 000, flags=all",
        ),
        (
            answers(failed=1),
            "error_rate",
            Outcome.INCONCLUSIVE,
            Decision.HOLD,
            "error_rate 0.033 % not shown to be <= 0.1 %",
        ),
        (
            answers(n=1_000),
            "error_rate",
            Outcome.INCONCLUSIVE,
            Decision.HOLD,
            "n=1 000, flags=all, model=tiny); needs about 1 995 more",
        ),
        (
            answers(cut=1),
            "no_lost_stream",
            Outcome.FAIL,
            Decision.ROLLBACK,
            "no_lost_stream 1 > 0 streams lost (n=3 000, flags=all",
        ),
        (
            answers(n=500),
            "no_lost_stream",
            Outcome.INCONCLUSIVE,
            Decision.HOLD,
            "needs about 500 more",
        ),
        (pace(slower=2), "ttft_p95_vs_control", Outcome.FAIL, Decision.HOLD, "2.01 > 1.25"),
        (pace(slower=2), "latency_p95_vs_control", Outcome.FAIL, Decision.HOLD, "n=100 pairs"),
        (
            pace(slower=1.25),
            "ttft_p95_vs_control",
            Outcome.INCONCLUSIVE,
            Decision.HOLD,
            "not shown to be <= 1.25",
        ),
        (
            pace(pairs=30),
            "ttft_p95_vs_control",
            Outcome.INCONCLUSIVE,
            Decision.HOLD,
            "needs about 30 more",
        ),
    ],
)
def test_what_is_measured_decides(
    changed: Measurement, criterion: str, outcome: Outcome, decision: Decision, reason: str
) -> None:
    verdict = verdict_on(swapped(healthy(), changed))
    assert verdict.verdict is decision
    assert row(verdict, criterion).outcome is outcome
    assert reason in row(verdict, criterion).reason


def test_a_flag_set_that_does_not_stop_clean_holds() -> None:
    broken = (Check(name="ready", ok=True), Check(name="no orphan", ok=False, detail="pid left"))
    bad = measurement(f"{START}[all]", ["flag_sets_start"], checks=broken)
    verdict = verdict_on(swapped(healthy(), bad))
    assert verdict.verdict is Decision.HOLD
    assert "1 > 0 checks broken" in row(verdict, "flag_sets_start").reason
    assert "no orphan (pid left)" in row(verdict, "flag_sets_start").reason


def test_a_flag_set_without_a_check_shows_nothing() -> None:
    silent = measurement(f"{START}[all]", ["flag_sets_start"], checks=())
    verdict = verdict_on(swapped(healthy(), silent))
    assert row(verdict, "flag_sets_start").outcome is Outcome.INCONCLUSIVE


def test_a_broken_check_spoils_the_numbers_beside_it() -> None:
    bad = replace(pace(), checks=(Check(name="registry empty", ok=False),))
    verdict = verdict_on(swapped(healthy(), bad))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.INVALID


def compared(failed: int, control_failed: int) -> Measurement:
    samples = traffic(3_000, "all", failed=failed)
    beside = traffic(3_000, "off", failed=control_failed, arm="control")
    criteria = ["error_rate", "no_lost_stream"]
    return measurement(TRAFFIC, criteria, "all", "off", samples=samples + beside)


@pytest.mark.parametrize(
    ("failed", "control_failed", "decision", "reason"),
    [
        (60, 0, Decision.ROLLBACK, "; confidently worse than control (control 0 of 3 000"),
        (60, 58, Decision.HOLD, "not confidently worse than control (control 58 of 3 000"),
    ],
)
def test_a_rollback_needs_to_be_worse_than_a_control_that_was_measured(
    failed: int, control_failed: int, decision: Decision, reason: str
) -> None:
    verdict = verdict_on(swapped(healthy(), compared(failed, control_failed)))
    assert verdict.verdict is decision
    assert row(verdict, "error_rate").outcome is Outcome.FAIL
    assert reason in row(verdict, "error_rate").reason


def test_the_worst_group_counts() -> None:
    good = replace(answers(), id="good", item="suite::test_more")
    verdict = verdict_on((*swapped(healthy(), answers(failed=60)), good))
    assert verdict.verdict is Decision.ROLLBACK
    assert row(verdict, "error_rate").estimate == 0.02


def test_only_the_flags_that_were_on_are_rolled_back() -> None:
    alone = answers(failed=60, flag_set="http2_transport")
    verdict = verdict_on((*healthy(), replace(alone, item="suite::test_single")))
    blamed = [flag for flag, decision in verdict.flags.items() if decision is Decision.ROLLBACK]
    assert blamed == ["http2_transport"]
    assert verdict.flags["ttft_pipeline"] is Decision.PROMOTE
    assert verdict.verdict is Decision.ROLLBACK


def test_trouble_with_all_flags_off_holds_every_flag() -> None:
    off = measurement(
        f"{START}[off]", ["flag_sets_start"], "off", checks=(Check(name="ready", ok=False),)
    )
    verdict = verdict_on(swapped(healthy(), off))
    assert verdict.flags == dict.fromkeys(FLAGS, Decision.HOLD)


def test_a_request_that_never_ended_well_counts_as_the_slowest() -> None:
    fine = pace(pairs=100)
    bad = [
        replace(s, outcome=Ended.SHED, first_token=None)
        if s.arm == "treatment" and s.index < 40
        else s
        for s in fine.samples
    ]
    verdict = verdict_on(swapped(healthy(), replace(fine, samples=tuple(bad))))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.FAIL
    assert "20 without a time" in row(verdict, "ttft_p95_vs_control").reason


def without_control(fine: Measurement) -> Measurement:
    kept = tuple(s for s in fine.samples if s.arm == "treatment")
    return replace(fine, samples=kept, arms={"treatment": engine("all")})


def short_of_one(fine: Measurement) -> Measurement:
    return replace(fine, samples=fine.samples[:-1])


def control_failed(fine: Measurement) -> Measurement:
    first = next(s for s in fine.samples if s.arm == "control")
    rest = tuple(s for s in fine.samples if s is not first)
    return replace(fine, samples=(replace(first, outcome=Ended.FAILED), *rest))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_control, "no control to compare with"),
        (short_of_one, "do not pair"),
        (control_failed, "1 of 100 control requests did not end well"),
    ],
)
def test_a_comparison_without_a_whole_control_is_inconclusive(change: Any, reason: str) -> None:
    verdict = verdict_on(swapped(healthy(), change(pace())))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.INCONCLUSIVE
    assert reason in row(verdict, "ttft_p95_vs_control").reason
    assert verdict.verdict is Decision.HOLD


# What cannot be believed.


def first_sample(**changes: Any) -> tuple[Any, ...]:
    samples = pace().samples
    return (replace(samples[0], **changes), *samples[1:])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "run-0"}, "of run 'run-0', not of this run 'run-1'"),
        ({"valid": False, "invalid_reason": "generator fell behind"}, "generator fell behind"),
        ({"valid": False}, "declared invalid without a reason"),
        ({"created": (NOW - timedelta(hours=25)).isoformat()}, "stale"),
        ({"created": (NOW + timedelta(minutes=1)).isoformat()}, "from the future"),
        ({"created": "yesterday"}, "which is no time with a zone"),
        ({"created": "2026-03-01T11:00:00"}, "which is no time with a zone"),
        ({"attempt": 2}, "of attempt 2"),
        ({"item": "suite::elsewhere"}, "which was not planned"),
        ({"criteria": (*pace().criteria, "error_rate")}, "not planned for error_rate"),
        ({"samples": first_sample(flags="off")}, "came back with flags 'off'"),
        ({"samples": first_sample(flags=None)}, "came back with flags None"),
        ({"samples": first_sample(flags="magic")}, "came back with flags 'magic'"),
        ({"samples": first_sample(first_token=float("nan"))}, "not finite and in order"),
        ({"samples": first_sample(end=float("inf"))}, "not finite and in order"),
        ({"samples": first_sample(end=10**400)}, "not finite and in order"),
        ({"samples": first_sample(end=-1.0)}, "not finite and in order"),
        ({"samples": first_sample(outcome=Ended.DROPPED)}, "the generator had no room"),
        ({"samples": first_sample(arm="other")}, "arm 'other' has no engine"),
        ({"samples": (*pace().samples, pace().samples[0])}, "a request appears twice"),
        ({"arms": {"control": engine("off")}}, "arm 'treatment' has no engine"),
    ],
)
def test_evidence_that_cannot_be_believed_is_invalid(changes: Any, reason: str) -> None:
    bad = replace(pace(), **changes)
    rest = tuple(m for m in healthy() if m.item != TIMING)
    verdict = judge(
        policy(), evidence(measurements=(*rest, bad), attempts=attempts(healthy())), request()
    )
    assert verdict.verdict is Decision.HOLD
    reasons = [r.reason for r in verdict.criteria if r.outcome is Outcome.INVALID]
    assert any(reason in text for text in reasons), [r.reason for r in verdict.criteria]


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("treatment", {"commit": "feed"}),
        ("control", {"commit": "feed"}),
        ("treatment", {"engine_version": "9"}),
        ("treatment", {"config_sha256": "00"}),
        ("control", {"model_sha256": "00"}),
        ("treatment", {"model": "other"}),
        ("treatment", {"flag_set": "magic"}),
    ],
)
def test_another_build_model_or_flag_set_is_invalid(arm: str, changes: dict[str, str]) -> None:
    fine = pace()
    bad = replace(fine, arms={**fine.arms, arm: replace(fine.arms[arm], **changes)})
    verdict = verdict_on(swapped(healthy(), bad))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.INVALID
    assert verdict.verdict is Decision.HOLD


def test_evidence_that_is_there_twice_is_invalid() -> None:
    verdict = verdict_on((*healthy(), pace()))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.INVALID
    assert "is there twice" in row(verdict, "ttft_p95_vs_control").reason


def test_a_file_that_cannot_be_read_spoils_every_criterion() -> None:
    verdict = verdict_on(problems=("x.jsonl: torn",))
    assert {r.outcome for r in verdict.criteria} == {Outcome.INVALID}
    assert verdict.verdict is Decision.HOLD


@pytest.mark.parametrize("where", ["session", "measurement"])
def test_times_measured_beside_other_workers_are_inconclusive(where: str) -> None:
    if where == "session":
        verdict = judge(policy(), with_rows(workers=2), request())
    else:
        verdict = verdict_on(swapped(healthy(), replace(pace(), workers=2)))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.INCONCLUSIVE
    assert "beside 2 pytest workers" in row(verdict, "latency_p95_vs_control").reason
    assert row(verdict, "error_rate").outcome is Outcome.PASS
    assert verdict.verdict is Decision.HOLD


# What pytest did.


@pytest.mark.parametrize("item", [TIMING, TRAFFIC, f"{START}[all]"])
@pytest.mark.parametrize(
    ("instead", "problem"),
    [
        ((), "never ran"),
        (phases("ITEM", call="skipped"), "skipped in call"),
        (phases("ITEM", call="failed"), "failed in call"),
        (phases("ITEM", call="xfailed"), "xfailed in call"),
        (phases("ITEM", call="xpassed"), "xpassed in call"),
        (phases("ITEM", call="rerun") + phases("ITEM", attempt=2), "has attempts 1, 2"),
        (phases("ITEM", attempt=2), "has attempts 2"),
        (phases("ITEM") + phases("ITEM"), "phases call, call, setup"),
        (phases("ITEM")[:2], "phases call, setup; expected each of"),
    ],
)
def test_an_item_without_its_one_pass_is_named_and_holds(
    item: str, instead: tuple[Attempt, ...], problem: str
) -> None:
    rows = (replace(r, item=item) for r in instead)
    verdict = judge(policy(), without_phases(item, *rows), request())
    assert verdict.verdict is Decision.HOLD
    reasons = [r.reason for r in verdict.criteria if r.outcome is not Outcome.PASS]
    assert len(reasons) > 1  # tests_green, and those that the item was planned for
    assert all(item in reason and problem in reason for reason in reasons)


def test_an_item_that_an_option_took_away_is_named_and_holds() -> None:
    gone = Attempt(kind=Kind.DESELECTED, run=RUN, item=TIMING, criteria=("ttft_p95_vs_control",))
    verdict = judge(policy(), with_rows(gone), request())
    assert verdict.verdict is Decision.HOLD
    assert f"{TIMING}: deselected" in row(verdict, "ttft_p95_vs_control").reason
    assert f"{TIMING}: deselected" in row(verdict, "tests_green").reason


@pytest.mark.parametrize(
    ("whole", "reason"),
    [
        (
            with_rows(Attempt(kind=Kind.COLLECT_ERROR, run=RUN, item="x.py")),
            "collection error in x",
        ),
        (with_rows(Attempt(kind=Kind.WORKER_CRASH, run=RUN, worker="gw1")), "crashed: gw1"),
        (with_rows(exit_status=2), "exit status was 2"),
        (with_rows(exit_status=3), "exit status was 3"),
        (with_rows(exit_status=5), "exit status was 5"),
        (with_rows(end()), "2 end rows"),
        (with_rows(head()), "2 session rows"),
        (with_rows(*phases("x.py::stranger")), "x.py::stranger ran without being planned"),
        (with_rows(replace(planned("x"), run="run-0")), "rows of several runs: run-0, run-1"),
        (evidence(attempts=attempts(healthy())[:-1]), "0 end rows"),
        (evidence(attempts=attempts(healthy())[1:]), "0 session rows"),
        (evidence(attempts=(*attempts(healthy()), *phases(TIMING))), "rows after the end row"),
        (evidence(attempts=()), "0 end rows"),
        (with_rows(stage="early"), "the session gated 'early', not 'canary'"),
    ],
)
def test_a_session_that_did_not_end_well_passes_nothing(whole: Evidence, reason: str) -> None:
    verdict = judge(policy(), whole, request())
    assert verdict.verdict is Decision.HOLD
    assert Outcome.PASS not in {r.outcome for r in verdict.criteria}
    alone = judge(policy(), whole, request(["http2_transport"]))
    assert alone.verdict is Decision.HOLD
    assert any(reason in r.reason for r in verdict.criteria), [r.reason for r in verdict.criteria]


def test_a_flag_that_the_session_did_not_judge_holds_alone() -> None:
    verdict = judge(policy(), with_rows(flags=FLAGS[1:]), request())
    assert verdict.flags == {**dict.fromkeys(FLAGS, Decision.PROMOTE), FLAGS[0]: Decision.HOLD}


@pytest.mark.parametrize(("origin", "dry"), [("store", False), ("off", True), (None, True)])
def test_only_a_session_that_asked_the_store_can_be_promoted(origin: str | None, dry: bool) -> None:
    assert judge(policy(), with_rows(origin=origin), request()).dry_run is dry


# What is missing.


@pytest.mark.parametrize("item", [TIMING, TRAFFIC])
def test_a_criterion_for_which_nothing_was_planned_has_no_data(item: str) -> None:
    rest = tuple(m for m in healthy() if m.item != item)
    verdict = verdict_on(rest)
    missing = [r for r in verdict.criteria if r.outcome is Outcome.NO_DATA]
    assert len(missing) == 2
    assert all(
        "no item was planned for it" in r.reason or "nothing was" in r.reason for r in missing
    )
    assert verdict.verdict is Decision.HOLD


def test_a_test_that_passed_and_wrote_nothing_has_no_data() -> None:
    rest = tuple(m for m in healthy() if m.item != TIMING)
    verdict = verdict_on(rest, attempts=attempts(healthy()))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.NO_DATA
    assert verdict.verdict is Decision.HOLD


def test_a_flag_set_that_was_not_started_has_no_data() -> None:
    rest = tuple(m for m in healthy() if m.item != f"{START}[all]")
    verdict = verdict_on(rest)
    assert "nothing was measured with flags=all" in row(verdict, "flag_sets_start").reason
    assert verdict.verdict is Decision.HOLD


def test_a_flag_that_nobody_switched_on_has_no_data() -> None:
    alone = answers(flag_set="http2_transport")
    verdict = verdict_on(swapped(healthy(), alone))
    held = [flag for flag, decision in verdict.flags.items() if decision is Decision.HOLD]
    assert held == [flag for flag in FLAGS if flag != "http2_transport"]


def test_one_flag_needs_only_its_own_combinations() -> None:
    flags = ["http2_transport"]
    chosen = (*starts(flags), answers(flag_set=flags[0]), pace(flag_set=flags[0]), drilled())
    verdict = judge(policy(), evidence(chosen), request(flags))
    assert verdict.flags == {flags[0]: Decision.PROMOTE}


def test_a_door_that_demands_nothing_holds() -> None:
    steps = {"http2_transport": Transition("canary", "early")}
    stages = policy().stages
    bare = replace(policy(), stages={**stages, "canary": replace(stages["canary"], leave=())})
    verdict = judge(bare, evidence(), request(transitions=steps))
    assert verdict.verdict is Decision.HOLD
    assert [r.id for r in verdict.criteria] == ["door"]
    assert "nothing is required at this door, so nothing was shown" in verdict.criteria[0].reason


def test_no_flag_holds() -> None:
    assert judge(policy(), evidence(), request([])).verdict is Decision.HOLD


# Waivers and add-ons.


def waived(*criteria: str, expires: str = "2030-01-01") -> Any:
    waivers = (
        Waiver(criterion=name, owner="team-a", reason="one URL", expires=expires)
        for name in criteria
    )
    return replace(policy(), waivers=tuple(waivers))


def test_a_waiver_answers_for_what_was_never_measured_and_shows_it() -> None:
    rest = tuple(m for m in healthy() if m.item != TIMING)
    names = ("ttft_p95_vs_control", "latency_p95_vs_control")
    verdict = judge(waived(*names), evidence(rest), request())
    assert verdict.verdict is Decision.PROMOTE
    shown = row(verdict, names[0])
    assert (shown.outcome, shown.waived) == (Outcome.NO_DATA, True)
    assert "waived by team-a until 2030-01-01: one URL" in shown.reason


@pytest.mark.parametrize(
    "measurements",
    [
        swapped(healthy(), pace(slower=2)),
        swapped(healthy(), pace(pairs=30)),
        swapped(healthy(), replace(pace(), run="run-0")),
    ],
)
def test_a_waiver_does_not_answer_for_what_was_measured(measurements: Any) -> None:
    names = ("ttft_p95_vs_control", "latency_p95_vs_control")
    verdict = judge(waived(*names), evidence(measurements), request())
    assert verdict.verdict is Decision.HOLD
    assert not row(verdict, names[0]).waived


def test_a_waiver_does_not_answer_for_a_test_that_failed() -> None:
    rows = phases(TIMING, call="failed")
    whole = without_phases(TIMING, *rows)
    whole = replace(whole, measurements=tuple(m for m in healthy() if m.item != TIMING))
    verdict = judge(waived("ttft_p95_vs_control", "latency_p95_vs_control"), whole, request())
    assert not row(verdict, "ttft_p95_vs_control").waived


def test_an_expired_waiver_answers_for_nothing() -> None:
    rest = tuple(m for m in healthy() if m.item != TIMING)
    names = ("ttft_p95_vs_control", "latency_p95_vs_control")
    verdict = judge(waived(*names, expires="2026-03-01"), evidence(rest), request())
    assert verdict.verdict is Decision.HOLD


def test_nothing_but_waivers_holds() -> None:
    names = [name for name in ALL if name != "tests_green"]
    stages = {**policy().stages, "canary": replace(policy().stages["canary"], enter=tuple(names))}
    lenient = replace(waived(*names), stages=stages)
    verdict = judge(lenient, evidence(()), request())
    assert all(r.waived for r in verdict.criteria)
    assert verdict.verdict is Decision.HOLD


@pytest.mark.parametrize(
    ("outcome", "flags", "decisions"),
    [
        ("hold", (), [Decision.HOLD] * 4),
        ("rollback", (), [Decision.ROLLBACK] * 4),
        ("promote", (), [Decision.HOLD] * 4),
        ("rollback", FLAGS[:1], [Decision.ROLLBACK] + [Decision.PROMOTE] * 3),
    ],
)
def test_an_add_on_turns_green_to_red(
    outcome: str, flags: tuple[str, ...], decisions: list[Decision]
) -> None:
    given = Attempt(
        kind=Kind.OBJECTION, run=RUN, item="ours", outcome=outcome, flags=flags, reason="no"
    )
    verdict = judge(policy(), evidence(attempts=(*attempts(healthy()), given)), request())
    assert list(verdict.flags.values()) == decisions
    assert row(verdict, "objection").reason == "ours objects: no"


@pytest.mark.parametrize("name", ["unheard_of", "slow_floor"])
def test_what_an_add_on_requires_and_nobody_can_judge_holds(name: str) -> None:
    floor = replace(policy().criteria["error_rate"], id="slow_floor", kind=Rule.FLOOR)
    wider = replace(policy(), criteria={**policy().criteria, "slow_floor": floor})
    verdict = judge(wider, with_rows(criteria=(name,)), request())
    assert verdict.verdict is Decision.HOLD
    assert any(name in r.reason for r in verdict.criteria)


# What is asked.


def test_flags_at_both_sides_of_a_stage_have_their_own_steps() -> None:
    steps = {FLAGS[0]: Transition("off", "canary"), FLAGS[1]: Transition("canary", "early")}
    verdict = judge(policy(), evidence(), request(transitions=steps))
    assert verdict.transition["from"] is None
    assert verdict.transition["each"][FLAGS[1]] == {"from": "canary", "to": "early"}
    assert verdict.flags == {FLAGS[0]: Decision.PROMOTE, FLAGS[1]: Decision.HOLD}


def test_a_step_that_is_not_at_the_door_is_invalid() -> None:
    steps = {FLAGS[0]: Transition("early", "canary")}
    verdict = judge(policy(), evidence(), request(transitions=steps, stage="mid"))
    assert verdict.verdict is Decision.HOLD
    assert {r.outcome for r in verdict.criteria if r.source == "tests"} == {Outcome.INVALID}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"now": NOW.replace(tzinfo=None)}, "needs a zone"),
        (
            {"transitions": {"magic": Transition("off", "canary")}},
            "unknown flags magic; allowed: a",
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(policy(), evidence(), request(**changes))


def test_a_verdict_binds_to_what_was_judged_and_expires() -> None:
    verdict = verdict_on()
    assert replace(verdict.subject, policy_sha256="") == SUBJECT
    assert verdict.subject.policy_sha256 == policy().digest()
    assert verdict.created == NOW.isoformat()
    assert verdict.expires == (NOW + timedelta(hours=1)).isoformat()


def test_a_sample_without_its_measure_is_no_pass() -> None:
    silent = tuple(
        replace(s, first_token=None) if s.arm == "treatment" else s for s in pace().samples
    )
    verdict = verdict_on(swapped(healthy(), replace(pace(), samples=silent)))
    assert row(verdict, "ttft_p95_vs_control").outcome is Outcome.FAIL
    assert sample(0, "off").ttft == pytest.approx(0.05)
