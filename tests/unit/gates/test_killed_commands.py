"""`promote` and `rollback` killed at random moments: the store is whole, as before or as after."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from moving_world import FLAG, World, world

from gates.store import Snapshot, open_store

#: Kills of each command; together with those of the guard they are 200 in full.
KILLS = 100 if os.environ.get("PHASE5_FULL") else 10
#: Races of a promotion and a rollback.
RACES = 50 if os.environ.get("PHASE5_FULL") else 5
#: Longer than any command lives.
FOREVER = 120.0
CANARY = "{ttft_pipeline: {enabled: true, rollout_percentage: 1, stage: canary, epoch: 4}}"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "config") as w:
        yield w


@dataclass
class Killer:
    """Runs commands in children, and kills them."""

    process: "subprocess.Popen[str]"

    def run(self, arguments: list[str], seconds: float = FOREVER) -> tuple[float, int]:
        """How long it lived, and its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, "seconds": seconds}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], answer["status"]


@contextmanager
def killing() -> Iterator[Killer]:
    script = Path(__file__).with_name("killing.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Killer(process)
        process.kill()


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    with killing() as found:
        yield found


def stands(snapshot: Snapshot) -> tuple[str, float, int, int]:
    """What must be as before or as after."""
    flag = snapshot.flags[FLAG]
    return flag.stage, flag.percentage, flag.epoch, snapshot.generation


def kill_again_and_again(killer: Killer, here: World, arguments: list[str], copy: Path) -> None:
    """Kill a command at random moments of its life, each time from the same beginning."""
    shutil.copytree(here.config.parent, copy)
    store = open_store(here.config)
    before = stands(store.read())
    lived, status = killer.run(arguments)
    after = stands(store.read())
    assert (status, before == after) == (0, False)
    moments = random.Random(lived)  # noqa: S311 - not for secrets
    killed = 0
    for _ in range(KILLS):
        shutil.rmtree(here.config.parent)
        shutil.copytree(copy, here.config.parent)
        here.engine.generation, here.engine.brakes = 3, {}
        killed += killer.run(arguments, moments.uniform(0, lived))[1] == -signal.SIGKILL
        assert stands(store.read()) in {before, after}
        assert store.history().problems == ()
    assert killed
    if stands(store.read()) == before:  # nothing that the dead left behind is in the way
        assert killer.run(arguments)[1] == 0
    assert stands(store.read()) == after


def test_a_promotion_that_is_killed_is_made_or_not(
    killer: Killer, here: World, tmp_path: Path
) -> None:
    verdict = here.verdict(here.config.parent / "report")
    arguments = here.arguments("promote", "--flag", FLAG, "--verdict", str(verdict))
    kill_again_and_again(killer, here, arguments, tmp_path / "copy")


def test_a_rollback_that_is_killed_is_made_or_not(
    killer: Killer, here: World, tmp_path: Path
) -> None:
    here.write(CANARY)
    kill_again_and_again(killer, here, here.arguments("rollback"), tmp_path / "copy")


def test_a_promotion_that_races_a_rollback_wins_only_when_it_began_after_it(
    killer: Killer, here: World, tmp_path: Path
) -> None:
    verdict = here.verdict(here.config.parent / "report")
    promote = here.arguments("promote", "--flag", FLAG, "--verdict", str(verdict))
    shutil.copytree(here.config.parent, tmp_path / "copy")
    store = open_store(here.config)
    moments = random.Random(11)  # noqa: S311 - not for secrets
    with killing() as other, ThreadPoolExecutor() as pool:
        for _ in range(RACES):
            shutil.rmtree(here.config.parent)
            shutil.copytree(tmp_path / "copy", here.config.parent)
            here.engine.generation, here.engine.brakes, here.engine.shares = 3, {}, {}
            promoting = pool.submit(killer.run, promote)
            time.sleep(moments.uniform(0, 0.4))  # the race itself, not a wait for anything
            assert other.run(here.arguments("rollback"))[1] == 0
            status = promoting.result()[1]
            last = store.history().records[-1]
            assert store.read().flags[FLAG].stage == (
                "off" if last.event == "rollback" else "canary"
            )
            assert here.engine.flag(FLAG)["effective"] == (0 if last.event == "rollback" else 1)
            assert status in {0, 1}
            assert (last.event == "promote") <= (status == 0)
