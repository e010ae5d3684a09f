"""Newcomers begin together where others arrive right behind them, and wait for nobody else."""

import socket
from collections.abc import Callable

import pytest
from adapter_runs import Run, adapter, prompts, request
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.adapter import Adapter
from engine.runtime.messages import Stop, ToRuntime
from engine.runtime.prefill import GATHER_SECONDS, LINGER_SHARE, SUCCESSORS_SECONDS, gathers
from engine.runtime.serving import Inbox, Worker

SECONDS = st.floats(0, 1)


def decoding(clock: Callable[[], float]) -> Adapter:
    """An adapter with one stream that decodes."""
    under_test = adapter(clock=clock)
    under_test.submit(request(1, prompts(1)[0], max_tokens=100))
    while not under_test.step().tokens:
        pass
    return under_test


@given(waited=SECONDS, turn=SECONDS)
def test_nobody_waits_without_others_arriving_nor_longer_than_the_bound(
    waited: float, turn: float
) -> None:
    assert not gathers(arriving=False, waited=waited, turn=turn)
    if gathers(arriving=True, waited=waited, turn=turn):
        assert waited + turn < GATHER_SECONDS


def test_who_arrives_waits_one_turn_and_begins_with_who_came_behind() -> None:
    under_test = decoding(lambda: 0.0)
    under_test.submit(request(2, [5] * 8))
    under_test.step()
    assert under_test.rows == 1
    under_test.submit(request(3, [6] * 8))
    under_test.step()
    assert under_test.rows == 1  # somebody came again
    under_test.step()
    assert under_test.rows == 3


def test_a_whole_group_waits_for_nobody() -> None:
    under_test = decoding(lambda: 0.0)
    for uid in range(2, 6):
        under_test.submit(request(uid, [5] * 3))
    under_test.step()
    assert under_test.rows == 5


def test_who_finds_nothing_running_waits_for_nobody() -> None:
    under_test = adapter(clock=lambda: 0.0)
    under_test.submit(request(1, [5] * 8))
    under_test.step()
    assert under_test.rows == 1


def slow(clock: Callable[[], float], *ends: int) -> Adapter:
    """One that reads 100 tokens a second, after streams have ended together."""
    under_test = adapter(clock=clock, prefix_bytes=1 << 20)
    for uid in ends:
        under_test.submit(request(uid, [5] * 8, max_tokens=1))
    while under_test.busy:
        under_test.step()
    return reading(under_test, 100.0)


def reading(under_test: Adapter, tokens_per_second: float) -> Adapter:
    """The same at another speed: what the machine has shown is forgotten."""
    under_test._pace.tokens_per_second = tokens_per_second
    return under_test


def test_who_comes_first_lingers_while_nothing_runs() -> None:
    now = 0.0
    under_test = slow(lambda: now)
    under_test.submit(request(1, [5] * 40))
    assert under_test.lingers() == GATHER_SECONDS
    now = 0.75 * GATHER_SECONDS
    under_test.submit(request(2, [6] * 40))
    assert under_test.lingers() == pytest.approx(0.25 * GATHER_SECONDS)  # not once more
    now = GATHER_SECONDS
    assert under_test.lingers() == 0.0
    under_test.step()
    assert under_test.rows == 2


def test_successors_of_a_group_are_waited_for_until_all_are_there() -> None:
    under_test = slow(lambda: 0.0, 1, 2, 3)
    under_test.submit(request(4, [5] * 40))
    under_test.submit(request(5, [5] * 40))
    assert under_test.lingers() == SUCCESSORS_SECONDS
    under_test.submit(request(6, [5] * 40))
    assert under_test.lingers() == GATHER_SECONDS


def test_a_group_that_fills_a_turn_does_not_linger() -> None:
    under_test = slow(lambda: 0.0)
    for uid in range(4):
        under_test.submit(request(uid, [5] * 8))
    assert under_test.lingers() == 0.0


def test_where_something_runs_nobody_lingers() -> None:
    under_test = slow(lambda: 0.0)
    under_test.submit(request(1, [5] * 8, max_tokens=100))
    while not under_test.step().tokens:
        pass
    under_test.submit(request(2, [5] * 8))
    assert under_test.lingers() == 0.0


def test_what_is_known_of_a_prompt_counts_as_read() -> None:
    under_test = slow(lambda: 0.0)
    shared = [*range(5, 65)]
    under_test.submit(request(1, [*shared, 71], max_tokens=1, reuse_prefix=True))
    while under_test.busy:
        under_test.step()
    reading(under_test, 1_000.0).submit(request(2, [*shared, 80], reuse_prefix=True))
    assert under_test.lingers() == pytest.approx(LINGER_SHARE / 1_000)  # one token is left


class Latecomer(Inbox):
    """An inbox into which a second stream comes while its reader waits for nothing but that."""

    def get(self, block: bool = True, timeout: float | None = None) -> ToRuntime:
        if timeout:
            self.put(request(2, [6] * 40, max_tokens=1))
            self.put(Stop())
        return super().get(block, timeout)


def test_the_process_takes_who_comes_while_the_first_one_lingers() -> None:
    inbox = Latecomer()
    inbox.put(request(1, [5] * 40, max_tokens=1))
    ours, theirs = socket.socketpair()
    under_test = slow(lambda: 0.0)
    with ours, theirs:
        Worker(under_test, inbox, theirs, epoch=1).run()
    assert under_test.waiting == 2


@pytest.mark.parametrize("arrive", [False, True])
def test_who_waited_long_enough_begins_whoever_still_arrives(*, arrive: bool) -> None:
    now = 0.0
    under_test = decoding(lambda: now)
    under_test.submit(request(2, [5] * 8))
    under_test.step()
    now = GATHER_SECONDS
    if arrive:
        under_test.submit(request(3, [6] * 8))
    under_test.step()
    assert under_test.rows == (3 if arrive else 2)


def test_where_turns_take_long_nobody_waits() -> None:
    times = iter(range(1_000))
    under_test = decoding(lambda: float(next(times)))
    under_test.submit(request(2, [5] * 8))
    under_test.step()
    assert under_test.rows == 2


def test_waiting_changes_no_output() -> None:
    requests = [request(uid, prompt) for uid, prompt in enumerate(prompts(12))]
    at_once, waiting = Run(adapter(), requests), Run(adapter(clock=lambda: 0.0), requests)
    assert at_once.tokens.keys() == waiting.tokens.keys()
    for uid, tokens in at_once.tokens.items():
        assert [each.token for each in tokens] == [each.token for each in waiting.tokens[uid]]
