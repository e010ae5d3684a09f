"""How each way in which an answer can end counts, over HTTP/1.1 and over HTTP/2."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gates.samples import Outcome, Sample
from pytest_phase5.load.driver import LoadResult, run_plan
from pytest_phase5.load.plan import Driver, LeaveAfter, Plan, Request
from pytest_phase5.load.shaped import replayed
from pytest_phase5.load.stub_process import StubProcess
from pytest_phase5.load.workload import Workload, requests

BOTH = pytest.mark.parametrize("driver", ["http1", "http2"])
#: Lag that tests of other things allow, so that a noisy machine cannot fail them.
ANY_LAG = 10.0

NO_END = "ended without a finish reason"
STREAMS: dict[str, tuple[Outcome, str | None]] = {
    "ok": (Outcome.OK, None),
    "cut": (Outcome.CUT, NO_END),
    "no-done": (Outcome.CUT, "ended without [DONE]"),
    "error-event": (Outcome.FAILED, "error event: engine_error"),
    "two-dones": (Outcome.FAILED, "[DONE] twice"),
    "after-done": (Outcome.FAILED, "event after [DONE]"),
    "two-ends": (Outcome.FAILED, "finish reason twice"),
    "text-after-end": (Outcome.FAILED, "text after the finish reason"),
    "two-usages": (Outcome.FAILED, "usage twice"),
    "early-usage": (Outcome.FAILED, "usage before the finish reason"),
    "unknown-end": (Outcome.FAILED, "unknown finish reason: tired"),
    "repeated": (Outcome.FAILED, "event repeated: number 4 after 4"),
    "missing": (Outcome.FAILED, "event missing: number 6 after 4"),
    "out-of-order": (Outcome.FAILED, "event out of order: number 3 after 4"),
}
STATUSES: dict[str, tuple[Outcome, str | None]] = {
    "status-404": (Outcome.REJECTED, "http 404"),
    "status-429": (Outcome.SHED, "http 429"),
    "status-500": (Outcome.FAILED, "http 500"),
    "status-503": (Outcome.FAILED, "http 503"),
    "status-504": (Outcome.FAILED, "http 504"),
}
#: Where the two protocols break in ways of their own.
BROKEN: dict[Driver, str] = {"http1": "ClientPayloadError", "http2": "stream reset"}


def asked(*kinds: str, **changes: Any) -> tuple[Request, ...]:
    """One request of each kind."""
    made = requests(Workload(name="ends", words=(3, 3), tokens=(8, 8)), len(kinds), 1)
    return tuple(
        replace(request, body={**request.body, "model": kind}, kind=kind, **changes)
        for request, kind in zip(made, kinds, strict=True)
    )


def a_plan(url: str, driver: Driver, given: tuple[Request, ...], **options: Any) -> Plan:
    calls = [(number / 100, request) for number, request in enumerate(given)]
    return replayed(url, calls, driver=driver, lag_limit=ANY_LAG, **options)


def by_kind(result: LoadResult) -> dict[str, Sample]:
    assert result.valid, result.invalid_reason
    return {str(sample.kind): sample for sample in result.samples}


@BOTH
def test_each_ending_counts_as_documented(
    shared_stub: StubProcess, tmp_path: Path, driver: Driver
) -> None:
    expected = (
        STREAMS
        | STATUSES
        | {
            "reset": (Outcome.CUT, BROKEN[driver]),
            "unavailable": (Outcome.SHED, "http 503"),
        }
    )
    plan = a_plan(shared_stub.url(), driver, asked(*expected))
    ended = by_kind(run_plan(plan, tmp_path / "run"))
    assert {kind: (s.outcome, s.error) for kind, s in ended.items()} == expected
    assert {s.protocol for s in ended.values()} == {"h1" if driver == "http1" else "h2"}
    statuses = {kind: s.status for kind, s in ended.items() if s.status != 200}
    assert statuses == {
        **{kind: int(kind.removeprefix("status-")) for kind in STATUSES},
        "unavailable": 503,
    }


@BOTH
def test_a_503_of_a_server_that_is_not_ready_is_a_failure(
    shared_stub: StubProcess, tmp_path: Path, driver: Driver
) -> None:
    plan = a_plan(shared_stub.url("down"), driver, asked("unavailable"))
    ended = by_kind(run_plan(plan, tmp_path / "run"))["unavailable"]
    assert (ended.outcome, ended.error) == (Outcome.FAILED, "http 503 and not ready")


@BOTH
def test_who_does_not_answer_in_time_has_failed(
    shared_stub: StubProcess, tmp_path: Path, driver: Driver
) -> None:
    plan = a_plan(shared_stub.url(), driver, asked("hang"), timeout=1)
    ended = by_kind(run_plan(plan, tmp_path / "run"))["hang"]
    assert (ended.outcome, ended.error, ended.first_token) == (Outcome.FAILED, "timeout", None)


@BOTH
def test_a_client_that_leaves_is_no_error_and_its_stream_is_closed(
    shared_stub: StubProcess, tmp_path: Path, driver: Driver
) -> None:
    (leaver,) = asked("ok", leave_after=LeaveAfter(tokens=3))
    long = {**leaver.body, "max_tokens": 100_000}  # it ends only because the client leaves
    given = (
        replace(leaver, key=f"leaver-{driver}", body=long),
        *(replace(r, key="patient") for r in asked("ok", leave_after=LeaveAfter(tokens=9))),
        *(
            replace(r, key=f"early-{driver}")
            for r in asked("hang", leave_after=LeaveAfter(seconds=0.2))
        ),
    )
    result = run_plan(a_plan(shared_stub.url(), driver, given), tmp_path / "run")
    assert result.valid, result.invalid_reason
    first, patient, early = result.samples
    assert first.outcome is Outcome.CANCELLED
    # Three, or as many as came in one piece with the third.
    assert re.fullmatch(r"left after ([3-9]|\d\d+) tokens", str(first.error))
    assert first.first_token is not None
    assert first.output_tokens is None
    assert (early.outcome, early.error) == (Outcome.CANCELLED, "left after 0.2 s")
    assert early.end is not None
    assert early.sent is not None
    assert early.end - early.sent > 0.19  # a loop rounds its timers
    assert patient.outcome is Outcome.OK  # it had only eight
    deadline = time.monotonic() + 30
    while not all(
        "left" in shared_stub.seen()[key] for key in (f"leaver-{driver}", f"early-{driver}")
    ):
        assert time.monotonic() < deadline, "the server did not notice that the clients left"
        time.sleep(0.01)
