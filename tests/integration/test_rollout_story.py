"""A rollout as it goes, on real parts: two engines, a Prometheus, load, a Git store, the guard.

A flag that breaks under the eyes of the guard goes alone, and nobody but its own streams notices.
In full the flags first soak at canary, and are promoted to early by a verdict on live traffic.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from monitored import prometheus
from receiver import Receiver, receiving
from rollout_parts import (
    Load,
    Running,
    bare_store,
    clone,
    eventually,
    flawed,
    guard,
    load,
    phase5,
    shares,
    status,
    verdict_from_tests,
)
from served import until

from gates.ledger import minute_of
from gates.samples import Outcome
from gates.store import ConflictError, Snapshot, open_store

FULL = bool(os.environ.get("PHASE5_FULL"))
GUILTY, INNOCENT = "ttft_pipeline", "qos_monitoring"
BOTH = (GUILTY, INNOCENT)
#: Everything that an engine and the store must have alike.
CONFIG = "admission: {limit: 40}\n"
#: Seconds: short enough that a guard's death shows within the test, and longer than any poll of
#: it takes on a machine that has much else to do.
LEASE = 25
#: Requests a second to each of the two engines: a third of what they can do on two busy cores.
RATE = 15.0
#: Shares that a test's traffic can tell something about, and one minute of soak.
POLICY = """
criteria:
  smoke: {kind: invariant, measure: checks, covers: each_flag}
  soak: {kind: invariant, measure: soak, source: live}
  live_crashes: {kind: invariant, measure: crashes, source: live, critical: true}
  live_error_rate: {kind: ceiling, measure: error_rate, source: live, limit: 0.1 %, critical: true}
stages:
  canary: {percentage: 20, soak_hours: 0.0167, enter: [smoke], leave: [smoke, soak, live_crashes]}
  early: {percentage: 40, soak_hours: 1}
  mid: {percentage: 50, soak_hours: 1}
  full: {percentage: 100, soak_hours: 0}
"""


@dataclass
class Story:
    """All parts, running."""

    folder: Path
    engines: list[Running]
    config: Path  #: the guard's
    other: Path  #: of the second clone
    guard: Running
    load: Load
    broken: Path
    hook: Receiver

    @property
    def urls(self) -> list[str]:
        return [engine.url for engine in self.engines]

    @property
    def state(self) -> Path:
        return self.config.with_name("runtime.yaml.state") / "guard"

    def read(self) -> Snapshot:
        return open_store(self.config).read()

    def wait_for(self, flag: str, share: float) -> None:
        until(lambda: all(shares(url)[flag] == share for url in self.urls))

    def told(self) -> list[str]:
        """What the webhook got."""
        return [body["text"] for body in [*self.hook.got.get("/hook", [])]]

    def ledger(self, flag: str) -> Path:
        epoch = self.read().flags[flag].epoch
        return self.state / "ledger" / f"{flag}-{epoch}.jsonl"

    def rows(self, flag: str) -> int:
        """Whole minutes that the guard has written of a flag."""
        path = self.ledger(flag)
        return max(path.read_text().count("\n") - 1, 0) if path.exists() else 0


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    broken = folder / "broken"
    with ExitStack() as stack:
        engines = [
            stack.enter_context(flawed(folder / name, GUILTY, broken, CONFIG))
            for name in ("one", "two")
        ]
        urls = [engine.url for engine in engines]
        targets = [urlsplit(url).netloc for url in urls]
        server = stack.enter_context(prometheus(folder / "prometheus", targets))
        hook = stack.enter_context(receiving())
        lease = dict.fromkeys(("canary", "early", "mid"), LEASE)
        rollout = {"engines": urls, "prometheus": server, "lease_seconds": lease}
        rollout["webhook"] = f"{hook.url}/hook"
        section = f"rollout: {json.dumps(rollout)}\n"
        bare = bare_store(folder, CONFIG + section)
        config = clone(folder / "guards", bare, CONFIG, POLICY, rollout)
        other = clone(folder / "ci", bare, CONFIG, POLICY, rollout)
        pressing = stack.enter_context(load(urls, folder / "load", RATE))
        watching = stack.enter_context(guard(config, folder / "guard.log"))
        yield Story(folder, engines, config, other, watching, pressing, broken, hook)


def promoted(story: Story, verdict: Path, *flags: str) -> None:
    names = [word for flag in flags for word in ("--flag", flag)]
    code, said = phase5("promote", "--verdict", str(verdict), "--config", str(story.other), *names)
    assert code == 0, said


def to_early(story: Story) -> None:
    """A soak at canary, and a promotion by what live traffic showed meanwhile."""
    eventually(lambda: all(story.rows(flag) >= 1 for flag in BOTH))
    checkout = story.folder / "checkout" / "runtime.yaml"
    checkout.parent.mkdir()
    checkout.write_text(story.read().text)
    checkout.with_name("gates.yaml").write_text(POLICY)
    verdict = verdict_from_tests(
        story.folder / "early",
        checkout,
        "canary",
        BOTH,
        ["smoke"],
        story.urls[0],
        [story.ledger(flag) for flag in BOTH],
    )
    promoted(story, verdict)


def test_a_flag_that_breaks_goes_alone(story: Story) -> None:
    first = verdict_from_tests(
        story.folder / "canary", story.other, "canary", BOTH, ["smoke"], story.urls[0]
    )
    promoted(story, first)
    share = 20.0
    for flag in BOTH:
        story.wait_for(flag, share)
    if FULL:
        to_early(story)
        share = 40.0
        for flag in BOTH:
            story.wait_for(flag, share)
    in_flight = open_store(story.other)
    before = in_flight.read()
    generation = before.generation

    # A whole minute must begin with the flags on; the fault falls into it.
    began = minute_of(datetime.now(UTC)) + 1
    eventually(lambda: minute_of(datetime.now(UTC)) >= began)
    story.broken.touch()
    eventually(lambda: all(shares(url)[GUILTY] == 0 for url in story.urls))
    until(lambda: story.read().flags[GUILTY].stage == "off")

    now = story.read()
    assert now.generation == generation + 1
    assert now.flags[GUILTY].tombstones
    assert now.flags[INNOCENT] == before.flags[INNOCENT]
    assert [shares(url)[INNOCENT] for url in story.urls] == [share, share]
    history = open_store(story.other).history()
    assert history.problems == ()
    record = history.records[-1]
    assert (record.cause, list(record.flags)) == ("verdict", [GUILTY])
    assert "confidently worse than control" in record.reason

    until(lambda: any(f"rollback of {GUILTY} (verdict)" in text for text in story.told()))

    # The verdict that justified it stands, for whoever asks.
    (verdict,) = (story.state / "verdicts").glob("*/verdict.json")
    code, said = phase5("gate", "verify", str(verdict), "--config", str(story.config))
    assert (code, said["verdict"], said["notes"]) == (0, "rollback", [])
    assert said["sha256"] == record.verdict
    assert json.loads(verdict.read_text())["flags"] == {GUILTY: "rollback", INNOCENT: "hold"}

    # A promotion that was decided before, and one that is tried again: both are refused.
    raised = {INNOCENT: before.flags[INNOCENT]}
    with pytest.raises(ConflictError):
        in_flight.write(before, raised, record)
    code, said = phase5(
        *("promote", "--verdict", str(first), "--flag", GUILTY, "--config", str(story.other))
    )
    assert (code, said["promoted"]) == (1, {})
    code, said = phase5(
        *("promote", "--verdict", str(verdict), "--flag", INNOCENT, "--config", str(story.other))
    )
    assert (code, said["promoted"]) == (1, {})


def test_without_its_guard_an_engine_brakes_itself(story: Story) -> None:
    assert all(status(url)["lease"]["expires_at"] for url in story.urls)
    story.guard.kill()
    story.wait_for(INNOCENT, 0.0)
    for url in story.urls:
        flag = status(url)["flags"][INNOCENT]
        assert (flag["braked"], flag["cause"]) == (True, "dead_man")
    assert story.read().flags[INNOCENT].stage == ("early" if FULL else "canary")

    # The next guard finds what the engines did, and writes it down.
    with guard(story.config, story.folder / "guard.log"):
        until(lambda: story.read().flags[INNOCENT].stage == "off")
    assert open_store(story.config).history().records[-1].cause == "dead_man"
    assert story.read().flags[INNOCENT].tombstones == ()


def test_nobody_else_noticed(story: Story) -> None:
    story.load.over.set()
    until(lambda: len(story.load.samples) > 0)
    ends = Counter(sample.outcome for sample in story.load.samples)
    failed = [s for s in story.load.samples if s.outcome is not Outcome.OK]
    assert not story.load.faults
    assert ends[Outcome.OK] > 0
    assert {s.outcome for s in failed} <= {Outcome.FAILED}
    assert all(GUILTY in (s.flags or "") for s in failed), failed[:3]
    assert failed
    assert "Traceback" not in (story.folder / "guard.log").read_text()
