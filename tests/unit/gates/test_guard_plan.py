from dataclasses import replace
from datetime import timedelta

import pytest
from guard_builders import (
    FLAG,
    LEASES,
    NOW,
    OTHER,
    SECOND,
    URL,
    braked,
    pending,
    polled,
    served,
    sight,
    silent,
    situation,
    standing,
    store,
    view,
)
from hypothesis import given
from hypothesis import strategies as st

from gates.engine_views import Lease
from gates.guarding.concerns import holds
from gates.guarding.plan import plan
from gates.guarding.sight import GRACE
from gates.guarding.situation import (
    Acknowledge,
    Action,
    Brake,
    Close,
    Deliver,
    Polled,
    Record,
    Renew,
    Settle,
    Situation,
    TakeOver,
    Tell,
)
from gates.ledger import minute_of
from gates.live_health import STALE_MINUTES
from gates.standing import Cause

OFF = {FLAG: standing("off", epoch=4), OTHER: standing("off", epoch=1)}
NOT_SERVED = {FLAG: served(0.0), OTHER: served(0.0)}


def of(kind: type[Action], given: Situation) -> list[Action]:
    return [action for action in plan(given, NOW) if isinstance(action, kind)]


def test_where_all_is_well_leases_are_renewed_and_nothing_else_is_done() -> None:
    assert plan(situation(), NOW) == (Renew(url=URL, seconds=900), Renew(url=SECOND, seconds=900))


def test_where_every_flag_is_off_there_is_nothing_to_do() -> None:
    engines = (polled(flags=NOT_SERVED),)
    assert plan(situation(store=store(OFF), engines=engines, sights={}), NOW) == ()


@pytest.mark.parametrize(
    ("stages", "seconds"),
    [
        (("mid",), LEASES["mid"]),
        (("mid", "canary"), LEASES["canary"]),
        (("full",), LEASES["mid"]),
    ],
)
def test_the_lease_is_the_shortest_of_the_stages_at_which_a_flag_stands(
    stages: tuple[str, ...], seconds: float
) -> None:
    flags = dict(zip((FLAG, OTHER), map(standing, stages), strict=False))
    sights = {flag: sight(flag) for flag in flags}
    renewed = of(Renew, situation(store=store(flags), sights=sights))
    assert {each.seconds for each in renewed if isinstance(each, Renew)} == {seconds}


# --- evidence and leases


def test_a_guard_without_a_ledger_renews_no_lease_and_says_so() -> None:
    actions = plan(situation(sights={}), NOW)
    assert not [a for a in actions if isinstance(a, Renew)]
    assert any("nothing is known of epoch 3" in text for text in holds(actions))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"last_valid": None}, "no valid minute"),
        ({"last_valid": minute_of(NOW) - STALE_MINUTES - 2}, "allowed: 5"),
        ({"last_valid": minute_of(NOW) - 30, "reason": "no answer from e2"}, "no answer from e2"),
        ({"last_valid": minute_of(NOW) + 9}, "ahead of the clock"),
        ({"epoch": 2}, "nothing is known of epoch 3"),
        ({"problems": ("ledger:3: not a row",)}, "not a row"),
    ],
)
def test_unsound_evidence_renews_no_lease(change: dict[str, object], words: str) -> None:
    actions = plan(situation(sights={FLAG: sight(**change)}), NOW)
    assert not [a for a in actions if isinstance(a, Renew)]
    assert all(words in text for text in holds(actions))
    assert len(holds(actions)) == 2


def test_an_engine_that_is_in_no_minute_gets_no_lease_and_the_other_does() -> None:
    actions = plan(situation(sights={FLAG: sight(engines=("e1",))}), NOW)
    assert [a.url for a in actions if isinstance(a, Renew)] == [URL]
    assert "engine e2 is not in the evidence" in holds(actions)[0]


def test_a_flag_that_has_just_entered_its_stage_has_time_for_its_first_minutes() -> None:
    new = sight(last_valid=None, engines=(), entered_at=NOW - GRACE)
    assert of(Renew, situation(sights={FLAG: new}))
    late = replace(new, entered_at=NOW - GRACE - timedelta(seconds=1))
    assert not of(Renew, situation(sights={FLAG: late}))


def test_a_time_of_entering_in_the_future_gives_no_grace() -> None:
    new = sight(last_valid=None, engines=(), entered_at=NOW + timedelta(days=1))
    assert not of(Renew, situation(sights={FLAG: new}))


def test_a_flag_that_is_being_rolled_back_needs_no_evidence() -> None:
    flags = {FLAG: standing(), OTHER: standing("early")}
    given = situation(
        store=store(flags), sights={OTHER: sight(OTHER)}, pending=(pending(acknowledged={FLAG: 4}),)
    )
    assert len(of(Renew, given)) == 2


# --- rollbacks


def test_a_rollback_brakes_every_engine_first_then_the_store() -> None:
    actions = plan(situation(pending=(pending(),)), NOW)
    assert [type(a) for a in actions[:3]] == [Brake, Brake, Record]
    assert actions[2] == Record(pending="r1", flags=(FLAG,))


def test_the_other_flags_are_left_alone() -> None:
    flags = {FLAG: standing(), OTHER: standing("early")}
    engines = (polled(flags={FLAG: served(), OTHER: served(10.0)}),)
    given = situation(
        store=store(flags), engines=engines, sights={OTHER: sight(OTHER)}, pending=(pending(),)
    )
    actions = plan(given, NOW)
    assert {a.flags for a in actions if isinstance(a, Brake | Record)} == {(FLAG,)}
    assert [a for a in actions if isinstance(a, Renew)]


def test_an_engine_that_confirms_is_not_told_again_and_a_silent_one_is() -> None:
    engines = (polled(flags={FLAG: braked(served())}), silent(SECOND))
    given = situation(engines=engines, pending=(pending(brakes=("b1",)),))
    assert [a.url for a in of(Brake, given) if isinstance(a, Brake)] == [SECOND]


def test_a_rollback_goes_on_without_any_store() -> None:
    given = situation(store=None, trouble=("not reachable",), pending=(pending(),))
    assert len(of(Brake, given)) == 2
    assert not of(Record, given)


def test_a_rollback_that_the_store_has_already_is_acknowledged_not_written_again() -> None:
    given = situation(store=store(OFF), sights={}, pending=(pending(),))
    assert of(Acknowledge, given) == [Acknowledge(pending="r1", epochs={FLAG: 4})]
    assert not of(Record, given)


def test_a_promotion_that_was_quicker_loses() -> None:
    flags = {FLAG: standing("early", epoch=4), OTHER: standing("off")}
    given = situation(store=store(flags, generation=8), pending=(pending(),))
    assert of(Record, given) == [Record(pending="r1", flags=(FLAG,))]
    assert not of(Deliver, given)


def test_a_rollback_is_over_when_every_engine_confirms_and_the_store_knows() -> None:
    done = pending(acknowledged={FLAG: 4}, brakes=("b1", "b2"))
    quiet = (
        polled(URL, flags={FLAG: braked(served(), "b1")}),
        polled(SECOND, flags={FLAG: braked(served(), "b2")}),
    )
    given = situation(store=store(OFF), engines=quiet, sights={}, pending=(done,))
    assert of(Close, given) == [Close(pending="r1")]
    waits = replace(given, engines=(quiet[0], silent(SECOND)))
    assert not of(Close, waits)
    assert any(SECOND in text for text in holds(plan(waits, NOW)))


def test_a_rollback_of_long_ago_does_not_end_a_promotion_since() -> None:
    """An engine that was down all the while must not brake what was promoted again."""
    again = {FLAG: standing("canary", epoch=6), OTHER: standing("off")}
    old = pending(acknowledged={FLAG: 4})
    given = situation(store=store(again), engines=(silent(),), pending=(old,), sights={})
    assert not of(Brake, given)
    assert of(Close, given) == [Close(pending="r1")]


# --- brakes of others


def test_a_brake_that_the_store_does_not_know_is_taken_over() -> None:
    engines = (polled(flags={FLAG: braked(served())}), polled(SECOND))
    (taken,) = of(TakeOver, situation(engines=engines))
    assert taken == TakeOver(
        flags=(FLAG,), cause=Cause.MANUAL, brakes=("b1",), engines=(f"e1 at {URL}",)
    )


def test_a_brake_that_somebody_may_be_writing_down_is_left_to_them() -> None:
    engines = (polled(flags={FLAG: braked(served())}), polled(SECOND, generation=6))
    given = situation(engines=engines, store=store(RAISE), recent=frozenset({"b1"}), sights={})
    assert not of(TakeOver, given)
    assert not of(Deliver, given)


def test_brakes_of_different_causes_are_taken_over_apart() -> None:
    flags = {FLAG: standing(), OTHER: standing("early")}
    engines = (
        polled(flags={FLAG: braked(served()), OTHER: braked(served(), "b2", "dead_man")}),
        polled(SECOND, flags={FLAG: braked(served(), "b3"), OTHER: served(10.0)}),
    )
    found = of(TakeOver, situation(store=store(flags), engines=engines))
    assert {(t.flags, t.cause, t.brakes) for t in found if isinstance(t, TakeOver)} == {
        ((FLAG,), Cause.MANUAL, ("b1", "b3")),
        ((OTHER,), Cause.DEAD_MAN, ("b2",)),
    }


@pytest.mark.parametrize(
    "explained",
    [
        {"settled": frozenset({"b1"})},
        {"pending": (pending(brakes=("b1",)),)},
        {"store": store({FLAG: standing(lifted=("b1",)), OTHER: standing("off")})},
        {"store": store(OFF)},
    ],
)
def test_a_brake_that_is_explained_is_not_taken_over(explained: dict[str, object]) -> None:
    engines = (polled(flags={FLAG: braked(served())}),)
    assert not of(TakeOver, situation(engines=engines, **explained))


def test_a_brake_of_a_flag_at_off_is_remembered_as_explained() -> None:
    engines = (polled(flags={FLAG: braked(served())}),)
    given = situation(engines=engines, store=store(OFF), sights={})
    assert of(Settle, given) == [Settle(brakes=("b1",))]
    assert not of(Settle, replace(given, settled=frozenset({"b1"})))


def test_an_engine_ahead_of_the_store_explains_nothing() -> None:
    """It may brake what was promoted after our last look."""
    engines = (polled(flags={FLAG: braked(served())}, generation=8),)
    assert not of(Settle, situation(engines=engines, store=store(OFF), sights={}))


def test_an_old_brake_on_a_new_promotion_is_told_and_rolls_nothing_back() -> None:
    engines = (polled(flags={FLAG: braked(served())}),)
    given = situation(engines=engines, settled=frozenset({"b1"}))
    assert not of(TakeOver, given)
    assert any("by brake b1 of an earlier rollback" in text for text in holds(plan(given, NOW)))


def test_an_engine_of_another_version_may_name_a_cause_of_its_own() -> None:
    engines = (polled(flags={FLAG: braked(served(), cause="meteorite")}),)
    (taken,) = of(TakeOver, situation(engines=engines))
    assert isinstance(taken, TakeOver)
    assert taken.cause is Cause.MANUAL


# --- deliveries


def test_an_engine_that_is_behind_is_brought_up_to_date() -> None:
    given = situation(engines=(polled(generation=6), polled(SECOND)))
    assert of(Deliver, given) == [Deliver(url=URL)]


RAISE = {FLAG: standing("early"), OTHER: standing("off")}


@pytest.mark.parametrize(
    "reason",
    [
        {"trouble": ("history: line 3 was edited",)},
        {"pending": (pending(flags={OTHER: 3}),), "store": store({**RAISE, OTHER: standing()})},
        {"engines": (polled(generation=6), polled(SECOND, flags={FLAG: braked(served())}))},
    ],
)
def test_no_raise_is_delivered_before_a_local_rollback_is_in_the_store(
    reason: dict[str, object],
) -> None:
    given = situation(
        **{"store": store(RAISE), "engines": (polled(generation=6),), "sights": {}, **reason}
    )
    assert not of(Deliver, given)


def test_what_lowers_is_delivered_whatever_else_is_wrong() -> None:
    given = situation(store=store(OFF, generation=8), trouble=("history: edited",), sights={})
    assert len(of(Deliver, given)) == 2


# --- what people must know


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engines": (silent(),)}, "does not answer: no answer within 3 s"),
        ({"engines": (polled(generation=9),)}, "the store went back, or the engine has another"),
        (
            {"engines": (polled(flags={FLAG: served(unmanaged=True)}),)},
            "serves ttft_pipeline at 1 %, raised by hand",
        ),
        (
            {"engines": (polled(lease=Lease(expires_at=1.0, lapsed=True, frozen=True)),)},
            "is frozen: its lease lapsed at full",
        ),
        ({"trouble": ("git: no route",)}, "git: no route"),
        ({"complaints": {"x": "over the limit in both arms"}}, "over the limit in both arms"),
        (
            {"store": store({FLAG: standing("unmanaged"), OTHER: standing("off")}), "sights": {}},
            "at 7 % in the store by somebody's hand",
        ),
        ({"pending": (pending(),)}, "the store does not know of ttft_pipeline"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, object], words: str) -> None:
    texts = holds(plan(situation(**change), NOW))
    assert [text for text in texts if words in text], texts


def test_every_concern_has_a_key_of_its_own() -> None:
    engines = (silent(), polled(SECOND, flags={FLAG: braked(served())}, generation=9))
    given = situation(engines=engines, pending=(pending(),), sights={}, trouble=("broken",))
    keys = [a.key for a in plan(given, NOW) if isinstance(a, Tell)]
    assert len(keys) == len(set(keys))


# --- invariants


FLAG_VIEWS = st.builds(
    lambda share, brake: braked(served(share), brake) if brake else served(share),
    st.sampled_from([0.0, 1.0, 10.0]),
    st.sampled_from(["", "b1", "b2"]),
)
VIEWS = st.builds(
    lambda url, one, two, generation: Polled(
        url=url, view=view(url, {FLAG: one, OTHER: two}, generation)
    ),
    st.sampled_from([URL, SECOND]),
    FLAG_VIEWS,
    FLAG_VIEWS,
    st.integers(6, 8),
)
STANDINGS = st.builds(
    lambda stage, epoch, lifted: standing(stage, epoch=epoch, lifted=lifted),
    st.sampled_from(["off", "canary", "early", "unmanaged"]),
    st.integers(3, 5),
    st.sampled_from([(), ("b1",), ("b1", "b2")]),
)
SITUATIONS = st.builds(
    lambda engines, one, two, opened, known, trouble, settled, seen: situation(
        engines=tuple({e.url: e for e in engines}.values()),
        store=store({FLAG: one, OTHER: two}),
        pending=(pending(acknowledged={FLAG: 4} if known else {}),) if opened else (),
        trouble=trouble,
        settled=settled,
        sights={FLAG: sight(epoch=one.epoch), OTHER: sight(OTHER, epoch=two.epoch)} if seen else {},
    ),
    st.lists(st.one_of(VIEWS, st.builds(silent, st.sampled_from([URL, SECOND]))), max_size=2),
    STANDINGS,
    STANDINGS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("broken",)]),
    st.sampled_from([frozenset(), frozenset({"b1"})]),
    st.booleans(),
)


@given(SITUATIONS)
def test_while_a_rollback_is_not_in_the_store_no_engine_gets_more(given_one: Situation) -> None:
    actions = plan(given_one, NOW)
    assert given_one.store is not None
    if any(isinstance(a, Record | TakeOver) for a in actions) or given_one.trouble:
        views = {polled_one.url: v for polled_one, v in given_one.views}
        for action in actions:
            if isinstance(action, Deliver):
                for flag, wanted in given_one.store.flags.items():
                    share = wanted.percentage if wanted.enabled else 0
                    assert share <= views[action.url].flags[flag].percentage


@given(SITUATIONS)
def test_a_rollback_is_asked_for_until_it_is_everywhere(given_one: Situation) -> None:
    actions = plan(given_one, NOW)
    for each in given_one.pending:
        asked = [a for a in actions if isinstance(a, Brake | Record | Acknowledge | Close)]
        assert asked, each


@given(SITUATIONS)
def test_a_lease_is_renewed_only_for_engines_that_every_live_flag_counts(
    given_one: Situation,
) -> None:
    actions = plan(given_one, NOW)
    renewed = {a.url for a in actions if isinstance(a, Renew)}
    for polled_one, seen in given_one.views:
        if any(given_one.blind(seen.engine_id, NOW)):
            assert polled_one.url not in renewed
    if not given_one.sights and given_one.live:
        assert not renewed


@given(SITUATIONS)
def test_what_was_done_is_not_asked_for_again(given_one: Situation) -> None:
    """Brakes that are remembered, and rollbacks that are taken over, do not come back."""
    for action in plan(given_one, NOW):
        if isinstance(action, Settle):
            after = replace(given_one, settled=given_one.settled | set(action.brakes))
            assert not of(Settle, after)
        if isinstance(action, TakeOver):
            mine = pending(id="r2", flags=dict.fromkeys(action.flags, 3), brakes=action.brakes)
            after = replace(given_one, pending=(*given_one.pending, mine))
            again = {b for t in of(TakeOver, after) if isinstance(t, TakeOver) for b in t.brakes}
            assert not again & set(action.brakes)
