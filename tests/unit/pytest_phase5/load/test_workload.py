import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.workload import (
    ASSISTANTS,
    CHAT,
    LEAVERS,
    MIXED,
    SHORT,
    TALKS,
    VARIED,
    Leaving,
    Mix,
    Workload,
    requests,
)

WORKLOADS = st.sampled_from([SHORT, CHAT, ASSISTANTS, TALKS, VARIED, LEAVERS])
PLAIN = st.sampled_from([SHORT, CHAT, VARIED, LEAVERS])
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(
    workload=st.one_of(WORKLOADS, st.just(MIXED)),
    seed=SEEDS,
    count=st.integers(0, 30),
    more=st.integers(0, 30),
)
def test_a_longer_run_begins_with_the_same_requests(
    workload: Workload | Mix, seed: int, count: int, more: int
) -> None:
    longer = requests(workload, count + more, seed)
    assert longer[:count] == requests(workload, count, seed)


@given(workload=st.one_of(WORKLOADS, st.just(MIXED)), seed=SEEDS)
def test_every_request_has_its_own_key_and_prompt(workload: Workload | Mix, seed: int) -> None:
    asked = requests(workload, 50, seed)
    assert len({request.key for request in asked}) == 50
    assert len({json.dumps(request.body) for request in asked}) == 50


@given(workload=PLAIN, seed=SEEDS)
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
        {"words": (1, 1), "tokens": (1, 1), "exchanges": (0, 1)},
        {"words": (1, 1), "tokens": (1, 1), "shared_words": (0, 1)},
        {"words": (1, 1), "tokens": (1, 1), "sigma": -1.0},
        {"words": (1, 1), "tokens": (1, 1), "zipf": -1.0},
        {"words": (1, 1), "tokens": (1, 1), "shared_prompts": 2, "system": "Answer."},
        {"words": (1, 1), "tokens": (1, 1), "talks": 2, "turns": (1, 2)},
        {
            "words": (1, 1),
            "tokens": (1, 1),
            "stream": False,
            "leaving": Leaving(share=1, tokens=(1, 1)),
        },
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(ranges: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"workload 'odd': .* allowed"):
        Workload(name="odd", **ranges)


@given(seed=SEEDS)
def test_assistants_share_few_prompts_and_the_first_most(seed: int) -> None:
    asked = requests(ASSISTANTS, 300, seed)
    openings = Counter(request.body["messages"][0]["content"] for request in asked)
    assert {request.body["messages"][0]["role"] for request in asked} == {"system"}
    assert len(openings) <= 8
    # The first of eight has 1 / 2.72 of the weight, 110 of 300; its deviation is 8.4.
    assert openings.most_common(1)[0][1] >= 110 - 6 * 8.4


@given(seed=SEEDS)
def test_each_turn_of_a_talk_repeats_all_that_was_said_before_and_asks_more(seed: int) -> None:
    seen: list[list[dict[str, str]]] = []
    for request in requests(TALKS, 120, seed):
        messages = list(request.body["messages"])
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert len(roles) // 2 < TALKS.exchanges[1]
        if len(messages) > 1:
            assert messages[:-2] in seen
            seen.remove(messages[:-2])  # each turn has one that follows it, at most
        seen.append(messages)


def test_a_talk_of_one_goes_on_to_its_end_before_the_next_begins() -> None:
    alone = Workload(name="alone", words=(3, 3), tokens=(4, 4), talks=1, exchanges=(3, 3))
    lengths = [len(request.body["messages"]) for request in requests(alone, 7, 1)]
    assert lengths == [1, 3, 5, 1, 3, 5, 1]


@given(seed=SEEDS)
def test_lognormal_sizes_keep_to_their_range_and_half_are_below_its_geometric_mean(
    seed: int,
) -> None:
    sizes = [
        len(request.body["messages"][-1]["content"].split())
        for request in requests(VARIED, 400, seed)
    ]
    assert all(8 <= size <= 400 for size in sizes)
    middle = (8 * 400) ** 0.5
    # Half of 400, deviation 10; an even draw would have 12 % below.
    assert abs(sum(size < middle for size in sizes) - 200) <= 7 * 10


@given(seed=SEEDS)
def test_the_share_of_clients_leaves_within_its_range_and_asks_the_same_as_the_others(
    seed: int,
) -> None:
    asked = requests(LEAVERS, 300, seed)
    leaving = [request.leave_after for request in asked if request.leave_after]
    assert abs(len(leaving) - 100) <= 7 * 8.2
    assert {leave.tokens for leave in leaving} == set(range(1, 9))
    staying = requests(replace(LEAVERS, leaving=None), 300, seed)
    assert [request.body for request in staying] == [request.body for request in asked]


def test_clients_may_leave_by_time() -> None:
    hasty = replace(LEAVERS, leaving=Leaving(share=1, seconds=(0.1, 0.3)))
    times = [r.leave_after.seconds for r in requests(hasty, 50, 1) if r.leave_after]
    assert len(times) == 50
    assert all(at is not None and 0.1 <= at <= 0.3 for at in times)


@given(seed=SEEDS)
def test_a_mix_names_the_class_of_each_request_in_the_weights_that_were_asked(seed: int) -> None:
    asked = requests(MIXED, 500, seed)
    kinds = Counter(request.kind for request in asked)
    assert kinds.keys() == {part.name for part, _ in MIXED.parts}
    for part, weight in MIXED.parts:
        assert abs(kinds[part.name] - 50 * weight) <= 7 * 11
    short = [request.body for request in asked if request.kind == "short"]
    assert short == [request.body for request in requests(SHORT, len(short), seed)]


def test_a_plain_workload_names_no_class() -> None:
    assert {request.kind for request in requests(SHORT, 5, 1)} == {None}


@pytest.mark.parametrize("parts", [(), ((SHORT, 1), (SHORT, 2)), ((SHORT, 0),)])
def test_a_mix_that_cannot_be_drawn_is_refused(parts: tuple[tuple[Workload, float], ...]) -> None:
    with pytest.raises(ValueError, match="mix 'odd': "):
        Mix(name="odd", parts=parts)


@pytest.mark.parametrize(
    "given",
    [
        {"share": 1.1, "tokens": (1, 2)},
        {"share": 0.5},
        {"share": 0.5, "tokens": (1, 2), "seconds": (1.0, 2.0)},
        {"share": 0.5, "tokens": (3, 2)},
        {"share": 0.5, "tokens": (0, 2)},
        {"share": 0.5, "seconds": (0.0, 2.0)},
    ],
)
def test_leaving_that_cannot_be_drawn_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Leaving(**given)
