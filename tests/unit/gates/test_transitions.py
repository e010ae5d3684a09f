from dataclasses import replace
from datetime import timedelta
from itertools import pairwise, product

import pytest
from gate_builders import policy
from hypothesis import given
from hypothesis import strategies as st
from store_builders import GOVERNOR, HTTP2, NOW, OTHER, SOUND, at

from gates.conditions import FULL_EVERY
from gates.stages import FULL, OFF, STAGES, TABLE, UNMANAGED, Event
from gates.standing import UNKNOWN, Cause, Standing, approval_of, candidate
from gates.transitions import LIFTED_KEPT, RefusedError, last_full, move, moved

LATER = NOW + timedelta(days=2)
STATES = (*STAGES, UNMANAGED)


def go(standing: Standing, event: Event, **given: object) -> Standing:
    arguments = {"now": LATER, "candidate": SOUND, "reason": "a reason", **given}
    return move(policy(), standing, event, **arguments)  # type: ignore[arg-type]  # a test's shorthand


def refused(standing: Standing, event: Event, **given: object) -> str:
    with pytest.raises(RefusedError) as caught:
        go(standing, event, flag=GOVERNOR, **given)
    return str(caught.value)


@pytest.mark.parametrize(("stage", "ahead"), [*pairwise(STAGES)])
def test_a_promotion_goes_one_stage_up_to_its_share(stage: str, ahead: str) -> None:
    after = go(at(stage, approved="x", lifted=("a",)), Event.PROMOTE, brakes=("b", "a"))
    assert after == at(
        ahead,
        percentage=policy().stages[ahead].percentage,
        entered_at=LATER,
        epoch=4,
        lifted=("a", "b"),
    )


def test_there_is_nothing_above_full() -> None:
    assert refused(at(FULL), Event.PROMOTE) == (
        "adaptive_governor at full: promote refused: there is no stage ahead; "
        "allowed: rollback, hold, resume, clear"
    )


@pytest.mark.parametrize("stage", [*STAGES[1:], UNMANAGED])
def test_a_rollback_leads_from_everywhere_to_off(stage: str) -> None:
    after = go(at(stage, held="a doubt", approved="x"), Event.ROLLBACK, cause=Cause.MANUAL)
    assert after == at(
        OFF, entered_at=LATER, epoch=4, held="a doubt", approved="", tombstones=(SOUND,)
    )


@pytest.mark.parametrize("cause", Cause)
def test_a_second_rollback_changes_nothing(cause: Cause) -> None:
    once = go(at("early"), Event.ROLLBACK, cause=cause)
    assert go(once, Event.ROLLBACK, cause=cause, now=LATER + timedelta(hours=1)) == once


@pytest.mark.parametrize("cause", [Cause.MANUAL, Cause.DRILL, Cause.DEAD_MAN, Cause.UNATTRIBUTED])
def test_a_rollback_of_everything_says_nothing_of_a_flag_that_was_never_on(cause: Cause) -> None:
    assert go(at(OFF), Event.ROLLBACK, cause=cause) == at(OFF)


@pytest.mark.parametrize("cause", [Cause.VERDICT, Cause.CRASH])
def test_what_a_verdict_found_counts_also_after_the_engines_braked_themselves(cause: Cause) -> None:
    off = go(at("canary"), Event.ROLLBACK, cause=Cause.DEAD_MAN)
    assert not off.tombstones
    assert go(off, Event.ROLLBACK, cause=cause) == replace(off, tombstones=(SOUND,))


@pytest.mark.parametrize(
    ("cause", "tombstones", "suspect"),
    [
        (Cause.VERDICT, (SOUND,), ""),
        (Cause.CRASH, (SOUND,), ""),
        (Cause.MANUAL, (SOUND,), ""),
        (None, (SOUND,), ""),
        (Cause.DRILL, (), ""),
        (Cause.DEAD_MAN, (), ""),
        (Cause.UNATTRIBUTED, (), SOUND),
    ],
)
def test_the_cause_decides_what_becomes_of_the_candidate(
    cause: Cause | None, tombstones: tuple[str, ...], suspect: str
) -> None:
    after = go(at("early"), Event.ROLLBACK, cause=cause)
    assert (after.tombstones, after.suspect) == (tombstones, suspect)


@pytest.mark.parametrize("cause", [Cause.VERDICT, Cause.UNATTRIBUTED])
def test_a_candidate_that_was_rolled_back_does_not_return(cause: Cause) -> None:
    off = go(at("mid"), Event.ROLLBACK, cause=cause)
    assert SOUND in refused(off, Event.PROMOTE)
    assert go(off, Event.PROMOTE, candidate=OTHER).stage == "canary"


@pytest.mark.parametrize("cause", [Cause.VERDICT, Cause.UNATTRIBUTED])
def test_while_nobody_knows_what_was_rolled_back_nothing_is_promoted(cause: Cause) -> None:
    off = go(at("mid"), Event.ROLLBACK, cause=cause, candidate="")
    assert "nobody could name" in refused(off, Event.PROMOTE)
    cleared = go(off, Event.CLEAR, candidate=UNKNOWN)
    assert go(cleared, Event.PROMOTE).stage == "canary"


@pytest.mark.parametrize("given", ["", UNKNOWN])
def test_what_has_no_name_is_not_promoted(given: str) -> None:
    assert "is not known" in refused(at(OFF), Event.PROMOTE, candidate=given)


def test_a_suspect_that_another_displaces_does_not_get_away() -> None:
    off = go(at("mid"), Event.ROLLBACK, cause=Cause.UNATTRIBUTED)
    again = go(go(off, Event.PROMOTE, candidate=OTHER), Event.ROLLBACK,
               cause=Cause.UNATTRIBUTED, candidate=OTHER)  # fmt: skip
    assert (again.tombstones, again.suspect) == ((SOUND,), OTHER)


def test_a_suspect_that_is_found_guilty_is_no_longer_suspect() -> None:
    off = go(at("mid"), Event.ROLLBACK, cause=Cause.UNATTRIBUTED)
    after = go(off, Event.ROLLBACK, cause=Cause.VERDICT)
    assert (after.tombstones, after.suspect) == ((SOUND,), "")
    assert go(go(after, Event.PROMOTE, candidate=OTHER), Event.ROLLBACK,
              cause=Cause.UNATTRIBUTED).suspect == ""  # fmt: skip


@pytest.mark.parametrize("cause", [Cause.VERDICT, Cause.UNATTRIBUTED])
def test_a_person_clears_a_candidate_with_a_reason(cause: Cause) -> None:
    off = go(at("mid"), Event.ROLLBACK, cause=cause)
    assert "needs a reason" in refused(off, Event.CLEAR, reason=" \n")
    assert f"given candidate '{OTHER}'; barred: {SOUND}" in refused(
        off, Event.CLEAR, candidate=OTHER
    )
    cleared = go(off, Event.CLEAR, brakes=("b1",))
    assert cleared == replace(off, tombstones=(), suspect="", lifted=("b1",))
    assert go(cleared, Event.PROMOTE).stage == "canary"


def test_a_clearance_lifts_brakes_at_off_only() -> None:
    """Elsewhere it would be a raise without a verdict."""
    assert go(at(OFF), Event.CLEAR, candidate="", brakes=("b1",)).lifted == ("b1",)
    assert "no candidate" in refused(at("early"), Event.CLEAR, candidate="", brakes=("b1",))
    barred = at("early", tombstones=(OTHER,))
    assert go(barred, Event.CLEAR, candidate=OTHER, brakes=("b1",)) == at("early")


def test_a_rollback_says_that_its_brakes_hold() -> None:
    """An engine that was away still has the brake that a promotion lifted meanwhile."""
    early = at("early", lifted=("b1", "b2"))
    assert go(early, Event.ROLLBACK, brakes=("b1",)).lifted == ("b2",)
    assert go(at(OFF, lifted=("b1",)), Event.ROLLBACK, brakes=("b1",)) == at(OFF)


def test_the_oldest_lifted_brakes_are_forgotten() -> None:
    brakes = [f"b{n}" for n in range(LIFTED_KEPT + 1)]
    assert go(at(OFF), Event.PROMOTE, brakes=brakes).lifted == tuple(brakes[1:])


@pytest.mark.parametrize("stage", STAGES)
def test_a_hold_stops_promotions_and_nothing_else(stage: str) -> None:
    held = go(at(stage, approved="x"), Event.HOLD, reason=" odd\n latency ")
    assert held == at(stage, held="odd latency")
    if stage != FULL:
        assert refused(held, Event.PROMOTE).endswith("held: odd latency; resume it first")
    assert go(held, Event.ROLLBACK, cause=Cause.DRILL).stage == OFF
    assert go(held, Event.RESUME) == at(stage)


def test_holds_for_several_reasons_keep_them_all() -> None:
    held = go(go(at("early"), Event.HOLD, reason="one"), Event.HOLD, reason="two")
    assert held.held == "one; two"
    assert go(held, Event.HOLD, reason="one") == held


def test_a_hold_needs_a_reason_and_a_resume_a_hold() -> None:
    assert "needs a reason" in refused(at("early"), Event.HOLD, reason="")
    assert "not held" in refused(at("early"), Event.RESUME)


def test_an_approval_is_the_last_condition() -> None:
    """Whoever is asked for one knows that nothing else is in the way."""
    asking = frozenset({"mid"})
    held = at("early", held="a doubt", tombstones=(SOUND,))
    assert "held" in refused(held, Event.PROMOTE, approval=asking)
    assert "rolled back" in refused(replace(held, held=""), Event.PROMOTE, approval=asking)
    assert "needs an approval" in refused(at("early"), Event.PROMOTE, approval=asking)
    assert go(at("canary"), Event.PROMOTE, approval=asking).stage == "early"


def test_an_approval_serves_once() -> None:
    asking = frozenset({"canary", "early"})
    approved = go(at(OFF), Event.APPROVE, approval=asking)
    assert approved.approved == f"canary@3 {SOUND}"
    canary = go(approved, Event.PROMOTE, approval=asking)
    assert "given no approval" in refused(canary, Event.PROMOTE, approval=asking)
    again = go(canary, Event.ROLLBACK, cause=Cause.DRILL)
    assert "given no approval" in refused(again, Event.PROMOTE, approval=asking)


@pytest.mark.parametrize(
    "other",
    [
        approval_of(at("canary")),
        approval_of(at("early", epoch=2)),
        approval_of(at("early"), OTHER),
        "mid",
    ],
)
def test_an_approval_of_another_stage_epoch_or_candidate_does_not_serve(other: str) -> None:
    found = refused(at("early", approved=other), Event.PROMOTE, approval=frozenset({"mid"}))
    assert f"given '{other}', needed 'mid@3 {SOUND}'" in found


def test_an_approval_without_a_candidate_serves_for_any() -> None:
    asking = frozenset({"mid"})
    approved = go(at("early"), Event.APPROVE, candidate="", approval=asking)
    assert approved.approved == "mid@3"
    assert go(approved, Event.PROMOTE, approval=asking).stage == "mid"


def test_what_needs_no_approval_cannot_be_approved() -> None:
    assert "early needs no approval; those that do: mid" in refused(
        at("canary"), Event.APPROVE, approval=frozenset({"mid"})
    )
    assert "held" in refused(at("early", held="x"), Event.APPROVE, approval=frozenset({"mid"}))


@pytest.mark.parametrize("event", [e for e in Event if e is not Event.ROLLBACK])
def test_a_flag_that_a_hand_moved_is_only_rolled_back(event: Event) -> None:
    assert "set by hand" in refused(at(UNMANAGED), event, approval=frozenset(STAGES))


def test_one_flag_a_day_goes_to_full() -> None:
    went = NOW
    soon = went + FULL_EVERY - timedelta(seconds=1)
    assert "from 2026-03-02T12:00+00:00" in refused(
        at("mid"), Event.PROMOTE, now=soon, last_full=went
    )
    assert go(at("mid"), Event.PROMOTE, now=went + FULL_EVERY, last_full=went).stage == FULL
    assert go(at("early"), Event.PROMOTE, now=soon, last_full=went).stage == "mid"


def test_a_clock_that_went_back_opens_no_door() -> None:
    assert "at most one" in refused(at("mid"), Event.PROMOTE, now=NOW, last_full=LATER)


def test_the_last_entry_to_full_is_known_from_flags_and_history() -> None:
    assert last_full([at("mid"), at(OFF)]) is None
    assert last_full([at(FULL), at("mid", entered_at=LATER)]) == NOW
    assert last_full([at(FULL)], [LATER]) == LATER


def test_two_flags_cannot_enter_full_together_and_then_neither_does() -> None:
    standings = {GOVERNOR: at("mid"), HTTP2: at("mid")}
    with pytest.raises(RefusedError, match=r"^http2_transport at mid: promote refused"):
        moved(policy(), standings, standings, Event.PROMOTE, now=LATER, candidate=SOUND)


def test_only_flags_that_change_are_told() -> None:
    standings = {GOVERNOR: at("mid"), HTTP2: at(OFF)}
    after = moved(policy(), standings, standings, Event.ROLLBACK, now=LATER, candidate=SOUND)
    assert set(after) == {GOVERNOR}


def test_a_candidate_of_which_a_part_is_not_known_has_no_name() -> None:
    assert candidate("c0ffee", "ab" * 32) == "c0ffee@abababababababab"
    assert candidate("", "ab" * 32) == candidate("c0ffee", "") == ""


def test_the_table_knows_every_state_and_gives_each_a_rollback_to_off() -> None:
    assert set(TABLE) == set(STATES)
    assert {TABLE[state][Event.ROLLBACK].to for state in STATES} == {OFF}
    assert not any(TABLE[state][Event.ROLLBACK].needs for state in STATES)


def test_the_epoch_rises_in_the_table_exactly_where_the_stage_changes() -> None:
    for state, event in product(STATES, Event):
        step = TABLE[state].get(event)
        assert step is None or step.new_epoch == (step.to != state)


@given(
    st.sampled_from(STATES), st.sampled_from(Event), st.sampled_from([*Cause, None]),
    st.sampled_from(["", SOUND, OTHER]), st.lists(st.sampled_from([SOUND, OTHER])),
)  # fmt: skip
def test_nothing_but_a_promotion_raises_a_share_and_the_epoch_tells_of_every_change(
    state: str, event: Event, cause: Cause | None, named: str, dead: list[str]
) -> None:
    before = at(state, tombstones=tuple(dict.fromkeys(dead)))
    try:
        after = go(before, event, cause=cause, candidate=named, approval=frozenset(STAGES))
    except RefusedError:
        assert event is not Event.ROLLBACK
        return
    assert after.percentage <= before.percentage or event is Event.PROMOTE
    assert (after.percentage != before.percentage) == (after.epoch == before.epoch + 1)
    assert after.epoch - before.epoch in {0, 1}
    if event is Event.PROMOTE:
        assert STAGES.index(after.stage) == STAGES.index(before.stage) + 1
        assert named not in before.tombstones
