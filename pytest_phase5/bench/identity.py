"""Whether servers answer greedily as mlx-lm itself does: faster with another text is not faster."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx

from engine.runtime.child import worker_environment
from engine.runtime.models import ModelFiles
from engine.server.text import TextCodec
from pytest_phase5.bench.prompts import CHAT, OUTPUT, SHARED, Sizes, asked
from pytest_phase5.bench.servers import Server
from pytest_phase5.engines import EngineError

#: How many are asked at once: they meet in one batch.
_TOGETHER: Final = 4
_SEED: Final = 7
_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Identity:
    """How many answers of a server are those of mlx-lm's own generation, word for word."""

    arm: str
    same: int
    of: int

    @property
    def told(self) -> str:
        """For people."""
        return f"{self.arm}: {self.same} of {self.of} greedy answers as mlx-lm's own generation"


def identical(model: ModelFiles, servers: Mapping[str, Server], each: int) -> list[Identity]:
    """Ask every server the same prompts, half of them with a system prompt in common.

    Args:
        model: what they serve.
        servers: by their arms.
        each: prompts with it, and as many without.

    Raises:
        EngineError: a server refuses one.
    """
    codec = TextCodec(model.path)
    sizes = Sizes.of(lambda text: len(codec.encode(text)))
    prompts = [
        list(request.body["messages"])
        for workload in (CHAT, SHARED)
        for request in asked(workload, sizes, each, _SEED)
    ]
    wanted = _own(model, prompts)
    found = ((arm, _answers(server, prompts)) for arm, server in servers.items())
    return [Identity(arm, matches(wanted, answers), len(wanted)) for arm, answers in found]


def matches(wanted: Sequence[str], found: Sequence[str]) -> int:
    """How many are equal."""
    return sum(one == other for one, other in zip(wanted, found, strict=True))


def _own(model: ModelFiles, prompts: list[Any]) -> list[str]:
    asked_ = json.dumps({"prompts": prompts, "tokens": OUTPUT})
    answer = subprocess.run(  # noqa: S603 - our own module and a folder
        [sys.executable, "-P", "-m", "pytest_phase5.bench.greedy", str(model.path)],
        input=asked_,
        env={**worker_environment(model), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_SECONDS,
    )
    return [str(text) for text in json.loads(answer.stdout)]


def _answers(server: Server, prompts: Sequence[Any]) -> list[str]:
    with (
        httpx.Client(base_url=server.url, timeout=_SECONDS, trust_env=False) as client,
        ThreadPoolExecutor(_TOGETHER) as pool,
    ):
        return list(pool.map(lambda messages: _answer(client, server.model, messages), prompts))


def _answer(client: httpx.Client, model: str, messages: Any) -> str:
    body = {"model": model, "messages": messages, "max_tokens": OUTPUT, "temperature": 0}
    response = client.post("/v1/chat/completions", json={**body, "ignore_eos": True})
    if response.is_error:
        raise EngineError(f"{client.base_url}: a prompt was answered with {response.status_code}")
    return str(response.json()["choices"][0]["message"]["content"])
