"""`phase5 serve` as a process that tests talk to."""

import asyncio
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from openai import OpenAI

SERVE = (sys.executable, "-P", "-m", "pytest_phase5.cli", "serve")
#: Far above what a start takes; a machine under load must not fail the tests.
PATIENCE = 120.0
QUESTION = [{"role": "user", "content": "Where is Paris?"}]


class Served:
    """A running engine."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.h2_url = ""

    def read_addresses(self, *, http2: bool) -> None:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the engine said nothing"
        self.url = self.process.stdout.readline().removeprefix("ready ").strip()
        if http2:
            self.h2_url = self.process.stdout.readline().removeprefix("ready-h2 ").strip()

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def status(self) -> dict[str, object]:
        document: dict[str, object] = httpx.get(f"{self.url}/v1/status", timeout=PATIENCE).json()
        return document


@contextmanager
def serving(
    folder: Path, flags: str | None = "off", *, config: str = "", options: Sequence[str] = ()
) -> Iterator[Served]:
    """An engine on `tiny`; `config` is its runtime.yaml. Its log is `stderr` in the folder.

    With `flags` None the configuration says what serves.
    """
    forced = () if flags is None else ("--flags", flags)
    (folder / "runtime.yaml").write_text(config or "generation: 0\n")
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [
                *(*SERVE, "--model", "tiny", "--port", "0", *forced),
                *("--config", str(folder / "runtime.yaml"), *options),
            ],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    served = Served(process)
    try:
        served.read_addresses(http2=flags == "all" or "http2_transport" in (flags or ""))
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def both_arms(folders: pytest.TempPathFactory, config: str) -> Iterator[dict[str, Served]]:
    """An engine without any flag and one with `ttft_pipeline`, configured alike."""
    with ExitStack() as stack:
        yield {
            flags: stack.enter_context(serving(folders.mktemp("engine"), flags, config=config))
            for flags in ("off", "ttft_pipeline")
        }


async def ask_all(url: str, route: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to requests that are all sent at once; each must be one."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        answers = await asyncio.gather(*(client.post(route, json=body) for body in bodies))
    for answer in answers:
        assert answer.status_code == 200, answer.text
    return [answer.json() for answer in answers]


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for what nothing announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
