"""Speculation among everything else that happens to streams."""

from typing import Any

import pytest
from adapter_runs import Run, adapter, model, prompts, request
from hypothesis import given, settings
from hypothesis import strategies as st
from speculation_runs import LONGEST, Always, Foresight, foresighted, speculating

from engine.core.speculation import Source, Speculation
from engine.runtime.adapter import Adapter
from engine.runtime.kv import STEP, KvBudget, measure
from engine.runtime.messages import Sampling, Submit, Token
from engine.runtime.speculating import Speculator
from engine.runtime.stream import Turn

AHEAD = pytest.mark.parametrize("ahead", [False, True])
SEEDED = Sampling(temperature=0.9, frequency_penalty=0.3)


def requests(n: int, **options: Any) -> list[Submit]:
    given = {"max_tokens": 30, "sampling": SEEDED, "speculate": True, **options}
    return [request(uid, prompt, **given) for uid, prompt in enumerate(prompts(n))]


def knowing(given: list[Submit], decision: Always | None = None, **options: Any) -> Adapter:
    """Its drafts are right."""
    return speculating(foresighted(given, Run(adapter(), given)), decision, **options)


def until(under_test: Adapter, done: Any, tokens: list[Token] | None = None) -> list[Token]:
    """Step until a turn is what is wanted; the tokens on the way."""
    tokens = [] if tokens is None else tokens
    while under_test.busy:
        turn = under_test.step()
        tokens += turn.tokens
        if done(turn):
            break
    return tokens


def has_drafts(turn: Turn) -> bool:
    return turn.drafted > 0


def of(uid: int, tokens: list[Token]) -> list[int]:
    return [token.token for token in tokens if token.uid == uid]


@AHEAD
def test_text_that_repeats_itself_is_drafted_from_itself(ahead: bool) -> None:
    given = [
        request(uid, [5 + uid, 6, 7, 8] * 8, max_tokens=60, speculate=True) for uid in range(3)
    ]
    decision = Always(Source.LOOKUP)
    under_test = speculating(None, decision, ahead=ahead)
    assert Run(under_test, given).outputs == Run(adapter(), given).outputs
    assert any(tokens > rows for rows, tokens in decision.steps)


def test_several_tokens_of_a_stream_come_in_one_turn_in_order_of_their_positions() -> None:
    given = requests(2)
    under_test = knowing(given)
    for one in given:
        under_test.submit(one)
    turns = []
    while under_test.busy:
        turns.append(under_test.step())
    for one in given:
        each = [[t.position for t in turn.tokens if t.uid == one.uid] for turn in turns]
        assert [position for positions in each for position in positions] == list(range(30))
        assert max(map(len, each)) == LONGEST + 1
    assert sum(turn.accepted for turn in turns) == sum(turn.drafted for turn in turns) > 0


@pytest.mark.parametrize("control", [0, 3])
def test_a_control_stream_in_the_batch_takes_and_gives_plain_steps_only(control: int) -> None:
    given = requests(4)
    given[control] = request(control, given[control].prompt, max_tokens=40, sampling=SEEDED)
    decision = Always()
    under_test = knowing(given, decision)
    assert Run(under_test, given).outputs == Run(adapter(), given).outputs
    assert decision.steps == []
    assert decision.plain == 0  # it was not even asked


def test_drafts_begin_when_the_last_control_stream_has_left() -> None:
    given = requests(3)
    given[1] = request(1, given[1].prompt, max_tokens=10, sampling=SEEDED)
    under_test = knowing(given)
    left: list[Token] = []
    for one in given:
        under_test.submit(one)
    until(under_test, has_drafts, left)
    assert len(of(1, left)) == 10
    until(under_test, lambda _: False, left)
    assert [of(uid, left) for uid in range(3)] == Run(adapter(), given).outputs


def test_it_counts_as_speculating_only_with_streams_that_get_drafts() -> None:
    given = requests(2)
    under_test = knowing(given)
    assert not under_test.speculating
    under_test.submit(given[0])
    until(under_test, has_drafts)
    assert under_test.speculating
    under_test.submit(request(1, given[1].prompt, max_tokens=30, sampling=SEEDED))
    under_test.step()
    assert not under_test.speculating
    until(under_test, lambda _: False)
    assert not under_test.speculating


def test_while_somebody_waits_or_reads_a_prompt_steps_are_plain() -> None:
    first, long, last = requests(3)
    long = request(1, [9] * 1500, max_tokens=5, speculate=True)
    given = [first, long, last]
    under_test = knowing(given, max_rows=2)
    under_test.submit(first)
    until(under_test, has_drafts)
    under_test.submit(long)
    under_test.submit(last)
    turns = []
    while under_test.busy:
        waits = under_test.waiting > 0
        turn = under_test.step()
        turns.append(turn)
        if (waits and under_test.waiting) or (turn.prefills and turn.prefills[-1].done < 1500):
            assert turn.drafted == 0
    assert any(map(has_drafts, turns))


@AHEAD
def test_a_stream_that_is_cancelled_between_two_drafts_takes_nothing_of_the_others_along(
    ahead: bool,
) -> None:
    given = requests(4)
    under_test = knowing(given, ahead=ahead)
    for one in given:
        under_test.submit(one)
    tokens = until(under_test, has_drafts)
    under_test.cancel(2)
    before = len(of(2, tokens))
    until(under_test, lambda _: False, tokens)
    assert len(of(2, tokens)) == before
    plain = Run(adapter(), given)
    assert all(of(uid, tokens) == plain.output(uid) for uid in (0, 1, 3))


@AHEAD
@pytest.mark.parametrize("evicted", [False, True])
def test_a_stream_that_is_paused_behind_a_draft_goes_on_exactly(ahead: bool, evicted: bool) -> None:
    given = requests(3)
    drafter = foresighted(given, Run(adapter(), given), wrong=lambda _, place: place % 5 == 0)
    under_test = speculating(drafter, ahead=ahead)
    for one in given:
        under_test.submit(one)
    tokens = until(under_test, has_drafts)
    under_test.pause(0)
    assert under_test.parked_bytes > 0
    until(under_test, has_drafts, tokens)
    if evicted:
        under_test.evict(0)
    under_test.resume(0)
    until(under_test, lambda _: False, tokens)
    assert [of(uid, tokens) for uid in range(3)] == Run(adapter(), given).outputs


@settings(max_examples=settings.default.max_examples // 10)
@given(st.integers(1, 29), st.booleans())
def test_a_stream_that_is_replayed_goes_on_exactly(cut: int, ahead: bool) -> None:
    given = requests(3)
    plain = Run(adapter(), given)
    emitted = plain.output(1)[:cut]
    again = [
        given[0],
        request(
            1, given[1].prompt, max_tokens=30, sampling=SEEDED, speculate=True, emitted=emitted
        ),
    ]
    run = Run(speculating(foresighted(given, plain), ahead=ahead), again)
    assert run.output(1) == plain.output(1)[cut:]
    assert [token.position for token in run.tokens[1]] == list(range(cut, 30))


@AHEAD
@pytest.mark.parametrize("end", [False, True])
def test_what_is_stored_of_a_stream_holds_verified_tokens_only(ahead: bool, end: bool) -> None:
    """Its last draft was wrong, or went on behind the stream's end."""
    (prompt,) = prompts(1)
    first = request(0, [*prompt, *range(20, 50)], max_tokens=30, speculate=True, reuse_prefix=True)
    plain = Run(adapter(), [first])
    output = plain.output(0)
    eos = [output[17]] if end and output.index(output[17]) == 17 else [2]
    stopping = request(
        0, first.prompt, max_tokens=30, speculate=True, reuse_prefix=True, ignore_eos=False
    )
    drafter = foresighted([first], plain, wrong=lambda _, place: place % 7 == 6)
    under_test = speculating(drafter, eos=eos, ahead=ahead, prefix_bytes=1 << 24)
    ended = Run(under_test, [stopping]).output(0)
    assert ended == output[: len(ended)]
    follow_up = request(1, [*first.prompt, *ended, 20, 21], reuse_prefix=True)
    second = Run(under_test, [follow_up])
    assert second.prefills[1][-1].cached >= len(first.prompt) + len(ended) - 1
    assert second.outputs == Run(adapter(), [request(1, follow_up.prompt)]).outputs


@AHEAD
def test_caches_stay_in_their_budget_with_drafts_at_the_very_end(ahead: bool) -> None:
    given = [request(uid, [9 + uid] * 40, max_tokens=STEP - 40, speculate=True) for uid in range(4)]
    plain = Run(adapter(), given)
    layers = measure(model())
    total = KvBudget(0, layers, LONGEST).needed(3, STEP)
    decision = Always()
    under_test = speculating(
        foresighted(given, plain), decision, ahead=ahead, kv=KvBudget(total, layers, LONGEST)
    )
    held: list[int] = []
    run = Run(under_test, given, after_step=lambda: held.append(under_test.kv_bytes))
    assert run.outputs == plain.outputs
    assert run.most_rows == 3
    assert decision.steps
    assert max(held) <= total


def test_room_for_drafts_counts_in_the_budget() -> None:
    layers = measure(model())
    assert KvBudget(0, layers, LONGEST).needed(2, 100) == KvBudget(0, layers).needed(2, 108)


def test_a_failed_step_with_drafts_leaves_an_adapter_that_serves() -> None:
    given = requests(2)
    plain = Run(adapter(), given)

    class Failing(Foresight):
        def draft(self, *_: Any) -> list[int]:
            raise MemoryError

    under_test = speculating(Failing({}))
    under_test.submit(given[0])
    with pytest.raises(MemoryError):
        until(under_test, has_drafts)
    assert under_test.discard() == [0]
    again = request(1, given[1].prompt, max_tokens=30, sampling=SEEDED)
    assert Run(under_test, [again]).outputs == [plain.output(1)]


@AHEAD
def test_a_step_that_finds_its_tokens_ready_says_nothing_of_what_steps_take(ahead: bool) -> None:
    """Where steps run ahead, the first one behind drafts takes no time."""

    class EveryThird(Always):
        asked = 0

        def plan(self, rows: int, offers: Any) -> Any:
            self.asked += 1
            return super().plan(rows, offers) if self.asked % 3 == 0 else None

    given = requests(1, max_tokens=60)
    decision = EveryThird()
    under_test = knowing(given, decision, ahead=ahead)
    assert Run(under_test, given).outputs == Run(adapter(), given).outputs
    drafts, plain = len(decision.steps), decision.asked - len(decision.steps)
    assert drafts > 2
    behind = drafts - 1 if decision.asked % 3 == 0 else drafts  # the last one ended the stream
    assert decision.plain == (plain - behind if ahead else plain)


def test_whoever_drafts_hears_which_rows_are_left() -> None:
    given = requests(3)
    drafter = foresighted(given, Run(adapter(), given))
    under_test = speculating(drafter)
    for one in given:
        under_test.submit(one)
    until(under_test, has_drafts)
    rows = list(under_test._running)
    under_test.cancel(1)
    assert list(drafter.kept) == [rows[0], rows[2]]


def test_drafts_that_do_not_pay_end_on_the_real_decision() -> None:
    """Its drafts are right, and a step with one takes twenty times as long."""
    now = [0.0]
    drafts = []

    class Slow(Foresight):
        def draft(self, *arguments: Any) -> list[int]:
            now[0] += 10.0
            drafts.append(now[0])
            return super().draft(*arguments)

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    given = requests(1, max_tokens=200, sampling=Sampling(temperature=1.0))
    plain = Run(adapter(), given)
    whole = {0: [*given[0].prompt, *plain.output(0)]}
    speculator = Speculator(Speculation(LONGEST), Slow(whole), clock)
    under_test = adapter(speculator=speculator)
    assert Run(under_test, given).outputs == plain.outputs
    assert 1 <= len(drafts) <= 6
