"""What is particular to HTTP/2: one connection, and how it ends."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gates.samples import Outcome
from pytest_phase5.load.driver import LoadResult, run_plan
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.stub_process import StubProcess, running_stub
from pytest_phase5.load.workload import SHORT, Workload

#: Lag that tests of other things allow, so that a noisy machine cannot fail them.
ANY_LAG = 10.0
QUICK = replace(SHORT, model="ok")
LONG = replace(SHORT, tokens=(200, 200), model="ok")


def a_plan(url: str, workload: Workload = QUICK, **changes: Any) -> Plan:
    options: dict[str, Any] = {"rate": 100, "requests": 50, "warmup": 5, "lag_limit": ANY_LAG}
    given = {"seed": 3, "workload": workload, "schedule": "constant", "driver": "http2"}
    return open_loop(url, **given | options | changes)


def started(plan: Plan, folder: Path) -> tuple[threading.Thread, list[LoadResult]]:
    results: list[LoadResult] = []
    thread = threading.Thread(target=lambda: results.append(run_plan(plan, folder)))
    thread.start()
    return thread, results


def wait_until_all_stream(stub: StubProcess, count: int) -> None:
    waiting = threading.Event()
    for _ in range(600):
        rows = stub.seen().values()
        if sum("first" in row or "arrived" in row for row in rows) == count:
            return
        waiting.wait(0.05)
    pytest.fail(f"{len(stub.seen())} of {count} requests arrived in 30 s")


def test_all_streams_share_one_connection(stub: StubProcess, tmp_path: Path) -> None:
    result = run_plan(a_plan(stub.url()), tmp_path / "run")
    assert result.valid, result.invalid_reason
    assert {(s.outcome, s.protocol) for s in result.samples} == {(Outcome.OK, "h2")}
    assert result.connections == 1


def test_over_http1_each_concurrent_stream_has_its_own(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), LONG, driver="http1", requests=20, warmup=0)
    result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    assert result.connections == 20  # each lasts a second, and all come within 0.2 s


def test_a_graceful_goaway_loses_no_stream(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), LONG, requests=20, warmup=0)
    thread, results = started(plan, tmp_path / "run")
    wait_until_all_stream(stub, 20)
    stub.process.terminate()
    thread.join()
    (result,) = results
    assert result.valid, result.invalid_reason
    assert {s.outcome for s in result.samples} == {Outcome.OK}
    assert stub.process.wait(30) == 0


def test_a_connection_that_dies_cuts_all_its_streams(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), LONG, requests=20, warmup=0)
    thread, results = started(plan, tmp_path / "run")
    wait_until_all_stream(stub, 20)
    stub.process.kill()
    thread.join()
    (result,) = results
    assert result.valid, result.invalid_reason
    assert {s.outcome for s in result.samples} <= {Outcome.CUT, Outcome.FAILED}
    assert [s for s in result.samples if s.first_token is not None and s.outcome is Outcome.CUT]


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    with running_stub(tmp_path / "stub.jsonl") as gone:
        url = gone.url()
    result = run_plan(a_plan(url, requests=5), tmp_path / "run")
    assert {(s.outcome, s.status, s.error) for s in result.samples} == {
        (Outcome.FAILED, None, "ConnectError")
    }


@pytest.mark.parametrize(
    ("driver", "spoken", "refusal"),
    [
        ("http1", "h1", "ClientConnectorCertificateError"),
        ("http2", "h2", "certificate refused"),
    ],
)
def test_over_tls_the_driver_chooses_by_alpn_and_trusts_only_the_given_certificate(
    tmp_path: Path, certificate: tuple[Path, Path], driver: str, spoken: str, refusal: str
) -> None:
    cert, key = certificate
    with running_stub(tmp_path / "stub.jsonl", cert=cert, key=key) as stub:
        plan = a_plan(stub.url(), driver=driver, ca_file=str(cert))
        result = run_plan(plan, tmp_path / "run")
        strange = run_plan(replace(plan, ca_file=None), tmp_path / "strange")
    assert result.valid, result.invalid_reason
    assert {(s.outcome, s.protocol) for s in result.samples} == {(Outcome.OK, spoken)}
    assert {s.outcome for s in strange.samples} == {Outcome.FAILED}
    # Those who waited for a connection that another tried to make may know less.
    assert refusal in {s.error for s in strange.samples}
