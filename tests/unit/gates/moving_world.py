"""A small world to move flags in: a store in a file, engines that answer, and a true verdict."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fake_engine import FakeEngine, running
from gate_builders import attempts, healthy

from engine.config import load_config
from gates.attempts import append_attempt
from gates.cli import judge_folder
from gates.evidence import Measurement, write_measurement
from gates.store import Snapshot, open_store

FLAG = "ttft_pipeline"
#: The console script, as an operator calls it.
PHASE5 = Path(sys.executable).with_name("phase5")
COMMENTED = "# the operator's words\n"


@dataclass
class World:
    """A configuration that is its own store, and the engines that it names."""

    config: Path
    engines: list[FakeEngine] = field(default_factory=list)

    @property
    def engine(self) -> FakeEngine:
        return self.engines[0]

    @property
    def urls(self) -> list[str]:
        return [engine.url for engine in self.engines]

    def write(self, flags: str = "{}", **rollout: Any) -> None:
        """The configuration: these flags, and the engines of the world."""
        rollout = {"engines": self.urls, **rollout}
        self.config.write_text(
            f"{COMMENTED}phase4_rollout: {flags}\ngeneration: 3\nrollout: {json.dumps(rollout)}\n",
            encoding="utf-8",
        )
        digest = load_config(self.config).digest()
        for engine in self.engines:
            engine.config_sha256 = digest
            engine.generation = 3

    def read(self) -> Snapshot:
        return open_store(self.config).read()

    def verdict(self, folder: Path, **head: str) -> Path:
        """A folder judged just now, of what the engines serve; every flag into canary."""
        folder.mkdir(exist_ok=True)
        for row in attempts(healthy(), **head):
            append_attempt(folder / "attempts.jsonl", row)
        for measured in healthy():
            write_measurement(folder / "evidence", self._of_engines(measured))
        judge_folder(folder, config=self.config)
        return folder / "verdict.json"

    def _of_engines(self, measured: Measurement) -> Measurement:
        digest = load_config(self.config).digest()
        arms = {arm: replace(engine, config_sha256=digest) for arm, engine in measured.arms.items()}
        return replace(measured, created=datetime.now(UTC).isoformat(), arms=arms)

    def arguments(self, name: str, *more: str) -> list[str]:
        """What follows `phase5` for a command on this configuration."""
        return [name, "--config", str(self.config), "--json", *more]

    def run(self, *arguments: str) -> tuple[int, Any]:
        """The exit status of a command as a process, and its one object."""
        command = [str(PHASE5), *self.arguments(*arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, json.loads(done.stdout)


@contextmanager
def world(folder: Path, engines: Sequence[FakeEngine] = ()) -> Iterator[World]:
    """Its engines run until the end of the block; one by default."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        chosen = engines or (FakeEngine(),)
        found = World(folder / "runtime.yaml", [stack.enter_context(running(e)) for e in chosen])
        found.write()
        yield found
