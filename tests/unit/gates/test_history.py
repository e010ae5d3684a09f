from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_builders import GOVERNOR, HTTP2, NOW, SOUND

from gates.history import Change, History, Record, next_line, pauses, verified

STORE = "runtime.yaml"
UP = Change(origin="off", target="canary", epoch=1)


def record(generation: int, event: str = "promote", *flags: str, minutes: int = 0) -> Record:
    return Record(
        event=event,
        reason="a reason with an ü",
        who="ada",
        at=NOW + timedelta(minutes=minutes),
        verdict="ab" * 32,
        cause="manual",
        candidate=SOUND,
        flags=dict.fromkeys(flags or (GOVERNOR,), UP),
        generation=generation,
    )


def written(*generations: int, text: str = "", base: str = "") -> tuple[str, str]:
    """A history of changes that all took effect, and its head."""
    for generation in generations:
        line, base = next_line(text, record(generation), base=base, store=STORE)
        text += line
    return text, base


def check(text: str, head: str, generation: int) -> History:
    return verified(text, head=head, generation=generation, store=STORE)


def test_what_is_written_is_read_back() -> None:
    text, head = written(4, 5, 6)
    assert check(text, head, 6) == History(records=(record(4), record(5), record(6)))
    assert check(text, head, 6).last(GOVERNOR) == record(6)
    assert check(text, head, 6).last(HTTP2) is None


def test_a_store_that_never_recorded_anything_has_no_problem() -> None:
    assert check("", "", 12) == History()


def test_a_history_that_is_gone_is_a_problem() -> None:
    _, head = written(1, 2)
    assert check("", head, 2).problems == (
        f"the last change of the store ({head[:12]}) is not there: cut off, or replaced",
    )


@pytest.mark.parametrize("kept", range(5))
def test_a_cut_tail_is_found(kept: int) -> None:
    text, head = written(1, 2, 3, 4, 5)
    cut = "".join(text.splitlines(keepends=True)[:kept])
    assert any("cut off" in problem for problem in check(cut, head, 5).problems)


@pytest.mark.parametrize("removed", range(4))
def test_a_removed_line_is_found(removed: int) -> None:
    text, head = written(1, 2, 3, 4, 5)
    lines = text.splitlines(keepends=True)
    del lines[removed]
    assert check("".join(lines), head, 5).problems


@pytest.mark.parametrize("at", range(4))
def test_an_inserted_line_is_found(at: int) -> None:
    text, head = written(1, 2, 3, 4)
    lines = text.splitlines(keepends=True)
    forged, _ = next_line("".join(lines[:at]), record(at + 1), base="", store=STORE)
    lines.insert(at, forged.replace("ada", "eve"))
    assert check("".join(lines), head, 4).problems


def test_two_lines_that_changed_places_are_found() -> None:
    text, head = written(1, 2, 3, 4)
    one, two, three, four = text.splitlines(keepends=True)
    assert check(one + three + two + four, head, 4).problems


def test_a_tail_that_was_replaced_by_another_of_the_same_length_is_found() -> None:
    text, head = written(1, 2, 3)
    forged, base = written(1)
    for generation in (2, 3):
        mine = replace(record(generation), who="eve")
        line, base = next_line(forged, mine, base=base, store=STORE)
        forged += line
    assert check(forged, base, 3).problems == ()  # it is whole in itself
    assert check(forged, head, 3).problems
    assert check(text, head, 3).problems == ()


@given(st.data())
def test_any_other_byte_in_a_line_is_found(data: st.DataObject) -> None:
    text, head = written(1, 2, 3)
    at = data.draw(st.integers(0, len(text) - 2))
    other = data.draw(st.characters(exclude_characters=text[at] + "\n", exclude_categories=["Cs"]))
    assert check(text[:at] + other + text[at + 1 :], head, 3).problems


def test_a_change_whose_writer_died_is_unfinished_and_no_problem() -> None:
    text, head = written(1, 2)
    dead, _ = next_line(text, record(3), base=head, store=STORE)
    found = check(text + dead, head, 2)
    assert (found.unfinished, found.problems) == ((record(3),), ())


def test_a_history_goes_on_over_changes_that_did_not_take_effect() -> None:
    text, head = written(1, 2)
    for _ in range(2):
        dead, _ = next_line(text, record(3, "rollback"), base=head, store=STORE)
        text += dead
    text, last = written(3, 4, text=text, base=head)
    found = check(text, last, 4)
    assert [r.generation for r in found.records] == [1, 2, 3, 4]
    assert [r.event for r in found.unfinished] == ["rollback", "rollback"]
    assert found.problems == ()


@pytest.mark.parametrize("length", [1, 40, -1])
def test_a_line_that_its_writer_did_not_finish_stays_and_is_told(length: int) -> None:
    text, head = written(1, 2)
    dead, _ = next_line(text, record(3), base=head, store=STORE)
    torn = text + dead[:-1][:length]
    found = check(torn, head, 2)
    assert (found.torn, found.problems) == ((3,), ())
    whole, last = written(3, text=torn, base=head)
    found = check(whole, last, 3)
    assert (found.torn, found.problems, len(found.records)) == ((3,), (), 3)


def test_a_last_line_without_its_end_that_can_be_read_is_unfinished() -> None:
    text, head = written(1, 2)
    dead, _ = next_line(text, record(3), base=head, store=STORE)
    found = check(text + dead.removesuffix("\n"), head, 2)
    assert (found.unfinished, found.torn, found.problems) == ((record(3),), (), ())
    whole, last = written(3, text=text + dead.removesuffix("\n"), base=head)
    assert check(whole, last, 3).problems == ()


def test_a_torn_line_that_was_changed_later_is_found() -> None:
    text, head = written(1, 2)
    whole, last = written(3, text=text + "torn", base=head)
    assert check(whole.replace("torn", "worn"), last, 3).problems


def test_a_configuration_that_was_put_back_is_found() -> None:
    """Of one generation it looks like a writer that died; that is told, as unfinished."""
    early, old = written(1, 2, 3)
    text, _ = written(4, 5, text=early, base=old)
    assert any("put back" in problem for problem in check(text, old, 3).problems)
    text, _ = written(4, text=early, base=old)
    assert check(text, old, 3).unfinished == (record(4),)


def test_a_head_that_was_taken_out_of_the_configuration_is_found() -> None:
    text, _ = written(1, 2)
    assert check(text, "", 2).problems


@pytest.mark.parametrize("generation", [2, 4, 9])
def test_a_generation_that_was_not_recorded_is_found(generation: int) -> None:
    text, head = written(1, 2, 3)
    found = check(text, head, generation).problems
    assert found == (
        f"behind generation 3, the store is at generation {generation}: a change was not recorded",
    )


def test_a_gap_between_generations_is_found() -> None:
    text, head = written(1, 2, 4)
    assert check(text, head, 4).problems == (
        "behind generation 2, generation 4: a change was not recorded",
    )


def test_two_stores_in_one_folder_share_a_history() -> None:
    text, ours = written(1, 2)
    line, theirs = next_line(text, record(8), base="", store="other.yaml")
    text, ours = written(3, text=text + line, base=ours)
    assert check(text, ours, 3).problems == ()
    assert len(check(text, ours, 3).records) == 3
    other = verified(text, head=theirs, generation=8, store="other.yaml")
    assert (len(other.records), other.problems) == (1, ())


def test_times_in_which_a_flag_was_held_are_known() -> None:
    records = (
        record(1, "promote"),
        record(2, "hold", minutes=10),
        record(3, "hold", minutes=11),
        record(4, "hold", HTTP2, minutes=12),
        record(5, "resume", minutes=20),
        record(6, "hold", minutes=30),
        record(7, "rollback", minutes=40),
    )
    history = History(records=records)
    minute = timedelta(minutes=1)
    assert pauses(history, GOVERNOR) == (
        (NOW + 10 * minute, NOW + 20 * minute),
        (NOW + 30 * minute, None),
    )
    assert pauses(history, HTTP2) == ((NOW + 12 * minute, None),)
