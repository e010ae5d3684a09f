"""How long an engine takes to roll back under streams, durably: a table of milliseconds.

    ./dev run python tests/performance/bench_rollback.py [--streams 75] [--rounds 20]

From the request to the answer of `POST /admin/rollback` for all four flags, each at 100 %. The
streams come from a process of their own, each followed by another, and none may be lost; behind
an answer one more request is made, which must be control. Between the rounds a delivery lifts.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import aiohttp
import httpx
from rich.console import Console
from rich.table import Table
from starting import started

from engine.core.flags import FLAGS

ALL_IN = {"enabled": True, "rollout_percentage": 100, "holdback_percentage": 0}
ASKED = {"model": "tiny", "ignore_eos": True, "temperature": 0.9}
#: Long enough that nearly all streams outlive a rollback.
TOKENS = 200
#: Seconds between rounds, for streams of both arms to be under way.
PAUSE = 0.5


def yaml(streams: int) -> str:
    """Everything on, and a place for each stream and for the one that checks."""
    document = {
        "generation": 1,
        "phase4_rollout": dict.fromkeys(FLAGS, ALL_IN),
        "admission": {"limit": streams + 1},
        "governor": {"min_limit": streams + 1, "max_limit": streams + 1},
        "runtime": {"max_rows": streams + 1},
    }
    return json.dumps(document)


async def load(url: str, streams: int) -> dict[str, int]:
    """Keep so many streams under way until standard input ends; how they ended."""
    over, counts = asyncio.Event(), {"whole": 0, "lost": 0}

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        while not over.is_set():
            body = {**ASKED, "prompt": f"Story {number}", "max_tokens": TOKENS, "stream": True}
            async with session.post(f"{url}/v1/completions", json=body) as answer:
                text = (await answer.read()).decode()
            counts["whole" if text.endswith("data: [DONE]\n\n") else "lost"] += 1

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(client(session, number))
        await asyncio.to_thread(sys.stdin.read)
        over.set()
    return counts


def under_way(http: httpx.Client, streams: int) -> bool:
    """Whether all streams are there."""
    return int(http.get("/v1/status").json()["streams_in_flight"]) >= streams


def roll_back(http: httpx.Client, generation: int) -> float:
    """One round: seconds to the answer. Lifts again behind it."""
    began = time.perf_counter()
    answer = http.post("/admin/rollback").raise_for_status().json()
    seconds = time.perf_counter() - began
    new = http.post("/v1/completions", json={**ASKED, "prompt": "New", "max_tokens": 1})
    if new.headers["x-phase5-flags"] != "off":
        sys.exit(f"a new stream was {new.headers['x-phase5-flags']} behind the answer")
    lifted: dict[str, Any] = {name: {"lifted": [id_]} for name, id_ in answer["brakes"].items()}
    body = {"generation": generation, "flags": lifted}
    if not http.post("/admin/rollout", json=body).raise_for_status().json()["taken"]:
        sys.exit("the engine did not take the state that lifts")
    return seconds


def measure(streams: int, rounds: int) -> tuple[list[float], dict[str, int]]:
    """Seconds of each round, and how the streams ended."""
    with started(yaml(streams)) as engine:
        url = engine.urls[0]
        command = [sys.executable, __file__, "--streams", str(streams), "--load", url]
        with (
            httpx.Client(base_url=url, timeout=60) as http,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as load_process,
        ):
            times = []
            for number in range(rounds):
                while not under_way(http, streams - streams // 10):
                    time.sleep(0.05)
                time.sleep(PAUSE)
                times.append(roll_back(http, number + 2))
            out, _ = load_process.communicate("")
        return times, json.loads(out)


def main() -> None:
    """Measure and print, or be the load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=75)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        sys.stdout.write(json.dumps(asyncio.run(load(options.load, options.streams))))
        return
    times, ended = measure(options.streams, options.rounds)
    table = Table("streams", "rounds", "median", "slowest", "streams whole", "streams lost")
    figures = (f"{1000 * statistics.median(times):.0f} ms", f"{1000 * max(times):.0f} ms")
    counts = (str(ended["whole"]), str(ended["lost"]))
    table.add_row(str(options.streams), str(len(times)), *figures, *counts)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
