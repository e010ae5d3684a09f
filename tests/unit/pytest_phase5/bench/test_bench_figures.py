"""What a round came to: only the same work counts, and who got nothing waited to the end."""

from dataclasses import replace
from itertools import combinations

import pytest
from bench_rounds import a_sample

from gates.samples import Outcome, Sample
from pytest_phase5.bench.asking import plan
from pytest_phase5.bench.cells import FAST_BOUND, WORKLOADS, cells
from pytest_phase5.bench.figures import STOPPED, figures
from pytest_phase5.bench.prompts import (
    OUTPUT,
    SHARED,
    STORM,
    TALKS,
    UNSHARED,
    Asked,
    Sizes,
    asked,
    expected,
    to_model,
)
from pytest_phase5.bench.running import seed_of
from pytest_phase5.bench.servers import Server

SIZES = Sizes(1.5)


def test_a_whole_round_has_its_rates_and_times() -> None:
    found = figures([a_sample(0), a_sample(1, first_token=0.6, end=2.0)], [16, 16])
    assert (found.state, found.reason) == ("whole", "")
    assert found.measures["requests_per_second"] == 1
    assert found.measures["good_per_second"] == 0.5
    assert found.measures["tokens_per_second"] == 16
    assert found.measures["ttft_p95_ms"] == pytest.approx(600, abs=40)


@pytest.mark.parametrize(
    ("sample", "state"),
    [
        (a_sample(1, output_tokens=15), "unequal"),
        (a_sample(1, outcome=Outcome.FAILED, first_token=None), "errors"),
        (a_sample(1, outcome=Outcome.SHED, first_token=None), "errors"),
        (a_sample(1, outcome=Outcome.CANCELLED, error=STOPPED, end=1.0), "bounded"),
    ],
)
def test_what_was_not_whole_is_said(sample: Sample, state: str) -> None:
    found = figures([a_sample(0), sample], [16, 16])
    assert found.state == state
    assert found.reason


def test_a_client_that_was_late_makes_the_round_invalid() -> None:
    found = figures([a_sample(0)], [16], fault="dispatch lag")
    assert (found.state, found.reason) == ("invalid", "dispatch lag")


def test_a_request_that_never_had_a_token_waited_until_the_round_was_over() -> None:
    lost = a_sample(1, outcome=Outcome.FAILED, first_token=None, end=9.0)
    assert figures([a_sample(0), lost], [16, 16]).measures["ttft_p99_ms"] == pytest.approx(
        9000, rel=0.02
    )


def test_nothing_that_came_back_is_bounded_and_has_no_measures() -> None:
    found = figures([], [16])
    assert (found.state, dict(found.measures)) == ("bounded", {})


def test_clients_that_left_on_purpose_are_no_errors_and_were_served() -> None:
    left = a_sample(1, outcome=Outcome.CANCELLED, error="left after 3 tokens", output_tokens=None)
    found = figures([a_sample(0), left], [16, 16])
    assert found.state == "whole"
    assert found.measures["requests_per_second"] == 2


def test_times_of_short_and_long_prompts_are_told_apart() -> None:
    found = figures(
        [a_sample(0, kind="short"), a_sample(1, kind="long", first_token=0.9)], [16] * 2
    )
    assert found.measures["ttft_p95_ms:short"] == pytest.approx(200)
    assert found.measures["ttft_p95_ms:long"] == pytest.approx(900)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_request_streams_greedily_to_a_fixed_length(workload: str) -> None:
    for request in asked(workload, SIZES, 20, 1):
        assert expected(request) == OUTPUT
        assert (request.body["temperature"], request.body["stream"]) == (0, True)
        assert request.body["stream_options"] == {"include_usage": True}


def system(made: Asked) -> list[str]:
    return [one.body["messages"][0]["content"] for one in made]


def test_prompts_share_what_their_workload_says_and_nothing_else() -> None:
    assert len(set(system(asked(SHARED, SIZES, 20, 1)))) == 1
    assert len(set(system(asked(UNSHARED, SIZES, 20, 1)))) == 20
    talks = {len(one.body["messages"]) for one in asked(TALKS, SIZES, 60, 1)}
    assert talks == {1, 3, 5, 7}
    assert any(one.leave_after for one in asked(STORM, SIZES, 20, 1))


def test_a_longer_run_begins_with_the_same_requests_and_servers_get_the_same_but_the_name() -> None:
    few, many = asked(SHARED, SIZES, 3, 1), asked(SHARED, SIZES, 9, 1)
    assert many[:3] == few
    (mine, theirs) = (to_model(few, name) for name in ("mine", "theirs"))
    for one, other in zip(mine, theirs, strict=True):
        assert {**one.body, "model": None} == {**other.body, "model": None}


def test_no_two_comparisons_ask_the_same() -> None:
    texts = [
        frozenset(one.body["messages"][-1]["content"][:40] for one in made)
        for cell in cells(WORKLOADS, (4, 8), fast=True, quick=True)
        for made in [asked(cell.workload, SIZES, 8, seed_of(1, cell), cell.prompt)]
    ]
    assert all(one.isdisjoint(other) for one, other in combinations(texts, 2))


SERVER = Server(arm="on", url="http://127.0.0.1:1", model="tiny", pid=1, options="")


def test_under_overload_requests_arrive_at_a_rate_and_else_each_stream_waits() -> None:
    (chat, overload) = cells(["chat", "overload"], [4], fast=True)
    made = asked("chat", SIZES, 9, 1)
    waiting, arriving = (
        plan(chat, made, SERVER, 1),
        plan(replace(overload, rate=3.0), made, SERVER, 1),
    )
    assert (waiting.closed, waiting.blocks[0].arrivals) == (True, ())
    assert (arriving.closed, len(arriving.blocks[0].arrivals)) == (False, 9)
    assert waiting.blocks[0].concurrency == 4


def test_every_server_is_asked_over_a_connection_for_each_request() -> None:
    (chat,) = cells(["chat"], [4], fast=True)
    assert not plan(chat, asked("chat", SIZES, 9, 1), SERVER, 1).reuse


def test_cells_have_fewer_streams_first_and_a_bound() -> None:
    found = list(cells(WORKLOADS, (), fast=True))
    chat = [one for one in found if one.workload == "chat"]
    assert [one.streams for one in chat] == [1, 8, 32, 75, 100]
    assert all(one.requests >= one.streams and one.bound == FAST_BOUND for one in found)
    assert [one.closed for one in found if one.workload == "overload"] == [False]
    assert next(cells(["chat"], [5], fast=False)).requests == 10
