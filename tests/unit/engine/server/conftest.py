"""A runtime without a model, a codec without a vocabulary, and an engine made of both."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.core.flags import FlagSet
from engine.runtime.interface import Replica, ReplicaState, StreamListener
from engine.runtime.messages import Prefill, Submit, Token, Warm
from engine.server.app import create_app
from engine.server.engine import Engine
from engine.server.keys import Keys
from engine.server.parts import Clocks
from engine.server.settings import Settings
from engine.server.state import EngineState, NoState
from engine.server.streams import GONE

EOS = 0


class FakeRuntime:
    """Answers every stream with the same characters, one token each; or waits to be told.

    With `held`, nothing comes until `tell` or `fault` is called.
    """

    def __init__(self, answer: str = "Paris it is.", *, held: bool = False) -> None:
        self.answer = answer
        self.held = held
        self.ready = True
        self.submitted: list[Submit] = []
        self.cancelled: list[int] = []
        self.live: dict[int, StreamListener] = {}
        self._at: dict[int, int] = {}
        self._wanted: dict[int, int | None] = {}
        self.paused: set[int] = set()
        self.evicted: list[int] = []
        self.warmed: dict[int, tuple[Warm, Callable[[int], None]]] = {}
        self.scaled: list[int] = []
        self.renewed = 0
        self.simplified: list[int] = []
        self.memory_bytes = 0

    @property
    def accepting(self) -> bool:
        return self.ready

    async def start(self) -> None:
        self.ready = True

    async def stop(self) -> None:
        self.ready = False

    def submit(self, request: Submit, listener: StreamListener) -> None:
        self.submitted.append(request)
        self.live[request.uid] = listener
        self._at[request.uid] = 0
        self._wanted[request.uid] = request.logprobs
        if not self.held:
            asyncio.get_running_loop().call_soon(self._next, request)

    def cancel(self, uid: int) -> None:
        if self.live.pop(uid, None):
            self.cancelled.append(uid)

    def pause(self, uid: int) -> None:
        self.paused.add(uid)

    def resume(self, uid: int) -> None:
        self.paused.discard(uid)

    def simplify(self, uid: int) -> None:
        self.simplified.append(uid)

    def warm(self, message: Warm, on_known: Callable[[int], None]) -> None:
        self.warmed[message.uid] = message, on_known

    def forget(self, uid: int) -> None:
        self.warmed.pop(uid, None)

    def evict(self, keep_bytes: int) -> None:
        self.evicted.append(keep_bytes)

    async def scale(self, replicas: int) -> None:
        self.scaled.append(replicas)

    async def renew(self) -> None:
        self.renewed += 1

    def replicas(self) -> list[Replica]:
        state = ReplicaState.READY if self.ready else ReplicaState.STARTING
        return [
            Replica(
                pid=None,
                state=state,
                streams=len(self.live),
                restarts=0,
                blas="fake",
                device="fake",
                kv_bytes=0,
                prefix_bytes=0,
                memory_bytes=self.memory_bytes,
            )
        ]

    def tell(self, uid: int, text: str, finish: str | None = None) -> None:
        """Give a stream the tokens of a text, the last one with the finish reason."""
        tokens = [ord(char) for char in text] or [EOS]
        for index, token in enumerate(tokens):
            last = finish if index == len(tokens) - 1 else None
            logprobs = self._logprobs(uid, token)
            self.live[uid].on_token(Token(uid, self._at[uid], token, last, *logprobs))
            self._at[uid] += 1
        if finish:
            del self.live[uid]

    def fault(self, uid: int, reason: str) -> None:
        self.live.pop(uid).on_fault(reason)

    def _logprobs(self, uid: int, token: int) -> tuple[float | None, dict[int, float] | None]:
        """The token is the best, and those behind it in the alphabet come next."""
        wanted = self._wanted[uid]
        if wanted is None:
            return None, None
        return -0.5, {token + place: -0.5 - place for place in range(wanted)}

    def _next(self, request: Submit) -> None:
        uid, at = request.uid, self._at[request.uid]
        if uid not in self.live:
            return
        if at == 0:
            total = len(request.prompt)
            self.live[uid].on_prefill(Prefill(uid, total, total, 0))
        if at == len(self.answer):
            self.tell(uid, "", "stop")
            return
        self.tell(uid, self.answer[at], "length" if at + 1 == request.max_tokens else None)
        asyncio.get_running_loop().call_soon(self._next, request)


class FakeDetokenizer:
    def push(self, token: int) -> str:
        return chr(token)

    def finish(self) -> str:
        return ""


class FakeCodec:
    """One token for each character."""

    context_length = 1000
    vocab_size = 256

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [ord(char) for message in messages for char in message["content"]]

    def encode_turns(self, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        lengths = [len(message["content"]) for message in messages[:-1]]
        return self.encode_chat(messages), list(accumulate(lengths))

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def detokenizer(self) -> FakeDetokenizer:
        return FakeDetokenizer()

    def token_bytes(self, token: int) -> bytes:
        return chr(token).encode()


@dataclass(frozen=True)
class FakeModel:
    name: str = "tiny"
    path: Path = Path()
    sha256: str = "5" * 64
    builtin: bool = True


@dataclass
class Bench:
    """An engine over a fake runtime, and a client of its application."""

    engine: Engine
    runtime: FakeRuntime
    app: Any = field(init=False)

    def __post_init__(self) -> None:
        self.app = create_app(self.engine, Keys.from_environment())

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, client=(address, 5))
        return httpx.AsyncClient(transport=transport, base_url="http://engine")

    def leave(self, which: int) -> None:
        """The client of a live or waiting stream goes away."""
        streams = list(self.engine.dispatcher.streams.values())
        if streams:
            streams[which % len(streams)].post(GONE)

    def post(self, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        """One request in an event loop of its own."""
        headers = body.pop("headers", {})
        content = body.pop("content", None)

        async def ask() -> httpx.Response:
            async with self.client() as client:
                if content is not None:
                    return await client.post(path, content=content, headers=headers)
                return await client.post(path, json=body, headers=headers)

        return asyncio.run(ask())

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with self.client() as client:
                return await client.get(path)

        return asyncio.run(ask())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return sum(
            sample.value
            for family in self.engine.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def get_samples(self, name: str) -> dict[str, float]:
        """A metric with one label, by that label's value."""
        return {
            next(iter(sample.labels.values())): sample.value
            for family in self.engine.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


MakeBench = Callable[..., Bench]


def build(
    path: Path,
    yaml: str,
    *,
    flags: FlagSet | None,
    runtime: FakeRuntime,
    clocks: Clocks | None = None,
    state: EngineState | None = None,
) -> Bench:
    path.write_text(yaml)
    engine = Engine(
        settings=Settings.read(path, flags),
        model=FakeModel(),
        runtime=runtime,
        codec=FakeCodec(),
        commit="c0ffee",
        state=state or NoState("here"),
        clocks=clocks,
    )
    return Bench(engine, runtime)


@pytest.fixture
def make_bench(tmp_path: Path) -> MakeBench:
    """Make an engine: `yaml` is its configuration, `flags` as `--flags`."""

    def make(
        yaml: str = "generation: 1\n",
        *,
        flags: FlagSet | None = frozenset(),
        runtime: FakeRuntime | None = None,
        clocks: Clocks | None = None,
        state: EngineState | None = None,
    ) -> Bench:
        path = tmp_path / "runtime.yaml"
        runtime = runtime or FakeRuntime()
        return build(path, yaml, flags=flags, runtime=runtime, clocks=clocks, state=state)

    return make


@pytest.fixture(scope="session")
def make_bench_anew(tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """As `make_bench`, for Hypothesis, whose examples share their fixtures."""
    folder = tmp_path_factory.mktemp("engine")

    def make(yaml: str, runtime: FakeRuntime) -> Bench:
        return build(folder / "runtime.yaml", yaml, flags=frozenset(), runtime=runtime)

    return make


@pytest.fixture(scope="session")
def build_bench() -> Callable[..., Bench]:
    """As `make_bench`, with a configuration file of one's own."""
    return build


@pytest.fixture(scope="session")
def fake_runtime() -> type[FakeRuntime]:
    return FakeRuntime
