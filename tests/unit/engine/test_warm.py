"""Streams that wait in the front end: what is held and read for them, and what it may cost.

Cases D18 and D20 of the engine's prior art: a warm queue that nothing ever read, whose entries
expired only when somebody took one out, and a preparation of KV caches that was never sent.
"""

from typing import Any

import pytest
from adapter_runs import VOCABULARY, Run, adapter, request

from engine.runtime.messages import Submit, Warm
from engine.runtime.stream import Turn


def prompt_of(start: int, length: int = 80) -> list[int]:
    return [3 + (start + 7 * at) % (VOCABULARY - 3) for at in range(length)]


FIRST, SECOND = prompt_of(1), prompt_of(2)
HALF = FIRST[:40]


class Stage:
    """An adapter whose clock the test moves."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        given = {"prefix_bytes": 1 << 24, **options}
        self.adapter: Any = adapter(clock=lambda: self.now, **given)
        self.known: dict[int, int] = {}
        self.read_ahead = 0
        self.expired = 0

    def warm(self, uid: int, prompt: list[int], seconds: float = 30.0) -> None:
        self.adapter.warm(Warm(uid=uid, prompt=prompt, seconds=seconds))

    def step(self) -> Turn:
        turn: Turn = self.adapter.step()
        self.adapter.settle()
        self.known |= {each.uid: each.known for each in turn.warmed}
        self.read_ahead += turn.read_ahead
        self.expired += turn.expired
        return turn

    def settle(self) -> None:
        while self.adapter.busy:
            self.step()

    def read_by(self, one: Submit) -> int:
        """Prompt tokens that a stream reads from its submission on."""
        prefills = Run(self.adapter, [one]).prefills[one.uid]
        return prefills[-1].total - prefills[-1].cached


def test_a_prompt_is_read_while_its_stream_waits_and_only_its_last_token_afterwards() -> None:
    stage = Stage()
    stage.warm(1, FIRST)
    stage.settle()
    assert stage.read_ahead == len(FIRST) - 1
    assert stage.known == {1: len(FIRST) - 1}
    assert stage.adapter.pinned_bytes > 0
    assert stage.read_by(request(1, FIRST, reuse_prefix=True)) == 1
    assert stage.adapter.pinned_bytes == 0


def test_without_warming_the_whole_prompt_is_read() -> None:
    assert Stage().read_by(request(1, FIRST, reuse_prefix=True)) == len(FIRST)


def test_what_is_read_ahead_does_not_change_the_output() -> None:
    stage = Stage()
    stage.warm(1, FIRST)
    stage.settle()
    warmed = Run(stage.adapter, [request(1, FIRST, reuse_prefix=True)])
    assert warmed.outputs == Run(adapter(), [request(1, FIRST)]).outputs


def test_nothing_is_read_ahead_in_a_turn_in_which_a_stream_has_a_prompt_to_read() -> None:
    stage = Stage()
    stage.adapter.submit(request(5, SECOND[:20], max_tokens=30))
    while stage.step().prefills:
        pass
    stage.warm(1, prompt_of(1, 600))
    stage.step()
    assert 0 < stage.read_ahead < 599
    stage.adapter.submit(request(6, prompt_of(3, 200), max_tokens=2))  # control, with a long prompt
    before = stage.read_ahead
    while (turn := stage.step()).prefills:
        assert turn.read_ahead == 0
        if any(prefill.done == prefill.total for prefill in turn.prefills):
            break
    assert stage.read_ahead == before
    assert stage.known[1] == before  # what was read is kept
    stage.settle()
    assert stage.known[1] == 599
    assert stage.read_ahead == 599  # and not read again


def test_a_control_streams_prefill_takes_as_many_turns_with_and_without_waiting_streams() -> None:
    turns = []
    for waiting in (0, 5):
        stage = Stage()
        for uid in range(10, 10 + waiting):
            stage.warm(uid, prompt_of(uid, 300))
        stage.adapter.submit(request(1, FIRST))
        count = 0
        while not stage.step().tokens:
            count += 1
        turns.append(count)
    assert turns[0] == turns[1]


def test_what_is_known_already_is_not_read_again_and_told_at_once() -> None:
    stage = Stage()
    Run(stage.adapter, [request(1, HALF, reuse_prefix=True)])
    stage.warm(2, FIRST)
    assert stage.adapter.step().warmed[0].known >= len(HALF)


def test_the_least_work_is_read_first() -> None:
    stage = Stage()
    stage.warm(1, prompt_of(1, 300))
    stage.warm(2, prompt_of(2, 60))
    while not stage.known.get(2):
        stage.step()
    assert stage.known[1] == 0


def test_a_pin_ends_by_itself_when_nobody_takes_it_out() -> None:
    stage = Stage()
    stage.warm(1, FIRST, seconds=10)
    stage.settle()
    assert stage.adapter.pinned_bytes > 0
    stage.now = 9.9
    stage.step()
    assert (stage.adapter.pinned_bytes > 0, stage.expired) == (True, 0)
    stage.now = 10.0
    stage.step()
    assert (stage.adapter.pinned_bytes, stage.expired) == (0, 1)


def test_the_queue_does_not_fill_up() -> None:
    stage = Stage()
    for uid in range(300):
        stage.now += 1
        stage.warm(uid, FIRST, seconds=5)
        stage.step()
    assert stage.expired >= 290
    stage.warm(999, SECOND)
    stage.settle()
    assert stage.known[999] == len(SECOND) - 1


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_a_stream_that_does_not_come_holds_nothing(steps: int) -> None:
    stage = Stage()
    stage.warm(1, prompt_of(1, 300))
    for _ in range(steps):
        stage.step()
    stage.adapter.forget(1)
    assert stage.adapter.pinned_bytes == 0
    assert not stage.adapter.busy
    stage.step()
    assert (stage.adapter.rows, stage.adapter.kv_bytes) == (0, 0)


def test_a_stream_that_is_cancelled_before_it_begins_holds_nothing() -> None:
    stage = Stage(max_rows=1)
    stage.warm(1, FIRST)
    stage.settle()
    stage.adapter.submit(request(2, SECOND))
    stage.step()
    stage.adapter.submit(request(1, FIRST, reuse_prefix=True))
    assert stage.adapter.pinned_bytes > 0
    stage.adapter.cancel(1)
    assert stage.adapter.pinned_bytes == 0


def test_pins_take_at_most_half_of_the_budget_and_reading_ahead_ends() -> None:
    one = Stage()
    one.warm(1, FIRST)
    one.settle()
    budget = 3 * one.adapter.prefix_bytes
    stage = Stage(prefix_bytes=budget)
    for uid in range(20):
        stage.warm(uid, prompt_of(uid + 1))
    stage.settle()
    assert 0 < stage.adapter.pinned_bytes <= budget / 2
    assert stage.adapter.prefix_bytes <= budget
    assert stage.read_ahead <= 2 * 79


def test_what_finds_no_room_in_the_store_is_read_once_and_not_for_ever() -> None:
    stage = Stage(prefix_bytes=10)
    stage.warm(1, FIRST)
    stage.settle()
    assert stage.known[1] == 0
    assert stage.read_ahead <= len(FIRST)


def test_a_pinned_prefix_outlives_what_others_store_and_not_a_shortage_of_memory() -> None:
    one = Stage()
    one.warm(1, FIRST)
    one.settle()
    stage = Stage(prefix_bytes=3 * one.adapter.prefix_bytes)
    stage.warm(1, FIRST)
    stage.settle()
    for start in range(5, 15):
        Run(stage.adapter, [request(start, prompt_of(start), reuse_prefix=True, max_tokens=1)])
    assert stage.read_by(request(1, FIRST, reuse_prefix=True)) == 1
    stage.warm(2, SECOND)
    stage.settle()
    stage.adapter.evict(0)
    assert (stage.adapter.pinned_bytes, stage.adapter.prefix_bytes) == (0, 0)


def test_a_failed_step_drops_who_waits_and_says_that_a_prompt_was_read_ahead() -> None:
    stage = Stage()
    assert not stage.adapter.reads_ahead
    stage.adapter.submit(request(5, SECOND[:20]))
    while stage.step().prefills:
        pass
    stage.warm(1, prompt_of(1, 600))
    stage.step()
    assert stage.adapter.reads_ahead
    assert stage.adapter.discard() == [5]
    assert (stage.adapter.reads_ahead, stage.adapter.busy) == (False, False)


def test_a_prompt_that_was_announced_and_then_submitted_was_seen_once() -> None:
    stage = Stage(prefix_bytes=1 << 24)
    prompt = prompt_of(1, 200)
    stage.adapter.warm(Warm(uid=1, prompt=prompt, checkpoints=[100], seconds=30))
    stage.adapter.submit(request(1, prompt, reuse_prefix=True, checkpoints=[100]))
    stage.step()
    assert stage.adapter._streams[1].stops == []


def test_a_prompt_whose_turns_nobody_shares_is_stored_once_at_its_end() -> None:
    stage = Stage()
    stage.adapter.submit(request(1, FIRST, reuse_prefix=True, checkpoints=[40]))
    while not stage.step().tokens:
        pass
    assert stage.adapter.prefix_bytes == 0
    stage.settle()
    assert stage.read_by(request(2, [*HALF, 9, 9], reuse_prefix=True)) == 2


def test_a_checkpoint_that_two_prompts_share_is_stored_before_the_first_has_been_read() -> None:
    system = prompt_of(9, 100)
    stage = Stage(prefill_rows=1, max_rows=1)
    given = [
        request(
            uid,
            [*system, *prompt_of(uid, 600)],
            reuse_prefix=True,
            checkpoints=[len(system)],
            max_tokens=1,
        )
        for uid in (1, 2)
    ]
    for one in given:
        stage.adapter.submit(one)
    while not stage.adapter.prefix_bytes:
        stage.step()
    assert stage.adapter._streams[1].unread == 600
    hit = stage.adapter._reuse.prefixes.lookup([*system, 5, 6])
    assert hit is not None
    assert hit.length == len(system)
