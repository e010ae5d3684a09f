import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.samples import Outcome
from pytest_phase5.load.answer import BodyAnswer, Ending, StreamAnswer, refusal

ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
TEXT = {"choices": [{"delta": {"content": "t1"}}]}
FINISH = {"choices": [{"delta": {}, "finish_reason": "length"}]}
USAGE: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
ERROR = {"error": {"type": "engine_error", "message": "a prompt, perhaps"}}
DONE = "[DONE]"
COUNTED = {"usage": {"prompt_tokens": 7, "completion_tokens": 5}}
UNKNOWN = "unknown finish reason"
ABORTED = "unknown finish reason: abort"


def stream(*events: Any) -> StreamAnswer:
    """Feed one event per second, from second 1."""
    answer = StreamAnswer()
    for second, event in enumerate(events, start=1):
        data = event if isinstance(event, str) else json.dumps(event)
        answer.feed(f"data: {data}\n\n".encode(), float(second))
    return answer


@pytest.mark.parametrize(
    ("events", "outcome", "error"),
    [
        ([ROLE, TEXT, FINISH, USAGE, DONE], Outcome.OK, None),
        ([ROLE, FINISH, DONE], Outcome.OK, None),
        ([], Outcome.CUT, "ended without a finish reason"),
        ([ROLE, TEXT], Outcome.CUT, "ended without a finish reason"),
        ([ROLE, TEXT, DONE], Outcome.CUT, "ended without a finish reason"),
        ([ROLE, TEXT, FINISH, USAGE], Outcome.CUT, "ended without [DONE]"),
        ([ROLE, TEXT, ERROR], Outcome.FAILED, "error event: engine_error"),
        ([ERROR], Outcome.FAILED, "error event: engine_error"),
        ([ROLE, TEXT, ERROR, FINISH, DONE], Outcome.FAILED, "error event: engine_error"),
        ([ROLE, TEXT, {"error": "a prompt"}, DONE], Outcome.FAILED, "error event"),
        ([ROLE, TEXT, "not json"], Outcome.FAILED, "event is not a JSON object"),
        ([ROLE, TEXT, "[1]"], Outcome.FAILED, "event is not a JSON object"),
        ([ROLE, FINISH, TEXT, DONE], Outcome.FAILED, "text after the finish reason"),
        ([ROLE, FINISH, DONE, TEXT], Outcome.FAILED, "event after [DONE]"),
        ([ROLE, FINISH, DONE, DONE], Outcome.FAILED, "[DONE] twice"),
        ([ROLE, TEXT, FINISH, FINISH, DONE], Outcome.FAILED, "finish reason twice"),
        ([ROLE, TEXT, FINISH, USAGE, USAGE, DONE], Outcome.FAILED, "usage twice"),
        ([ROLE, TEXT, USAGE, FINISH, DONE], Outcome.FAILED, "usage before the finish reason"),
        ([TEXT, {**FINISH, **COUNTED}, DONE], Outcome.OK, None),
        ([{**TEXT, **COUNTED}, {**TEXT, **COUNTED}, FINISH, USAGE, DONE], Outcome.OK, None),
        ([TEXT, {"choices": [{"finish_reason": "abort"}]}, DONE], Outcome.FAILED, ABORTED),
        ([TEXT, {"choices": [{"finish_reason": "Once upon a"}]}], Outcome.FAILED, UNKNOWN),
    ],
)
def test_a_stream_counts_by_how_it_ended(
    events: list[Any], outcome: Outcome, error: str | None
) -> None:
    assert stream(*events).ending() == Ending(outcome, error)


def of(index: int, *, text: str = "", end: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": end}]}


@pytest.mark.parametrize(
    ("events", "ending"),
    [
        ([of(0, text="a"), of(1, text="b"), of(0, end="stop"), of(1, end="length"), DONE], None),
        ([of(0, text="a"), of(1, text="b"), of(0, end="stop"), DONE], "without a finish reason"),
        ([of(0, text="a"), of(0, end="stop"), of(1, text="b"), of(1, end="stop"), DONE], None),
        ([of(0, end="stop"), of(1, end="stop"), of(1, end="stop"), DONE], "finish reason twice"),
        ([of(1, end="stop"), of(1, text="b"), DONE], "text after the finish reason"),
    ],
)
def test_each_of_several_choices_must_end_once(events: list[Any], ending: str | None) -> None:
    found = stream(*events).ending()
    assert (found.outcome is Outcome.OK) is (ending is None)
    assert ending is None or ending in str(found.error)


@given(
    events=st.integers(2, 12),
    mistake=st.sampled_from(["none", "swap", "repeat", "lose"]),
    where=st.integers(0, 100),
    first=st.integers(0, 5),
)
def test_numbered_events_must_come_each_once_and_in_order(
    events: int, mistake: str, where: int, first: int
) -> None:
    numbered = [{**TEXT, "sequence_number": first + place} for place in range(events)]
    place = where % (events - 1)
    if mistake == "swap":
        numbered[place], numbered[place + 1] = numbered[place + 1], numbered[place]
    elif mistake == "repeat":
        numbered.insert(place, numbered[place])
    elif mistake == "lose" and place > 0:
        del numbered[place]
    else:
        mistake = "none"
    ending = stream(*numbered, FINISH, DONE).ending()
    assert (ending.outcome is Outcome.OK) is (mistake == "none")
    assert ending.error is None or ending.error.startswith("event ")


def test_pieces_of_text_are_counted_and_the_end_of_the_text_is_known() -> None:
    going, over = stream(ROLE, TEXT, TEXT), stream(ROLE, TEXT, TEXT, FINISH)
    assert (going.facts.pieces, going.has_ended) == (2, False)
    assert (over.facts.pieces, over.has_ended) == (2, True)


def test_an_event_named_error_fails_the_stream_whatever_its_data() -> None:
    answer = stream(ROLE, TEXT, FINISH)
    answer.feed(b"event: error\ndata: boom, said the prompt\n\n", 9.0)
    assert answer.ending() == Ending(Outcome.FAILED, "error event")


@pytest.mark.parametrize(
    ("chunk", "generated"),
    [
        (ROLE, False),
        (USAGE, False),
        (FINISH, False),
        ({"choices": [{"delta": {"content": ""}}]}, False),
        ({"choices": [{"delta": {"content": None}}]}, False),
        ({"choices": None}, False),
        ({"choices": [{"text": ""}]}, False),
        (TEXT, True),
        ({"choices": [{"text": "t1"}]}, True),
        ({"choices": [{"delta": {"content": " "}}]}, True),
        ({"choices": [{"delta": {"reasoning": "hm"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"role": "assistant", "content": "t1"}}]}, True),
        ({"choices": [{"delta": {"content": "t1"}, "finish_reason": "stop"}]}, True),
    ],
)
def test_the_first_token_is_the_first_generated_text(
    chunk: dict[str, Any], *, generated: bool
) -> None:
    answer = stream(ROLE, chunk)
    assert answer.facts.first_token == (2.0 if generated else None)


def test_later_text_does_not_move_the_first_token() -> None:
    assert stream(ROLE, TEXT, TEXT, FINISH, DONE).facts.first_token == 2.0


def test_token_counts_come_from_usage_and_are_null_without_it() -> None:
    counted, uncounted = stream(TEXT, FINISH, USAGE, DONE), stream(TEXT, TEXT, FINISH, DONE)
    assert (counted.facts.prompt_tokens, counted.facts.output_tokens) == (7, 5)
    assert (uncounted.facts.prompt_tokens, uncounted.facts.output_tokens) == (None, None)


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 3}, 3), ({"cached_tokens": 0}, 0), ({}, None), (None, None), ([], None)],
)
def test_tokens_that_were_read_before_come_from_usage_details(
    details: object, cached: int | None
) -> None:
    usage = {**USAGE["usage"], "prompt_tokens_details": details}
    answer = stream(TEXT, FINISH, {**USAGE, "usage": usage}, DONE)
    assert answer.facts.cached_tokens == cached


@pytest.mark.parametrize("count", [None, "5", 5.0, True, -1, [5]])
def test_a_count_that_is_none_is_null(count: Any) -> None:
    facts = stream({"usage": {"completion_tokens": count}}).facts
    assert facts.output_tokens is None


@pytest.mark.parametrize("reason", [None, "", 1, True, ["stop"]])
def test_only_a_named_finish_reason_finishes(reason: Any) -> None:
    answer = stream(TEXT, {"choices": [{"delta": {}, "finish_reason": reason}]}, DONE)
    assert answer.ending().outcome is Outcome.CUT


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"choices": [{"finish_reason": "stop"}]}', Outcome.OK),
        (b'{"choices": [{"finish_reason": null}]}', Outcome.CUT),
        (b'{"choices": [{"finish_rea', Outcome.CUT),
        (b'{"choices": [{"finish_reason": "tired"}]}', Outcome.FAILED),
        (b"", Outcome.CUT),
        (b'{"error": {"type": "engine_error"}}', Outcome.FAILED),
    ],
)
def test_a_body_counts_by_what_it_holds_and_has_no_first_token(
    body: bytes, outcome: Outcome
) -> None:
    answer = BodyAnswer()
    answer.feed(body, 1.0)
    assert answer.ending().outcome is outcome
    assert answer.facts.first_token is None


@pytest.mark.parametrize(
    ("status", "retry_after", "ready", "outcome"),
    [
        (429, False, False, Outcome.SHED),
        (429, True, False, Outcome.SHED),
        (503, True, True, Outcome.SHED),
        (503, True, False, Outcome.FAILED),
        (503, False, True, Outcome.FAILED),
        (500, True, True, Outcome.FAILED),
        (502, False, False, Outcome.FAILED),
        (504, False, True, Outcome.FAILED),
        (302, False, True, Outcome.FAILED),
        (400, False, True, Outcome.REJECTED),
        (401, False, True, Outcome.REJECTED),
        (422, False, True, Outcome.REJECTED),
    ],
)
def test_a_refusal_counts_by_its_status(
    status: int, *, retry_after: bool, ready: bool, outcome: Outcome
) -> None:
    assert refusal(status, retry_after=retry_after, ready=ready).outcome is outcome
