"""How long a manual rollback takes while streams are live, and whether it loses one.

    ./dev run python tests/performance/bench_rollback_command.py [--runs 20] [--streams 75]

For each run the flag stands at mid, every client has a stream, and `phase5 rollback` is called as
a process. Its time is from the start of that process until the last engine had confirmed 0 %. Ends
with 1 when a rollback was not confirmed or a stream was lost.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from starting import Started, started

from engine.core.flags import FLAGS

FLAG = "ttft_pipeline"
#: The console script, as an operator calls it.
PHASE5 = Path(sys.executable).with_name("phase5")
#: The aim of the requirements, from the command to every engine at 0 %.
AIM_SECONDS = 2.0


@dataclass
class Bench:
    """The engines, the store that the command works on, and what was measured."""

    engines: list[Started]
    store: Path
    generation: int = 0
    brakes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [url for engine in self.engines for url in engine.urls]

    def raise_flag(self) -> None:
        """To mid in the store and in every engine, whatever was rolled back before."""
        self.generation += 10
        state = {
            "enabled": True,
            "rollout_percentage": 50,
            "stage": "mid",
            "epoch": self.generation,
            "lifted": self.brakes,
        }
        rollout = {"engines": self.urls}
        document = {"generation": self.generation, "rollout": rollout}
        self.store.write_text(json.dumps({**document, "phase4_rollout": {FLAG: state}}))
        body = {"generation": self.generation, "flags": {FLAG: state}}
        for url in self.urls:
            answer = httpx.post(f"{url}/admin/rollout", json=body, timeout=60).json()
            served = answer["flags"][FLAG]["effective"]
            if served == 0:
                sys.exit(f"{url} does not serve {FLAG}: {answer}")

    def roll_back(self) -> None:
        """Once, as an operator would."""
        began = time.perf_counter()
        command = [
            str(PHASE5),
            "rollback",
            "--config",
            str(self.store),
            "--json",
            "--reason",
            "bench",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.processes.append(time.perf_counter() - began)
        said = json.loads(done.stdout) if done.stdout else {"engines": {}, "confirmed": False}
        if done.returncode or not said["confirmed"] or said["store"]["error"]:
            self.unconfirmed.append(f"exit {done.returncode}: {said} {done.stderr}")
            return
        self.seconds.append(said["seconds"])
        self.brakes += [e["brakes"][FLAG] for e in said["engines"].values()]
        for url in self.urls:
            shares = httpx.get(f"{url}/v1/status", timeout=60).json()["flags"]
            if any(shares[name]["effective"] for name in FLAGS):
                self.unconfirmed.append(f"{url} confirmed and serves {shares}")


def ask(clients: "subprocess.Popen[str]") -> Any:
    """How the streams fare."""
    assert clients.stdin is not None
    assert clients.stdout is not None
    clients.stdin.write("\n")
    clients.stdin.flush()
    return json.loads(clients.stdout.readline())


def wait_for_streams(clients: "subprocess.Popen[str]", streams: int, bench: Bench) -> None:
    """Until every client has its stream, and an engine says so."""
    while ask(clients)["live"] < streams or not any(in_flight(url) for url in bench.urls):
        time.sleep(0.05)


def in_flight(url: str) -> int:
    count: int = httpx.get(f"{url}/v1/status", timeout=60).json()["streams_in_flight"]
    return count


def measure(options: argparse.Namespace) -> tuple[Bench, Any]:
    """All runs, and the account of the streams at the end."""
    limits = f"admission: {{limit: {options.streams}, deadline_seconds: 120}}\n"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines = [
            stack.enter_context(started(limits, model=options.model))
            for _ in range(options.engines)
        ]
        bench = Bench(engines, folder / "runtime.yaml")
        script = Path(__file__).with_name("endless_streams.py")
        clients = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(script), str(options.streams), *bench.urls],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        for _ in range(options.runs):
            bench.raise_flag()
            wait_for_streams(clients, options.streams, bench)
            bench.roll_back()
        assert clients.stdin is not None
        assert clients.stdout is not None
        clients.stdin.close()
        account = json.loads(clients.stdout.readline())
    return bench, account


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--streams", type=int, default=75)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    bench, account = measure(options)
    out = Console(width=120)
    out.print(
        f"{options.model}, {options.engines} engines, {options.streams} streams, "
        f"{len(bench.seconds)} of {options.runs} rollbacks confirmed"
    )
    if bench.seconds:
        ordered = sorted(bench.seconds)
        out.print(
            f"to the last engine at 0 %: {ordered[0]:.2f} s at best, "
            f"{statistics.median(ordered):.2f} s median, {ordered[-1]:.2f} s at worst "
            f"(aim {AIM_SECONDS:g} s); whole command {statistics.median(bench.processes):.2f} s"
        )
        out.print("all: " + " ".join(f"{seconds:.2f}" for seconds in ordered))
    out.print(
        f"streams: {account['ended']} whole, {account['treated']} with a flag on, "
        f"{len(account['lost'])} lost"
    )
    for problem in (*bench.unconfirmed, *account["lost"]):
        out.print(problem)
    sys.exit(1 if bench.unconfirmed or account["lost"] else 0)


if __name__ == "__main__":
    main()
