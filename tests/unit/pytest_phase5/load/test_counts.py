"""Two sets of books that must agree, or say where they do not."""

from typing import Any

import pytest

from gates.samples import Outcome, Sample
from pytest_phase5.load.counts import EngineCounts, client_counts, differences, engine_counts


def sample(outcome: Outcome, **changes: Any) -> Sample:
    fields: dict[str, Any] = {"status": 200, "output_tokens": 16, **changes}
    return Sample(
        index=0,
        arm="treatment",
        block=0,
        scheduled=0.0,
        sent=0.0,
        first_token=0.1,
        end=1.0,
        outcome=outcome,
        **fields,
    )


def books(samples: list[Sample], tokens: int = 0, **outcomes: int) -> list[str]:
    engine = EngineCounts(outcomes=outcomes, output_tokens=tokens)
    return list(differences(engine, client_counts(samples)))


OK = sample(Outcome.OK)
SHED = sample(Outcome.SHED, status=429, output_tokens=None)
LATE = sample(Outcome.FAILED, error="timeout", output_tokens=None)
UNREACHED = sample(Outcome.FAILED, status=None, error="ClientConnectorError", output_tokens=None)
BROKEN = sample(Outcome.CUT, error="ClientPayloadError", output_tokens=None)
DROPPED = sample(Outcome.DROPPED, status=None, output_tokens=None)


@pytest.mark.parametrize(
    ("samples", "tokens", "outcomes"),
    [
        ([OK, OK, SHED], 32, {"ok": 2, "shed": 1}),
        ([OK, LATE], 16, {"ok": 1, "cancelled": 1}),
        ([OK, LATE], 21, {"ok": 1, "cancelled": 1}),
        ([OK, DROPPED], 16, {"ok": 1}),
        ([OK, UNREACHED], 16, {"ok": 1}),
        ([OK, UNREACHED], 16, {"ok": 1, "cancelled": 1}),
        ([BROKEN], 5, {"failed": 1}),
        ([BROKEN], 5, {"cut": 1}),
    ],
)
def test_books_that_can_both_be_right_agree(
    samples: list[Sample], tokens: int, outcomes: dict[str, int]
) -> None:
    assert books(samples, tokens, **outcomes) == []


@pytest.mark.parametrize(
    ("samples", "tokens", "outcomes", "said"),
    [
        ([OK], 32, {"ok": 2}, "requests ok: engine 2, client 1"),
        ([OK, OK], 32, {"ok": 1}, "requests ok: engine 1, client 2"),
        ([OK], 16, {"ok": 1, "rejected": 1}, "requests rejected: engine 1, client 0"),
        ([OK], 17, {"ok": 1}, "output tokens: engine 17, client 16"),
        ([OK, LATE], 15, {"ok": 1, "cancelled": 1}, "output tokens: engine 15, client 16"),
        ([UNREACHED], 0, {"failed": 2}, "requests: engine 2, client 0 and 1 without an answer"),
    ],
)
def test_books_that_differ_say_where_with_both_numbers(
    samples: list[Sample], tokens: int, outcomes: dict[str, int], said: str
) -> None:
    assert said in books(samples, tokens, **outcomes)


def test_metrics_are_read_over_all_their_labels() -> None:
    text = (
        'phase5_requests_total{outcome="ok",protocol="http1"} 3.0\n'
        'phase5_requests_total{outcome="ok",protocol="http2"} 4.0\n'
        'phase5_output_tokens_total{ttft_pipeline="on"} 5.0\n'
        "phase5_streams_in_flight 2.0\nerror_rate NaN\n"
    )
    counted = engine_counts(text)
    assert (counted.outcomes["ok"], counted.output_tokens, counted.in_flight) == (7, 5, 2)


def test_only_what_came_since_counts() -> None:
    before = EngineCounts(outcomes={"ok": 5}, output_tokens=50, restarts=1)
    after = EngineCounts(outcomes={"ok": 7, "shed": 1}, output_tokens=80, restarts=1, in_flight=3)
    since = after.since(before)
    assert (since.outcomes["ok"], since.outcomes["shed"]) == (2, 1)
    assert (since.output_tokens, since.restarts, since.in_flight) == (30, 0, 3)
