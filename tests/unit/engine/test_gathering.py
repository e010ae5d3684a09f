"""Newcomers begin together where others arrive right behind them, and wait for nobody else."""

from collections.abc import Callable

import pytest
from adapter_runs import Run, adapter, prompts, request
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.adapter import Adapter
from engine.runtime.prefill import GATHER_SECONDS, gathers

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
