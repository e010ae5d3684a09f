from dataclasses import replace

import pytest
from gate_builders import policy
from store_builders import GOVERNOR, HTTP2, MINIMAL, NOW, PIPELINE, QOS, SOUND, at, record

from gates.stages import OFF, STAGES, UNMANAGED, Event
from gates.standing import Standing
from gates.state_file import Changed, Texts, changed, shares_of, snapshot_of
from gates.store import Snapshot, StoreError

SHARES = shares_of(policy())


def texts(config: str, history: str = "") -> Texts:
    return Texts(config, history, "runtime.yaml", "file:runtime.yaml")


def standing(keys: str) -> Standing:
    """The governor with these keys."""
    config = f"phase4_rollout: {{adaptive_governor: {{{keys}}}}}"
    return snapshot_of(texts(config), SHARES).flags[GOVERNOR]


def promoted(before: Snapshot, after: dict[str, Standing]) -> Changed:
    """What a promotion makes of the minimal example."""
    return changed(texts(MINIMAL), before, after, record(Event.PROMOTE), SHARES)


def test_the_examples_of_the_requirements_stand_where_their_percentages_say() -> None:
    full = MINIMAL.replace("enabled: false", "enabled: true\n    rollout_percentage: 100")
    flags = snapshot_of(texts(MINIMAL), SHARES).flags
    assert {name: flag.stage for name, flag in flags.items()} == {
        GOVERNOR: "canary", HTTP2: OFF, PIPELINE: OFF, QOS: "full",
    }  # fmt: skip
    assert flags[GOVERNOR] == Standing(stage="canary", enabled=True, percentage=1, salt=GOVERNOR)
    assert flags[QOS].percentage == 100
    assert snapshot_of(texts(full), SHARES).flags[HTTP2].stage == "full"


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_share_that_is_a_stages_stands_there(stage: str) -> None:
    assert standing(f"enabled: true, rollout_percentage: {SHARES[stage]}").stage == stage


@pytest.mark.parametrize(
    "keys",
    [
        "enabled: true, rollout_percentage: 5",
        "enabled: true, rollout_percentage: 5, stage: canary",
        "enabled: true, rollout_percentage: 10, stage: canary",
        "enabled: true, rollout_percentage: 1, stage: 'off'",
        "enabled: false, rollout_percentage: 1, stage: canary",
        "enabled: true, rollout_percentage: 1, stage: early",
        "enabled: true, rollout_percentage: 1, stage: canary, entered_at: yesterday",
    ],
)
def test_a_share_that_is_not_the_one_of_its_stage_was_set_by_hand(keys: str) -> None:
    assert standing(keys).stage == UNMANAGED
    assert not standing(keys).managed


def test_what_is_disabled_stands_at_off_whatever_its_percentage_says() -> None:
    assert standing("enabled: false, rollout_percentage: 10").stage == OFF
    assert standing("enabled: true").stage == OFF


def test_every_key_is_read() -> None:
    assert standing(
        "enabled: true, rollout_percentage: 50, stage: mid, entered_at: 2026-03-01T13:00:00+01:00, "
        f"epoch: 3, salt: salt, held: odd, approved: full@3, suspect: a, tombstones: [{SOUND}], "
        "lifted: [b1, b2]"
    ) == at(
        "mid", held="odd", approved="full@3", suspect="a", tombstones=(SOUND,), lifted=("b1", "b2")
    )


def test_a_time_without_a_zone_is_utc() -> None:
    keys = "enabled: true, rollout_percentage: 1, entered_at: '2026-03-01T12:00:00'"
    assert standing(keys).entered_at == NOW


def test_a_configuration_that_is_not_valid_is_refused_with_file_line_and_key() -> None:
    with pytest.raises(StoreError, match=r"not valid: runtime.yaml:1: generation: .*; given -1"):
        snapshot_of(texts("generation: -1"), SHARES)


def test_a_flag_that_is_moved_by_hand_share_and_stage_together_is_unmanaged() -> None:
    before = snapshot_of(texts(MINIMAL), SHARES)
    canary = at("canary", epoch=1, salt=HTTP2)
    new = promoted(before, {HTTP2: canary})
    by_hand = new.texts.config.replace('"canary"', "early").replace(
        "rollout_percentage: 1\n", "rollout_percentage: 10\n"
    )
    after = snapshot_of(replace(new.texts, config=by_hand), SHARES)
    assert after.flags[HTTP2] == replace(canary, stage=UNMANAGED, percentage=10)
    assert after.flags[GOVERNOR].stage == "canary"


def test_without_a_history_the_file_alone_counts() -> None:
    before = snapshot_of(texts(MINIMAL), SHARES)
    canary = at("canary", epoch=1, salt=HTTP2)
    new = promoted(before, {HTTP2: canary})
    assert snapshot_of(texts(new.texts.config), SHARES).flags[HTTP2] == canary


def test_a_standing_that_the_file_cannot_hold_is_not_written() -> None:
    before = snapshot_of(texts(MINIMAL), SHARES)
    with pytest.raises(StoreError, match="http2_transport would not stand where it was moved"):
        promoted(before, {HTTP2: at("early", percentage=11)})


def test_a_change_is_recorded_with_what_moved() -> None:
    before = snapshot_of(texts(MINIMAL), SHARES)
    new = promoted(before, {GOVERNOR: at("early", salt=GOVERNOR)})
    move = new.record.flags[GOVERNOR]
    assert (move.origin, move.target, move.epoch, new.record.generation) == (
        "canary", "early", 3, 1,
    )  # fmt: skip
    assert new.texts.history == new.line
    assert new.snapshot == snapshot_of(new.texts, SHARES)
