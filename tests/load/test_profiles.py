"""Every profile, shortened, on the real engine: whole, and with the engine's own counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from gates.criteria import Outcome
from gates.evidence import Measurement
from gates.groups import Group
from gates.growth import memory_slope
from gates.policy import load_policy
from gates.samples import Outcome as Ended
from gates.samples import Sample, read_rows
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import WARM_UP, Setting, measured
from pytest_phase5.load.document import document
from pytest_phase5.load.profiles import PROFILES, Part, Profile, Steps
from pytest_phase5.load.running import EngineFor, PartResult, ProfileResult, Runner
from pytest_phase5.load.subjects import started_engine

FULL = bool(os.environ.get("PHASE5_FULL"))
LEAKY = Path(__file__).parents[1] / "engines" / "leaky.py"
#: A tenth or less of what each takes; `--full` takes ten times as long.
SCALES = {
    "ttft": 0.1,
    "throughput": 0.05,
    "sustained": 0.005,
    "spike": 0.01,
    "soak": 0.0005,
    "stress": 0.01,
    "connections": 0.1,
    "regression": 0.1,
    "leak": 0.5,  # that nothing leaks takes more than 1,000 requests to show
}
#: A leak of 64 KiB shows in 600 requests, but memory is read by time: a fast machine is done
#: with them before there are the 20 readings that a slope needs.
LEAKING = SCALES["leak"]
PATIENCE = 60.0
#: How a reason begins that is about the generator's pace.
OF_THE_GENERATOR = ("dispatch lag p99 ", "rate ", "no step could be judged: the generator did")


Press = Callable[[str], ProfileResult]


def run(profile: Profile, engine_for: EngineFor, folder: Path, scale: float) -> ProfileResult:
    runner = Runner(engine_for=engine_for, folder=folder)
    return runner.run(profile, Setting(url="", time_scale=scale, seed=1, expected_load=50))


@pytest.fixture(scope="module")
def press(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Press]:
    """Runs a profile once, shortened, on `tiny`; those without flags share an engine."""
    folder = tmp_path_factory.mktemp("profiles")
    results: dict[str, ProfileResult] = {}
    with started_engine("off", model="tiny", config=None, log=folder / "off.log") as plain:

        def engine_for(flags: str) -> AbstractContextManager[Engine]:
            if flags == "off":
                return nullcontext(plain)
            return started_engine(flags, model="tiny", config=None, log=folder / f"{flags}.log")

        def pressed(name: str) -> ProfileResult:
            if name not in results:
                scale = min(1.0, SCALES[name] * (10 if FULL else 1))
                results[name] = run(PROFILES[name], engine_for, folder / name, scale)
            return results[name]

        yield pressed


def facts(result: ProfileResult) -> dict[str, Any]:
    return document(result, machine="here", created="now")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_ends_with_the_counts_of_the_engine(press: Press, name: str) -> None:
    result = press(name)
    assert result.complete
    assert not result.skipped
    for part in result.parts:
        assert_counts_agree(part)
        # How late a noisy machine lets the generator be is not what this test is about.
        told = [reason for reasons in part.reasons for reason in reasons.split("; ")]
        assert not [reason for reason in told if not reason.startswith(OF_THE_GENERATOR)]
    written = json.dumps(facts(result), allow_nan=False)
    assert [part["name"] for part in json.loads(written)["parts"]] == [
        part.name for part in PROFILES[name].parts
    ]


def assert_counts_agree(part: PartResult) -> None:
    assert part.counted is not None
    clients: dict[str, int] = {}
    for sample in part.samples:
        clients[sample.outcome.value] = clients.get(sample.outcome.value, 0) + 1
    assert {o: n for o, n in part.counted.outcomes.items() if n} == clients
    assert part.counted.output_tokens == sum(s.output_tokens or 0 for s in part.samples)


def test_fewer_connections_are_opened_over_http2(press: Press) -> None:
    result = press("connections")
    first, second = facts(result)["parts"]
    assert (first["driver"], second["driver"]) == ("http1", "http2")
    assert {s.protocol for s in result.parts[1].samples} == {"h2"}
    assert second["connections_opened"] < first["connections_opened"]


def test_a_server_that_sheds_is_found_at_its_knee_however_late_the_generator(
    tmp_path: Path,
) -> None:
    config = tmp_path / "runtime.yaml"
    config.write_text("admission: {limit: 1, queue: 4}\n", encoding="utf-8")

    def engine_for(flags: str) -> AbstractContextManager[Engine]:
        return started_engine(flags, model="tiny", config=config, log=tmp_path / "small.log")

    # One stream at a time: five a second are nothing, four hundred at once are mostly shed.
    # Of the five three come within 30 ms, about as long as one takes: they must find room.
    part = Part(name="steps", load=Steps(rates=(5, 400), seconds=100))
    profile = Profile(name="small", summary="", parts=(part,))
    (found,) = facts(run(profile, engine_for, tmp_path / "run", 0.01))["parts"]
    assert found["knee"]["broke"] == 400
    assert found["steps"][-1]["end"] == "broke"
    assert found["outcomes"]["shed"]
    assert found["knee"]["why"].startswith("goodput ")


def leaks(result: ProfileResult) -> dict[str, Outcome]:
    """What the judge says of each part of the engine."""
    (part,) = result.parts
    run = Measurement(
        run="",
        item="",
        attempt=1,
        criteria=("no_leak",),
        arms={"treatment": part.engine.identity},
        machine="",
        created="",
        usage=part.usage,
    )
    group = Group("", "tiny", part.engine.flag_set, None, (run,))
    findings = memory_slope(load_policy().criteria["no_leak"], group)
    return {next(p for p in ("front_end", "runtime") if p in f.reason): f.outcome for f in findings}


def test_an_engine_that_keeps_nothing_passes_the_leak_criterion(press: Press) -> None:
    result = press("leak")
    (part,) = result.parts
    samples = measured(part.samples)
    assert len(samples) >= 1_000
    assert {sample.outcome for sample in samples} == {Ended.OK}
    assert result.valid, part.reasons
    assert leaks(result) == {"front_end": Outcome.PASS, "runtime": Outcome.PASS}


@pytest.mark.parametrize("where", ["front_end", "runtime"])
def test_an_engine_that_keeps_what_it_served_fails_it(where: str, tmp_path: Path) -> None:
    command = (sys.executable, "-P", str(LEAKY), "--leak", where)

    def engine_for(flags: str) -> AbstractContextManager[Engine]:
        log = tmp_path / "leaky.log"
        return started_engine(flags, model="tiny", config=None, log=log, command=command)

    result = run(PROFILES["leak"], engine_for, tmp_path / "run", LEAKING)
    assert leaks(result)[where] is Outcome.FAIL


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not come about in {PATIENCE} s"
        time.sleep(0.02)


def test_ctrl_c_leaves_partial_results_and_nothing_running(tmp_path: Path) -> None:
    report = tmp_path / "report"
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "pytest_phase5.cli", "load", "run", "soak"),
            *("--model", "tiny", "--report", str(report), "--time-scale", "0.5", "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    rows = report / "runs" / "soak" / "0" / "progress.jsonl"
    wait_for(lambda: rows.exists() and len(rows.read_text().splitlines()) > 2)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    shown = json.loads(stdout)
    assert (shown["complete"], shown["valid"]) == (False, False)
    assert shown == {**json.loads((report / "result.json").read_text()), "report": str(report)}
    kept = list(read_rows(report / "soak.samples.jsonl"))
    assert any(sample.block != WARM_UP for sample in kept)
    ours, engines = counted(kept), shown["parts"][0]["counted_by_engine"]["outcomes"]
    crossed = engines["ok"] - ours["ok"]  # whole answers on their way to a client that has left
    assert 0 <= crossed <= ours["cancelled"]
    ends = {"ok": engines["ok"], "cancelled": ours["cancelled"] - crossed}
    assert {**ours, **ends} == engines
    assert not [child for child in family if child.is_running()]


def counted(samples: list[Sample]) -> dict[str, int]:
    names = ("ok", "failed", "cut", "shed", "rejected", "cancelled")
    return {name: sum(s.outcome.value == name for s in samples) for name in names}
