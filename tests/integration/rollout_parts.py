"""The parts of a rollout as processes: engines, a Git store, the guard, and load."""

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from served import PATIENCE, until

from gates.attempts import Attempt, Kind, append_attempt
from gates.cli import judge_folder
from gates.evidence import Check, EngineIdentity, Measurement, write_measurement
from gates.samples import Sample
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.workload import Workload

ROOT = Path(__file__).parents[2]
PHASE5 = (sys.executable, "-P", "-m", "pytest_phase5.cli")
BRANCH = "rollout"
SHORT = Workload(name="short", words=(3, 10), tokens=(4, 8))


@dataclass
class Running:
    """A process with the first line that it said."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def kill(self) -> None:
        """As a machine that is switched off."""
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def started(command: list[str], log: Path, **options: Any) -> Iterator[Running]:
    """A process whose first line ends with its URL; told to stop at the end of the block."""
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, **options
        )
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], PATIENCE)[0], f"{command} said nothing"
        line = process.stdout.readline()
        assert line, f"{command} ended: {log.read_text()[-2000:]}"
        yield Running(process, line.split()[-1].strip(), log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


@contextmanager
def flawed(folder: Path, flag: str, broken: Path, config: str) -> Iterator[Running]:
    """An engine on `tiny` whose flag fails while a file is there."""
    folder.mkdir()
    (folder / "runtime.yaml").write_text(config)
    script = str(ROOT / "tests" / "engines" / "flawed.py")
    command = [sys.executable, "-P", script, "--flag", flag, "--while", str(broken)]
    serve = ["--model", "tiny", "--port", "0", "--config", str(folder / "runtime.yaml")]
    with started([*command, *serve], folder / "log") as engine:
        yield engine


def git(*arguments: str, folder: Path) -> str:
    """Run Git in a folder, as somebody."""
    names = {f"GIT_{who}_{what}": "story" for who in ("AUTHOR", "COMMITTER") for what in ("NAME",)}
    mail = {f"GIT_{who}_EMAIL": "story@example.org" for who in ("AUTHOR", "COMMITTER")}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **names, **mail},
    )
    return done.stdout


def bare_store(folder: Path, config: str) -> Path:
    """A bare repository with a configuration on its branch."""
    work = folder / "work"
    (work / "config").mkdir(parents=True)
    (work / "config" / "runtime.yaml").write_text(config)
    git("init", "--quiet", "--initial-branch", BRANCH, folder=work)
    git("add", ".", folder=work)
    git("commit", "--quiet", "--message", "Begin", folder=work)
    bare = folder / "store.git"
    git("clone", "--quiet", "--bare", str(work), str(bare), folder=folder)
    return bare


def clone(folder: Path, bare: Path, config: str, policy: str, rollout: dict[str, Any]) -> Path:
    """Somebody's own configuration, which names the store; the path of its runtime.yaml."""
    folder.mkdir()
    section = json.dumps({"store": f"git:{bare}#{BRANCH}", **rollout})
    (folder / "runtime.yaml").write_text(f"{config}rollout: {section}\n")
    (folder / "gates.yaml").write_text(policy)
    return folder / "runtime.yaml"


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what needs whole UTC minutes: to begin, to end, and to be closed."""
    until(condition, 2 * PATIENCE)


def phase5(*arguments: str) -> tuple[int, Any]:
    """A command with `--json`: its exit status, and what it said."""
    done = subprocess.run(
        [*PHASE5, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def status(url: str) -> dict[str, Any]:
    """What an engine says of itself."""
    document: dict[str, Any] = httpx.get(f"{url}/v1/status", timeout=PATIENCE).json()
    return document


def shares(url: str) -> dict[str, float]:
    """What it serves of each flag."""
    return {flag: each["effective"] for flag, each in status(url)["flags"].items()}


def verdict_from_tests(  # noqa: PLR0917 - short calls read better in a story
    folder: Path,
    config: Path,
    stage: str,
    flags: tuple[str, ...],
    criteria: list[str],
    url: str,
    ledgers: Sequence[Path] = (),
) -> Path:
    """A gate's folder about an engine that answers, judged at a stage's door by the command."""
    folder.mkdir()
    said = status(url)
    identity = EngineIdentity(
        flag_set="+".join(flags),
        model=said["model"]["name"],
        model_sha256=said["model"]["sha256"],
        engine_version=said["engine_version"],
        commit=said["commit"],
        config_sha256=said["config_sha256"],
    )
    item, run = "story::test_it_answers", "story"
    question = {"model": "tiny", "messages": [{"role": "user", "content": "Where is Paris?"}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=question, timeout=PATIENCE)
    measurement = Measurement(
        run=run,
        item=item,
        attempt=1,
        criteria=tuple(criteria),
        arms={"treatment": identity},
        machine=said["machine"],
        created=datetime.now(UTC).isoformat(),
        checks=(Check(name="answers", ok=answer.status_code == 200),),
    )
    write_measurement(folder / "evidence", measurement)
    rows = [
        Attempt(kind=Kind.SESSION, run=run, stage=stage, flags=flags, origin="store", workers=1),
        Attempt(kind=Kind.PLANNED, run=run, item=item, criteria=tuple(criteria)),
        *(
            Attempt(kind=Kind.PHASE, run=run, item=item, attempt=1, phase=p, outcome="passed")
            for p in ("setup", "call", "teardown")
        ),
        Attempt(kind=Kind.END, run=run, exit_status=0),
    ]
    for row in rows:
        append_attempt(folder / "attempts.jsonl", row)
    for ledger in ledgers:
        (folder / "ledger").mkdir(exist_ok=True)
        shutil.copy(ledger, folder / "ledger")
    judge_folder(folder, config=config)
    return folder / "verdict.json"


@dataclass
class Load:
    """Requests to every engine at a steady rate, until stopped; samples are kept."""

    urls: list[str]
    folder: Path
    rate: float
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def press(self, url: str, place: int) -> None:
        """One stretch after another, each a few seconds, so that it can end soon."""
        number = 0
        while not self.over.is_set():
            plan = open_loop(
                url,
                rate=self.rate,
                requests=round(self.rate * STRETCH),
                seed=1_000 * place + number,
                workload=SHORT,
                warmup=0,
                lag_limit=PATIENCE,  # nothing is timed here
            )
            result = run_plan(plan, self.folder / f"{place}-{number}")
            self.samples += result.samples
            if not result.valid:
                self.faults.append(result.invalid_reason)
            number += 1


#: Seconds of one stretch of load.
STRETCH = 10.0


@contextmanager
def load(urls: list[str], folder: Path, rate: float) -> Iterator[Load]:
    """Load for the length of a block."""
    pressing = Load(urls, folder, rate)
    threads = [
        threading.Thread(target=pressing.press, args=(url, place)) for place, url in enumerate(urls)
    ]
    for thread in threads:
        thread.start()
    try:
        yield pressing
    finally:
        pressing.over.set()
        for thread in threads:
            thread.join()


@contextmanager
def guard(config: Path, log: Path) -> Iterator[Running]:
    """`phase5 watch` with its minutes closed early: scrapes are a second apart."""
    command = [*PHASE5, "watch", "--config", str(config)]
    with started([*command, "--poll-seconds", "1", "--close-seconds", "3"], log) as running:
        yield running
