"""A Prometheus and a guard of our own around an engine that is to be broken.

Both run on a leash, so that nothing of them outlives us. The engine stands at a stage that it has
held for longer than the guard's grace: its lease is renewed on evidence, and on nothing else.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from chaos.errors import FaultError, InstallError
from chaos.faults.base import until
from chaos.serving import free_port, stop_leashed
from gates.exposition import parse
from gates.guarding.sight import GRACE
from gates.live_health import STALE_MINUTES

#: What the guard watches: at half of the traffic, where a lease that lapses brakes.
FLAG: Final = "qos_monitoring"
SHARE: Final = 50.0

#: Seconds: shorter than most cuts, so that an engine whose lease is not renewed brakes itself
#: within one; longer than the guard's slowest poll, two answers of ten seconds that never come.
_LEASE_SECONDS: Final = 30

#: Seconds that the engine gives itself until it hears of a guard: some baselines on a busy machine.
FIRST_LEASE_SECONDS: Final = 600

#: Minutes that are put into Prometheus's past: from before the flag entered its stage, and those
#: over which crashes are counted.
_PAST_MINUTES: Final = 30

#: Seconds for a guard to begin, read, and renew, and for the cut, until a minute closes.
_CLOSING_SECONDS: Final = 12
_LEAST_CLOSING: Final = 3  #: scrapes are a second apart; see `--close-seconds`

#: Seconds from filling Prometheus's past to its first scrape, on a busy machine.
_START_ROOM: Final = 8.0

#: Seconds for a baseline, a guard that begins, and its first renewal, before all is too old.
_BARELY_SECONDS: Final = 35.0

_START_SECONDS: Final = 60.0


def programs(tools: Path) -> tuple[str, str]:
    """`prometheus` and `promtool`: on the PATH, or unpacked in the tools folder.

    Raises:
        InstallError: one is not there.
    """
    unpacked = str(tools / "prometheus" / "usr" / "bin")
    found = []
    for name in ("prometheus", "promtool"):
        program = shutil.which(name) or shutil.which(name, path=unpacked)
        if program is None:
            raise InstallError(
                f"no {name}: not on the PATH or in {unpacked}; "
                "allowed: apt-get install prometheus, brew install prometheus"
            )
        found.append(program)
    return found[0], found[1]


def standing(lease_seconds: int | None = None) -> dict[str, Any]:
    """The state of a store, and of an engine, whose flag entered its stage long ago.

    Args:
        lease_seconds: of all stages; None leaves them as they are.
    """
    entered = datetime.now(UTC) - GRACE - timedelta(minutes=2)
    flag = {
        "enabled": True,
        "rollout_percentage": SHARE,
        "stage": "mid",
        "entered_at": entered.isoformat(),
        "epoch": 1,
    }
    state: dict[str, Any] = {"generation": 1, "phase4_rollout": {FLAG: flag}}
    if lease_seconds is not None:
        lease = dict.fromkeys(("canary", "early", "mid"), lease_seconds)
        state["rollout"] = {"lease_seconds": lease}
    return state


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program of ours runs."""

    leash: Sequence[str]  #: ends it with us; see `pytest_phase5.leash`
    tools: Path  #: where unpacked programs are
    folder: Path  #: its files


@contextmanager
def prometheus(place: Place, engine: str, target: str, *, barely: bool) -> Iterator[str]:
    """A server that scrapes an engine every second at `target`; its address.

    In its past the engine stands still: what it tells now, at the edge of each minute before. No
    minute has to go by until the guard has evidence.

    Args:
        place: where it runs.
        engine: base URL, asked once.
        target: HOST:PORT that is scraped.
        barely: its past ends so long ago that it is too old for a lease some time from now.
    """
    program, promtool = programs(place.tools)
    place.folder.mkdir(parents=True)
    data, config = place.folder / "data", place.folder / "prometheus.yml"
    past = place.folder / "past.om"
    told = httpx.get(f"{engine}/metrics", trust_env=False).text
    # Over an edge that lies between its past and its first scrape nobody would know anything.
    time.sleep(_until_room(time.time()))
    past.write_text(_past(told, target, _last_edge(time.time(), barely=barely)))
    subprocess.run(  # noqa: S603 - a list, no shell
        [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(past), str(data)],
        check=True,
        capture_output=True,
        env=dict(os.environ),
    )
    job = {"job_name": "engines", "static_configs": [{"targets": [target]}]}
    each = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config.write_text(json.dumps({"global": each, "scrape_configs": [job]}))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *(program, f"--config.file={config}", f"--storage.tsdb.path={data}"),
        *(f"--web.listen-address={address}", "--log.level=error"),
    ]
    with _leashed([*place.leash, *command], place.folder / "prometheus.log") as process:
        _await_scrape(f"http://{address}", process)
        yield f"http://{address}"


def _until_room(now: float) -> float:
    """Seconds to wait until Prometheus surely begins within a minute."""
    left = 60 - now % 60
    return left if left < _START_ROOM else 0.0


def _last_edge(now: float, *, barely: bool) -> int:
    """The last minute's edge, since 1970, at which the engine told something."""
    if not barely:
        return int(now) // 60
    # A minute counts for a lease until `STALE_MINUTES` whole ones have gone by behind it.
    too_old = int(now + _BARELY_SECONDS) // 60 + 1
    return too_old - 1 - STALE_MINUTES


def _past(text: str, target: str, last: int) -> str:
    """An exposition of now, as OpenMetrics of the minutes up to an edge."""
    lines = []
    for sample in sorted(parse(text, target), key=lambda each: each.name):
        labels = {**sample.labels, "instance": target, "job": "engines"}
        named = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        lines += [
            f"{sample.name}{{{named}}} {sample.value} {minute * 60 - 1}\n"
            for minute in range(last - _PAST_MINUTES, last + 1)
        ]
    return "".join([*lines, "# EOF\n"])


@dataclass(slots=True)
class Guard:
    """The real guard on a store of its own. See `chaos.stage.GuardProcess`."""

    leash: Sequence[str]
    folder: Path
    engine: str  #: base URL, as the guard has it
    source: str  #: base URL of its Prometheus, as the guard has it
    url: str = ""
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def log(self) -> str:
        """What it wrote."""
        path = self.folder / "guard.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def start(self) -> int:
        """Start it, the next minute closing soon; after how many seconds minutes close.

        A minute may be judged some time after its end. How long is an option of the guard's, and
        set here so that a minute falls due while the fault lasts, whenever a run begins.
        """
        self.folder.mkdir(parents=True)
        config = self.folder / "runtime.yaml"
        state = standing(_LEASE_SECONDS)
        state["rollout"] |= {"engines": [self.engine], "prometheus": self.source}
        config.write_text(json.dumps(state))
        closing = (int(time.time()) + _CLOSING_SECONDS) % 60
        closing += 60 if closing < _LEAST_CLOSING else 0
        command = [
            *(sys.executable, "-P", "-m", "pytest_phase5.cli", "watch", "--config", str(config)),
            *("--poll-seconds", "1", "--close-seconds", str(closing)),
        ]
        self._process = _start([*self.leash, *command], self.folder / "guard.log", pipe=True)
        self.url = self._ready(self._process)
        return closing

    def stop(self) -> None:
        """End it, if it was started."""
        process, self._process = self._process, None
        if process is not None:
            stop_leashed(process, "the guard")
            if process.stdout is not None:
                process.stdout.close()

    def _ready(self, process: "subprocess.Popen[bytes]") -> str:
        out = process.stdout
        if out is None or not select.select([out], [], [], _START_SECONDS)[0]:
            raise FaultError(f"the guard said nothing within {_START_SECONDS:g} s")
        line = out.readline().decode().split()
        if not line:
            raise FaultError(f"the guard ended: {self.log.strip().rpartition(chr(10))[2]}")
        return line[-1]


@contextmanager
def _leashed(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = _start(command, log, pipe=False)
    try:
        yield process
    finally:
        stop_leashed(process, "Prometheus")


def _start(command: Sequence[str], log: Path, *, pipe: bool) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - a list, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if pipe else output,
            stderr=output,
            env=dict(os.environ),
            start_new_session=True,  # a Ctrl-C is for us, who stop it in order
        )


def _scraped(url: str) -> bool:
    """Whether a Prometheus has seen its target."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": "up == 1"}, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success and bool(answer.json()["data"]["result"])


def _await_scrape(url: str, process: "subprocess.Popen[bytes]") -> None:
    def seen() -> bool:
        if process.poll() is not None:
            raise FaultError(f"Prometheus ended with status {process.returncode}")
        return _scraped(url)

    until(seen, _START_SECONDS, "Prometheus scraped the engine")
