import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.workload import CHAT, SHORT, Workload, requests

WORKLOADS = st.sampled_from([SHORT, CHAT])
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(workload=WORKLOADS, seed=SEEDS, count=st.integers(0, 30), more=st.integers(0, 30))
def test_a_longer_run_begins_with_the_same_requests(
    workload: Workload, seed: int, count: int, more: int
) -> None:
    longer = requests(workload, count + more, seed)
    assert longer[:count] == requests(workload, count, seed)


@given(workload=WORKLOADS, seed=SEEDS)
def test_every_request_has_its_own_key_and_prompt(workload: Workload, seed: int) -> None:
    asked = requests(workload, 50, seed)
    assert len({request.key for request in asked}) == 50
    assert len({json.dumps(request.body) for request in asked}) == 50


@given(workload=WORKLOADS, seed=SEEDS)
def test_bodies_are_printable_ascii_of_the_asked_size_and_deterministic_to_answer(
    workload: Workload, seed: int
) -> None:
    for request in requests(workload, 20, seed):
        body: dict[str, Any] = dict(request.body)
        messages = body["messages"]
        for message in messages:
            assert message["content"].isascii()
            assert message["content"].isprintable()
            words = len(message["content"].split())
            assert workload.words[0] <= words <= workload.words[1]
        assert workload.turns[0] <= len(messages) - 1 <= workload.turns[1]
        assert workload.tokens[0] <= body["max_tokens"] <= workload.tokens[1]
        assert (body["temperature"], body["ignore_eos"], body["stream"]) == (0, True, True)
        assert body["stream_options"] == {"include_usage": True}


@given(seed=SEEDS)
def test_a_conversation_takes_turns_and_ends_with_the_user(seed: int) -> None:
    for request in requests(CHAT, 20, seed):
        roles = [message["role"] for message in request.body["messages"]]
        assert roles[-1] == "user"
        assert all(one != other for one, other in pairwise(roles))


def test_conversations_vary_in_size() -> None:
    asked = requests(CHAT, 50, 1)
    assert {len(request.body["messages"]) for request in asked} == {1, 2, 3, 4}
    assert len({request.body["max_tokens"] for request in asked}) > 10


@pytest.mark.parametrize(
    "ranges",
    [
        {"words": (0, 3), "tokens": (1, 1)},
        {"words": (5, 3), "tokens": (1, 1)},
        {"words": (1, 1), "tokens": (0, 1)},
        {"words": (1, 1), "tokens": (1, 1), "turns": (-1, 0)},
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(ranges: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"workload 'odd': .* allowed"):
        Workload(name="odd", **ranges)
