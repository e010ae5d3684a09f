from itertools import pairwise
from typing import Any

import pytest
from adapter_runs import Run, adapter, prompts, request, stock_outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.adapter import Adapter
from engine.runtime.messages import Sampling, Token
from engine.runtime.prefill import MAX_CHUNK


@pytest.mark.parametrize("max_rows", [1, 3, 20])
def test_greedy_output_is_that_of_mlx_lm_in_any_batch(max_rows: int) -> None:
    given = prompts(20)
    run = Run(adapter(max_rows=max_rows), [request(uid, one) for uid, one in enumerate(given)])
    assert run.outputs == stock_outputs(given)
    assert len({tuple(output) for output in run.outputs}) == 20


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.8, top_p=0.9),
        Sampling(temperature=1.2, top_k=20, min_p=0.01),
        Sampling(temperature=0.7, repetition_penalty=1.3, presence_penalty=0.4),
        Sampling(frequency_penalty=0.8),
    ],
)
def test_a_seeded_stream_is_the_same_alone_and_in_mixed_company(sampling: Sampling) -> None:
    given = prompts(8)
    mixed = [
        request(uid, one, sampling=sampling if uid % 2 else Sampling())
        for uid, one in enumerate(given)
    ]
    together = Run(adapter(), mixed)
    alone = [Run(adapter(), [one]).output(one.uid) for one in mixed]
    assert together.outputs == alone


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 11), data=st.data())
def test_a_replayed_stream_continues_exactly(cut: int, data: st.DataObject) -> None:
    parameters = {"temperature": 0.9, "frequency_penalty": data.draw(st.sampled_from([0.0, 0.5]))}
    sampling = Sampling(**parameters)
    whole = Run(adapter(), [request(1, prompts(3)[2], sampling=sampling)]).output(1)
    resumed = request(1, prompts(3)[2], sampling=sampling, emitted=whole[:cut])
    run = Run(adapter(), [request(2, prompts(2)[1]), resumed])
    assert run.output(1) == whole[cut:]
    assert [token.position for token in run.tokens[1]] == list(range(cut, len(whole)))


def test_positions_are_consecutive_and_the_last_token_says_why_it_ended() -> None:
    run = Run(adapter(), [request(1, prompts(1)[0])])
    assert [token.position for token in run.tokens[1]] == list(range(12))
    assert [token.finish for token in run.tokens[1]] == [None] * 11 + ["length"]


def test_an_end_token_stops_the_stream_unless_ignored() -> None:
    (prompt,) = prompts(1)
    free = Run(adapter(), [request(1, prompt)]).output(1)
    end = free[4]
    first = free.index(end)
    stopped = Run(adapter(eos=[end]), [request(1, prompt, ignore_eos=False)])
    assert stopped.output(1) == free[: first + 1]
    assert stopped.tokens[1][-1].finish == "stop"
    assert Run(adapter(eos=[end]), [request(1, prompt)]).output(1) == free


def test_min_tokens_puts_the_end_off() -> None:
    (prompt,) = prompts(1)
    end = Run(adapter(), [request(1, prompt)]).output(1)[0]
    late = request(1, prompt, ignore_eos=False, min_tokens=3)
    output = Run(adapter(eos=[end]), [late]).output(1)
    assert end not in output[:3]


def test_rows_stay_within_the_limit_and_everyone_is_served() -> None:
    run = Run(adapter(max_rows=3), [request(uid, one) for uid, one in enumerate(prompts(10))])
    assert run.most_rows == 3
    assert all(len(output) == 12 for output in run.outputs)


def test_a_long_prompt_is_read_in_chunks_and_the_others_go_on_meanwhile() -> None:
    under_test = adapter()
    under_test.submit(request(1, [9], max_tokens=40))
    while not under_test.step().tokens:
        pass
    long = request(2, [5] * 1500, max_tokens=1)
    under_test.submit(long)
    turns = []
    while under_test.busy:
        turns.append(under_test.step())
    reading = [turn for turn in turns if turn.prefills]
    done = [turn.prefills[-1].done for turn in reading]
    assert done[-1] == len(long.prompt)
    assert max(after - before for before, after in pairwise([0, *done])) <= MAX_CHUNK
    assert all(token.uid == 1 for turn in reading for token in turn.tokens)
    assert all(turn.tokens for turn in reading)


def beside(decoding: int, *newcomers: int) -> list[set[int]]:
    """Who is read in each turn, of newcomers with so many tokens beside streams that decode."""
    under_test = adapter(prefill_chunk=16)
    for uid in range(100, 100 + decoding):
        under_test.submit(request(uid, [9], max_tokens=100))
    while decoding and not under_test.step().tokens:
        pass
    for uid, tokens in enumerate(newcomers):
        under_test.submit(request(uid, [5] * tokens))
    turns = [{prefill.uid for prefill in under_test.step().prefills} for _ in range(9)]
    return [read for read in turns if read]


def test_newcomers_are_read_in_order_and_not_all_at_once() -> None:
    first, *_ = beside(3, 12, 12, 12, 12)  # 16 tokens and a third of that; two of them have 24
    assert first == {0}


def test_where_nobody_decodes_newcomers_are_read_together() -> None:
    assert beside(0, 12, 12, 12, 12)[0] == {0, 1, 2, 3}


def test_where_few_decode_beside_many_newcomers_more_of_them_are_read() -> None:
    assert beside(1, 12, 12, 12)[0] == {0, 1, 2}  # 16 tokens for each newcomer


def test_a_short_prompt_begins_once_a_long_one_leaves_it_room() -> None:
    first, *later = beside(3, 40, 12)
    assert first == {0}
    assert any(1 in read for read in later)


def test_a_cancelled_stream_says_nothing_more_and_frees_its_row() -> None:
    under_test = adapter(max_rows=1)
    running, waiting, last = (request(uid, one) for uid, one in enumerate(prompts(3)))
    for one in (running, waiting, last):
        under_test.submit(one)
    while not under_test.step().tokens:
        pass
    under_test.cancel(running.uid)
    under_test.cancel(waiting.uid)
    under_test.cancel(99)
    assert {token.uid for token in _all_tokens(under_test)} == {last.uid}


@pytest.mark.parametrize(
    "bad", [{"prompt": []}, {"max_tokens": 0}, {"max_tokens": 2, "emitted": [4, 5]}]
)
def test_a_request_that_cannot_begin_is_refused_and_harms_nobody(bad: dict[str, Any]) -> None:
    refused = request(1, **{"prompt": [4], **bad})
    run = Run(adapter(), [refused, request(2, [9])])
    assert list(run.refused) == [1]
    assert len(run.output(2)) == 12


def test_a_failed_step_loses_the_running_streams_and_no_other() -> None:
    under_test = adapter(max_rows=1)
    for uid in (1, 2):
        under_test.submit(request(uid, prompts(2)[uid - 1]))
    under_test.step()
    assert under_test.discard() == [1]
    rest = [token.token for token in _all_tokens(under_test)]
    assert rest == stock_outputs([prompts(2)[1]])[0]


def test_logprobs_come_only_for_those_who_asked() -> None:
    run = Run(adapter(), [request(1, [9], logprobs=2), request(2, [9])])
    for token in run.tokens[1]:
        assert token.top_logprobs is not None
        assert len(token.top_logprobs) == 2
        assert token.logprob == pytest.approx(max(token.top_logprobs.values()))
        assert token.token in token.top_logprobs
    assert all(token.logprob is None and token.top_logprobs is None for token in run.tokens[2])
    assert run.output(1) == run.output(2)


def test_a_reused_prefix_changes_the_work_and_not_the_output() -> None:
    shared, tail = [7, 8, 9] * 12, [10, 11]
    under_test = adapter(prefix_bytes=1 << 24)
    first = Run(under_test, [request(1, [*shared, 4, 5], reuse_prefix=True)])
    second = Run(under_test, [request(2, [*shared, *tail], reuse_prefix=True)])
    again = Run(under_test, [request(3, [*shared, *tail], reuse_prefix=True)])
    assert first.prefills[1][-1].cached == 0
    assert second.prefills[2][-1].cached == len(shared)
    assert again.prefills[3][-1].cached == len(shared) + len(tail) - 1
    assert [second.output(2)] == [again.output(3)] == stock_outputs([[*shared, *tail]])
    assert under_test.prefix_bytes > 0


def test_a_conversation_reuses_its_own_output() -> None:
    under_test = adapter(prefix_bytes=1 << 24)
    opening = [7, 8, 9] * 8
    answer = Run(under_test, [request(1, opening, reuse_prefix=True)]).output(1)
    follow_up = [*opening, *answer, 20, 21]
    second = Run(under_test, [request(2, follow_up, reuse_prefix=True)])
    # The last token of an answer is not read any more where decoding does not run ahead.
    assert second.prefills[2][-1].cached == len(opening) + len(answer) - 1
    assert [second.output(2)] == stock_outputs([follow_up])


def test_streams_that_do_not_ask_leave_the_prefix_store_alone() -> None:
    under_test = adapter(prefix_bytes=1 << 24)
    for uid in (1, 2):
        run = Run(under_test, [request(uid, [7, 8, 9] * 8)])
        assert run.prefills[uid][-1].cached == 0
    assert under_test.prefix_bytes == 0


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("decoding", [False, True])
def test_a_retry_goes_on_where_a_cancelled_stream_stopped_reading(
    ahead: bool, paused: bool, decoding: bool
) -> None:
    under_test = adapter(prefix_bytes=1 << 24, ahead=ahead)
    prompt = [7, 8, 9] * 400
    under_test.submit(request(1, prompt, reuse_prefix=True))
    read = under_test.step().prefills[-1].done
    if decoding:
        read = len(_tokens_of_first_step(under_test)) + len(prompt) - 2
    if paused:
        under_test.pause(1)
    under_test.cancel(1)
    assert (under_test.rows, under_test.kv_bytes, under_test.parked_bytes) == (0, 0, 0)
    assert 0 < under_test.prefix_bytes <= 1 << 24
    retry = Run(under_test, [request(2, prompt, reuse_prefix=True)])
    assert retry.prefills[2][0].cached >= read
    assert [retry.output(2)] == stock_outputs([prompt])


def test_a_cancelled_stream_that_did_not_ask_leaves_nothing() -> None:
    under_test = adapter(prefix_bytes=1 << 24)
    under_test.submit(request(1, [7, 8, 9] * 400))
    under_test.step()
    under_test.cancel(1)
    assert under_test.prefix_bytes == 0


def test_what_a_cancelled_stream_leaves_stays_within_the_budget() -> None:
    under_test = adapter(prefix_bytes=100_000)
    for uid in range(4):
        under_test.submit(request(uid, [uid + 5] * 300, reuse_prefix=True))
        under_test.step()
        under_test.cancel(uid)
        assert under_test.prefix_bytes <= 100_000
    assert under_test.prefix_bytes > 0


def test_a_stream_that_failed_on_its_way_to_a_row_is_lost_and_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    under_test = adapter(prefix_bytes=1 << 24)
    under_test.submit(request(1, [5] * 40, reuse_prefix=True))
    with monkeypatch.context() as broken:
        broken.setattr(under_test._reuse.prefixes, "lookup", no_memory)
        with pytest.raises(MemoryError):
            under_test.step()
    assert under_test.discard() == [1]
    assert not under_test.busy


def test_an_idle_adapter_holds_no_rows() -> None:
    under_test = adapter()
    Run(under_test, [request(1, [9])])
    assert (under_test.busy, under_test.rows, under_test.waiting, under_test.kv_bytes) == (
        False,
        0,
        0,
        0,
    )


def _all_tokens(under_test: Adapter) -> list[Token]:
    tokens = []
    while under_test.busy:
        tokens += under_test.step().tokens
    return tokens


def _tokens_of_first_step(under_test: Adapter) -> list[Token]:
    while not (tokens := under_test.step().tokens):
        pass
    return tokens
