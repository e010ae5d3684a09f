"""Clients of an engine whose runtime dies notice a pause, and nothing else."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from answers import Answer, ask
from served import PATIENCE, Served, serving

STREAMS = 20
LATECOMERS = 4


async def scene(served: Served, number: signal.Signals | None) -> list[Answer]:
    """All streams; with a signal, it comes at token five, and four more clients behind it."""
    answers = [Answer() for _ in range(STREAMS + LATECOMERS)]
    limit = aiohttp.ClientTimeout(total=PATIENCE)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(served.url, timeout=limit, connector=connector) as client,
        asyncio.TaskGroup() as group,
    ):
        for index, answer in enumerate(answers[:STREAMS]):
            group.create_task(ask(client, index, answer))
        if number is not None:
            for answer in answers[:STREAMS]:
                await answer.begun.wait()
            assert not all(answer.done for answer in answers[:STREAMS])
            runtime, *others = served.children()
            os.kill(runtime.pid, number)
            down = number is signal.SIGKILL and not others
            while down and (await client.get("/readyz")).status == 200:
                pass
        for index, answer in enumerate(answers[STREAMS:], STREAMS):
            group.create_task(ask(client, index, answer))
    return answers


TWO_OVER_TLS = """
runtime:
  replicas: 2
  backend: tls
"""


@pytest.mark.parametrize(
    ("number", "config"),
    [(signal.SIGKILL, ""), (signal.SIGSEGV, ""), (signal.SIGKILL, TWO_OVER_TLS)],
    ids=["SIGKILL", "SIGSEGV", "SIGKILL, one of two over TLS"],
)
def test_every_answer_is_whole_and_as_if_nothing_had_happened(
    tmp_path: Path, number: signal.Signals, config: str
) -> None:
    with serving(tmp_path, config=config) as served:
        undisturbed = asyncio.run(scene(served, None))
        disturbed = asyncio.run(scene(served, number))
        for calm, answer in zip(undisturbed, disturbed, strict=True):
            assert (answer.status, answer.finish, answer.done) == (200, "length", True)
            assert answer.text == calm.text, disturbed.index(answer)
    log = (tmp_path / "stderr").read_text()
    assert "faulted alone" not in log
