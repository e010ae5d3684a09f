"""The gate tested by engines that are known to be bad, and by one that is known to be good.

A bad engine must hold or roll back, a good one must never roll back, or nobody has a reason to
believe either verdict.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gating import ROOT, GatedSession, project

pytestmark = pytest.mark.alone

ENGINES = ROOT / "tests" / "engines"
FULL = bool(os.environ.get("PHASE5_FULL"))

#: What the suite of errors alone decides; the faults that must not promote come first.
COUNTED = {
    "errors=0.005": ("error_rate", "rollback"),
    "cut=0.01": ("no_lost_stream", "rollback"),
    "same": ("error_rate", "promote"),
}
if FULL:
    COUNTED |= {
        "errors=0.01": ("error_rate", "rollback"),
        "crash=2": ("error_rate", "hold or rollback"),
        "none": ("error_rate", "promote"),
    }
    COUNTED = dict(sorted(COUNTED.items(), key=lambda row: row[1][1] == "promote"))

SAME = "faulty.py --fault same"
#: What needs the machine to itself, one after the other.
TIMED = [("faulty.py --fault ttft=1.5", "ttft_p95_vs_control", "ttft_pipeline")]
if FULL:
    TIMED += [
        ("faulty.py --fault ttft=1.5", "ttft_p95_vs_control", "every"),
        (SAME, "ttft_p95_vs_control", "ttft_pipeline"),
        ("leaky.py --leak front_end", "no_leak", "every"),
        ("leaky.py --leak runtime", "no_leak", "every"),
    ]


def gated(folder: Path, engine: str, flags: str, *criteria: str) -> GatedSession:
    folder.mkdir(exist_ok=True)
    return GatedSession.start(
        project(folder, *criteria, "tests_green"),
        f"--phase5-engine-command={sys.executable} {ENGINES}/{engine}",
        f"--phase5-flags={flags}",
        "--phase5-model=tiny",
    )


def counting(folder: Path, fault: str) -> GatedSession:
    return gated(folder, f"faulty.py --fault {fault}", "every", "error_rate", "no_lost_stream")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, GatedSession]]:
    """Sessions that must not promote, all at once; each test waits for its own."""
    folder = tmp_path_factory.mktemp("counted")
    sessions = {
        fault: counting(folder / fault, fault)
        for fault, (_, expected) in COUNTED.items()
        if expected != "promote"
    }
    yield sessions
    for session in sessions.values():
        session.stop()


@pytest.fixture
def counted(
    fault: str, together: dict[str, GatedSession], tmp_path: Path
) -> Iterator[GatedSession]:
    """The session of a fault. One that must promote has the machine to itself by then.

    Beside others, requests that no core is free for would be dropped, and keep it from that.
    """
    if fault in together:
        yield together[fault]
        return
    session = counting(tmp_path / "project", fault)
    try:
        yield session
    finally:
        session.stop()


def outcome(verdict: dict[str, Any], criterion: str) -> str:
    (found,) = [row["outcome"] for row in verdict["criteria"] if row["id"] == criterion]
    return str(found)


def told(session: GatedSession, verdict: dict[str, Any]) -> None:
    """The report of a session shows its verdict, worked out again."""
    report = (session.folder / "phase5-report" / "report.html").read_text(encoding="utf-8")
    assert f'id="word">{verdict["verdict"]}<' in report, session.output
    assert "when this page was written: identical." in report, session.output


@pytest.mark.parametrize("fault", COUNTED)
def test_what_fails_is_taken_back_and_what_does_not_is_kept(
    fault: str, counted: GatedSession
) -> None:
    verdict = counted.verdict()
    criterion, expected = COUNTED[fault]
    assert verdict["verdict"] in expected, counted.output
    good = expected == "promote"
    assert (outcome(verdict, criterion) == "pass") is good, counted.output
    assert (counted.process.returncode == 0) is good, counted.output
    told(counted, verdict)


@pytest.mark.parametrize(("engine", "criterion", "flags"), TIMED)
def test_what_is_slower_or_leaks_is_not_promoted(
    engine: str, criterion: str, flags: str, tmp_path: Path
) -> None:
    session = gated(tmp_path / "project", engine, flags, criterion)
    try:
        verdict = session.verdict()
    finally:
        session.stop()
    told(session, verdict)
    if engine == SAME:  # a noisy machine may keep it from being told, no more
        assert verdict["verdict"] in {"promote", "hold"}, session.output
        assert outcome(verdict, criterion) in {"pass", "inconclusive"}, session.output
        return
    assert verdict["verdict"] == "hold", session.output
    assert outcome(verdict, criterion) in {"fail", "inconclusive"}, session.output
    assert session.process.returncode == 1, session.output
