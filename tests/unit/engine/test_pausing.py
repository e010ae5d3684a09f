"""Streams that lose their row and come back: nothing of their output may change."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from adapter_runs import VOCABULARY, Run, adapter, model, prompts, request
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import KVCache, RotatingKVCache

from engine.runtime.adapter import Adapter
from engine.runtime.kv import KvBudget, measure
from engine.runtime.messages import Sampling, Submit, Token
from engine.runtime.stream import Kept

AHEAD = pytest.mark.parametrize("ahead", [False, True])

#: Longer than a chunk may be, so that it can be paused between two of them.
LONG = [token % (VOCABULARY - 3) + 3 for token in range(0, 600 * 7, 7)]

GREEDY, SEEDED = Sampling(), Sampling(temperature=0.9, top_p=0.95)
PENALISED = Sampling(temperature=0.7, repetition_penalty=1.3, frequency_penalty=0.4)


@cache
def streams() -> list[Submit]:
    """One of every kind."""
    short = prompts(8)
    return [
        request(0, short[0]),
        request(1, short[1], sampling=SEEDED),
        request(2, short[2], sampling=PENALISED),
        request(3, short[3], logprobs=2, sampling=SEEDED),
        request(4, [9]),
        request(5, [*short[5], *range(10, 50)], reuse_prefix=True),
        request(6, short[6], sampling=SEEDED, emitted=[5, 6, 7]),
        request(7, LONG, sampling=PENALISED),
    ]


@cache
def undisturbed(uid: int) -> list[Token]:
    return Run(adapter(), [streams()[uid]]).tokens[uid]


class Stage:
    """An adapter, and what it said of each stream."""

    def __init__(self, **options: Any) -> None:
        self.adapter: Adapter = adapter(prefix_bytes=1 << 24, **options)
        self.tokens: dict[int, list[Token]] = {}

    def submit(self, *requests: Submit) -> None:
        for one in requests:
            self.tokens[one.uid] = []
            self.adapter.submit(one)

    def step(self) -> list[Token]:
        """One step; the tokens must be those of streams that are not over, in order."""
        turn = self.adapter.step()
        self.adapter.settle()
        assert turn.refused == []
        for token in turn.tokens:
            before = self.tokens[token.uid]
            first = len(streams()[token.uid].emitted) if token.uid < 8 else 0
            assert token.position == first + len(before)
            assert not before or before[-1].finish is None
            before.append(token)
        return turn.tokens

    def finish(self) -> None:
        while self.adapter.busy:
            self.step()

    def until_tokens(self, uid: int, count: int) -> None:
        while len(self.tokens[uid]) < count:
            self.step()

    def output(self, uid: int) -> list[int]:
        return [token.token for token in self.tokens[uid]]


def same(got: list[Token], expected: list[Token]) -> None:
    assert [one.token for one in got] == [one.token for one in expected]
    assert [one.finish for one in got] == [one.finish for one in expected]
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert (mine.top_logprobs or {}).keys() == (theirs.top_logprobs or {}).keys()


@AHEAD
@settings(max_examples=settings.default.max_examples // 5)  # an example is hundreds of steps
@given(
    plan=st.lists(
        st.tuples(
            st.sampled_from(["step", "step", "pause", "pause", "resume", "evict"]),
            st.integers(0, 7),
        ),
        max_size=40,
    ),
    rows=st.sampled_from([2, 8]),
)
def test_whatever_is_paused_when_and_how_often_the_output_is_the_same(
    ahead: bool, plan: list[tuple[str, int]], rows: int
) -> None:
    stage = Stage(ahead=ahead, max_rows=rows)
    stage.submit(*streams())
    for action, uid in plan:
        match action:
            case "step":
                stage.step()
            case "pause":
                stage.adapter.pause(uid)
            case "resume":
                stage.adapter.resume(uid)
            case "evict":
                stage.adapter.evict(0)
    for uid in range(8):
        stage.adapter.resume(uid)
    stage.finish()
    for uid in range(8):
        same(stage.tokens[uid], undisturbed(uid))
    assert (stage.adapter.rows, stage.adapter.kv_bytes, stage.adapter.parked_bytes) == (0, 0, 0)


@AHEAD
@pytest.mark.parametrize("uid", range(8))
@pytest.mark.parametrize("evicted", [False, True])
def test_a_stream_that_is_paused_after_every_token_is_the_same(
    ahead: bool, uid: int, evicted: bool
) -> None:
    stage = Stage(ahead=ahead)
    stage.submit(streams()[uid])
    while stage.adapter.busy:
        if stage.step():
            stage.adapter.pause(uid)
            if evicted:
                stage.adapter.evict(0)
            stage.adapter.resume(uid)
    same(stage.tokens[uid], undisturbed(uid))


@AHEAD
def test_a_paused_stream_says_nothing_and_its_cache_stands_aside(ahead: bool) -> None:
    stage = Stage(ahead=ahead)
    stage.submit(streams()[0], streams()[1])
    stage.until_tokens(0, 3)
    stage.adapter.pause(0)
    held = len(stage.tokens[0])
    stage.finish()
    assert len(stage.tokens[0]) == held
    assert len(stage.tokens[1]) == 12
    assert (stage.adapter.busy, stage.adapter.rows, stage.adapter.waiting) == (False, 0, 0)
    assert stage.adapter.kv_bytes == 0
    assert stage.adapter.parked_bytes > 0
    stage.adapter.resume(0)
    stage.finish()
    same(stage.tokens[0], undisturbed(0))
    assert stage.adapter.parked_bytes == 0


def test_who_comes_back_with_its_cache_begins_beside_one_who_reads() -> None:
    stage = Stage()
    paused, decoding, reader = (
        request(uid, [5] * length, max_tokens=60) for uid, length in ((8, 30), (9, 1), (10, 20))
    )
    stage.submit(paused, decoding)
    stage.until_tokens(8, 1)
    stage.adapter.pause(8)
    stage.adapter._pace.tokens_per_second = None  # a turn reads 16 tokens
    stage.submit(reader)
    stage.step()
    stage.adapter._pace.tokens_per_second = None
    stage.adapter.resume(8)
    stage.step()
    assert (stage.adapter.rows, stage.adapter.waiting) == (3, 0)


def test_caches_set_aside_are_not_dropped_for_one_who_does_not_begin() -> None:
    stage = Stage()
    costs = KvBudget(0, measure(model()))
    stage.adapter._kv = replace(costs, total=costs.needed(4, 80))  # the rows, and nothing more
    set_aside, *decoding = (
        request(uid, [5] * length, max_tokens=60) for uid, length in ((8, 30), (12, 1), (13, 1))
    )
    stage.submit(set_aside, *decoding)
    stage.until_tokens(8, 1)
    stage.adapter.pause(8)
    held = stage.adapter.parked_bytes
    assert held > 0
    for uid in (10, 11):  # who reads, and who waits until that is done
        stage.adapter._pace.tokens_per_second = None
        stage.submit(request(uid, [5] * 20, max_tokens=60))
        stage.step()
    assert (stage.adapter.waiting, stage.adapter.parked_bytes) == (1, held)
    stage.until_tokens(11, 1)
    assert stage.adapter.parked_bytes == 0


@AHEAD
@pytest.mark.parametrize("evicted", [False, True])
def test_a_resumed_stream_reads_one_token_with_its_cache_and_all_without(
    ahead: bool, evicted: bool
) -> None:
    stage = Stage(ahead=ahead)
    stage.submit(streams()[0])
    stage.until_tokens(0, 1)
    stage.adapter.pause(0)
    if evicted:
        stage.adapter.evict(0)
        assert stage.adapter.parked_bytes == 0
    stage.adapter.resume(0)
    prefill = stage.adapter.step().prefills[0]
    assert prefill.total == len(streams()[0].prompt) + 1
    assert (prefill.done == prefill.total) is not evicted


@AHEAD
def test_a_paused_prefill_goes_on_where_it_stood(ahead: bool) -> None:
    stage = Stage(ahead=ahead)
    stage.submit(streams()[7])
    first = stage.adapter.step().prefills[-1]
    assert 0 < first.done < first.total == len(LONG)
    stage.adapter.pause(7)
    assert stage.adapter.parked_bytes > 0
    stage.adapter.resume(7)
    second = stage.adapter.step().prefills[-1]
    assert (second.total, second.cached) == (len(LONG), 0)
    assert second.done > first.done
    stage.finish()
    same(stage.tokens[7], undisturbed(7))


def test_a_stream_that_waits_stays_out_until_it_is_resumed_and_then_takes_its_place() -> None:
    stage = Stage(max_rows=1)
    stage.submit(*streams()[:3])
    stage.adapter.pause(0)  # between its arrival and the first step
    stage.until_tokens(1, 1)
    assert stage.tokens[0] == []
    stage.adapter.resume(0)
    while stage.adapter.busy:
        stage.step()
        assert not stage.tokens[2] or stage.tokens[0][-1].finish  # the older one came first
    for uid in range(3):
        same(stage.tokens[uid], undisturbed(uid))


@AHEAD
def test_cancelling_a_paused_stream_drops_everything(ahead: bool) -> None:
    stage = Stage(ahead=ahead)
    stage.submit(streams()[0], streams()[7])
    stage.until_tokens(0, 2)
    for uid in (0, 7):
        stage.adapter.pause(uid)
        stage.adapter.cancel(uid)
        stage.adapter.resume(uid)
    assert (stage.adapter.busy, stage.adapter.parked_bytes, stage.adapter.prefix_bytes) == (
        False,
        0,
        0,
    )


def test_ids_that_are_unknown_or_over_are_ignored() -> None:
    stage = Stage()
    stage.submit(streams()[0])
    stage.finish()
    for uid in (0, 99):
        stage.adapter.pause(uid)
        stage.adapter.resume(uid)
    assert (stage.adapter.busy, stage.adapter.waiting, stage.adapter.parked_bytes) == (False, 0, 0)


def test_pausing_and_resuming_twice_is_as_once() -> None:
    stage = Stage()
    stage.submit(streams()[0])
    stage.until_tokens(0, 2)
    for action in (stage.adapter.pause, stage.adapter.resume):
        action(0)
        action(0)
    stage.finish()
    same(stage.tokens[0], undisturbed(0))


def test_a_failed_step_leaves_waiting_and_paused_streams_as_they_are() -> None:
    stage = Stage(max_rows=1)
    stage.submit(*streams()[:3])
    stage.until_tokens(0, 2)
    stage.adapter.pause(0)
    stage.step()
    assert stage.adapter.discard() == [1]
    stage.adapter.resume(0)
    stage.finish()
    same(stage.tokens[0], undisturbed(0))
    same(stage.tokens[2], undisturbed(2))


def test_a_cache_that_forgot_its_beginning_is_not_cut() -> None:
    turned_over = RotatingKVCache(max_size=4)
    turned_over.offset = 9
    kept = Kept([turned_over], list(range(9)))
    assert kept.before(9) is None
    assert kept.before(10) == kept


def test_what_is_kept_does_not_grow_with_the_list_it_came_from() -> None:
    cache, tokens = KVCache(), [1, 2, 3]
    kept = Kept([cache], tokens).before(4)
    assert kept is not None
    tokens.append(4)
    assert kept.tokens == [1, 2, 3]
