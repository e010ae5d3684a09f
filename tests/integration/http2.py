"""Streams over HTTP/2 to a running engine, by a client that keeps them through a GOAWAY."""

import asyncio
import re
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from probe import HOST, body
from pyreqwest.client import Client, ClientBuilder
from served import PATIENCE

from engine.runtime.certificate import self_signed

PATH = "/v1/completions"


def rollout(generation: int, percentage: float, flag: str = "http2_transport") -> str:
    """A configuration with one flag at a percentage, without hold-back."""
    share = f"enabled: true, rollout_percentage: {percentage}, holdback_percentage: 0"
    return f"generation: {generation}\nphase4_rollout:\n  {flag}: {{{share}}}\n"


def tool(name: str) -> str:
    """The path of a program of the system; `./dev test` installs it."""
    found = shutil.which(name, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin")
    found = found or shutil.which(name)
    assert found, f"{name} is missing: apt-get install haproxy nghttp2-client"
    return found


@asynccontextmanager
async def prior_knowledge() -> AsyncIterator[Client]:
    """A client of one connection."""
    async with ClientBuilder().http2_prior_knowledge().build() as client:
        yield client


class Call:
    """One streamed completion; `begun` once its first event came."""

    def __init__(self, client: Client, url: str, tokens: int, prompt: str = "Once") -> None:
        self.begun = asyncio.Event()
        self.headers: dict[str, str] = {}
        usage = {"include_usage": True}
        asked = body(prompt, tokens, stream_options=usage)
        self._ask = client.post(url + PATH).body_bytes(asked)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> str:
        parts: list[bytes] = []
        async with self._ask.streamed_read_buffer_limit(0).build_streamed() as response:
            assert response.status == 200, dict(response.headers)
            self.headers = dict(response.headers)
            while chunk := await response.body_reader.read_chunk():
                parts.append(bytes(chunk))
                self.begun.set()
        return b"".join(parts).decode()

    async def whole(self) -> bool:
        """Wait for its end; whether it came in good order."""
        text = await self.task
        return '"finish_reason":"length"' in text and text.endswith("data: [DONE]\n\n")

    def cached_tokens(self) -> int:
        """Of the prompt, what was not computed; told at the end."""
        found = re.search(r'"cached_tokens":(\d+)', self.task.result())
        assert found
        return int(found[1])


async def calls(client: Client, url: str, n: int, tokens: int) -> list[Call]:
    """So many streams under way at once."""
    made = [Call(client, url, tokens) for _ in range(n)]
    for call in made:
        await call.begun.wait()
    return made


async def all_whole(made: list[Call]) -> bool:
    return all([await call.whole() for call in made])


def run(story: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await story()

    return asyncio.run(bounded())


def announced_streams(url: str) -> int:
    """SETTINGS_MAX_CONCURRENT_STREAMS as the server's first frame has it."""
    max_concurrent_streams, settings = 3, 4
    with socket.create_connection((HOST, port(url)), PATIENCE) as sock:
        sock.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, settings, 0, 0, 0, 0, 0))
        )
        with sock.makefile("rb") as reader:
            head = reader.read(9)
            assert head[3] == settings
            payload = reader.read(int.from_bytes(head[:3]))
    return dict(struct.iter_unpack("!HI", payload))[max_concurrent_streams]


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate and its key, as files."""
    files = folder / f"{name}.pem", folder / f"{name}.key"
    for file, content in zip(files, self_signed(name, HOST), strict=True):
        file.write_bytes(content)
    return files
