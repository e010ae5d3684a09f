"""Requests that are given up at every moment of their life leave nothing behind."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from itertools import combinations, pairwise
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Protocol

import httpx
import pytest
from probe import HOST, Holdings, Probe, body, eventually, full, head, probing, total
from pyreqwest.client import Client, ClientBuilder
from served import PATIENCE

from engine.core.aggregates import WINDOW_SECONDS

pytestmark = pytest.mark.alone

#: Fewer slots than requests at once, so that some are always in the queue.
YAML = "admission: {limit: 12, queue: 400, deadline_seconds: 100}\n"
AT_ONCE = 30
REQUESTS = 1_000 if full() else 200  #: half of them over each protocol
ROUNDS = 20
#: The engine remembers who ended within its windows, about 1 KB each. Unscaled that is more
#: than noise, so the windows have to be full before memory is looked at.
WARM_SECONDS = WINDOW_SECONDS if full() else 0.0
TOKENS = 24
#: Some are read in one chunk, some take a score of them: a prefill that can be cut short.
PROMPTS = ("Once", "Twice upon a time", "abc " * 100, "word " * 300, "x y z " * 200)
PHASES = ("body", "queue", "prefill", "decode")
SEED = 3
KINDS = ("completed", "error", "cancelled")
OUTCOMES = ("ok", "failed", "cut", "shed", "rejected", "cancelled")


@dataclass(frozen=True)
class Plan:
    """One request; `leaves` is the phase in which its client gives it up."""

    prompt: str
    leaves: str | None
    tokens: int  #: seen before it leaves while decoding
    pause: float  #: seconds before it leaves in another phase

    @property
    def content(self) -> bytes:
        return body(self.prompt, TOKENS)


class Wire(Protocol):
    """A protocol: sends one request and gives its events."""

    def events(self, plan: Plan) -> AsyncGenerator[str, None]:
        """The lines of data; leaving the loop closes the stream."""

    async def half(self, plan: Plan) -> None:
        """Send half of the body and leave."""

    async def aclose(self) -> None:
        """Close what is kept open."""


class Http1:
    """A connection for each request, closed with it."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])

    async def events(self, plan: Plan) -> AsyncGenerator[str, None]:
        async with self._connection() as (reader, writer):
            writer.write(head(plan.content) + plan.content)
            if plan.leaves == "queue":
                await writer.drain()
                yield ""  # it leaves before it has heard anything
            assert b" 200 " in await reader.readline()
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    yield line.decode().removeprefix("data: ").strip()
                if line == b"0\r\n":
                    return
            raise AssertionError("the answer broke off")

    async def half(self, plan: Plan) -> None:
        async with self._connection() as (_, writer):
            writer.write(head(plan.content) + plan.content[: len(plan.content) // 2])
            await writer.drain()
            await asyncio.sleep(plan.pause)

    async def aclose(self) -> None:
        pass

    @asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            yield reader, writer
        finally:
            writer.close()


class Http2:
    """Streams of few connections."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/completions"
        self._client: Client = ClientBuilder().http2_prior_knowledge().build()

    async def events(self, plan: Plan) -> AsyncGenerator[str, None]:
        request = self._client.post(self._url).body_bytes(plan.content)
        streamed = request.streamed_read_buffer_limit(0).build_streamed()
        if plan.leaves == "queue":
            sending = asyncio.create_task(streamed.__aenter__())
            await asyncio.sleep(plan.pause)
            sending.cancel()
            yield ""
        async with streamed as response:
            rest = b""
            while chunk := await response.body_reader.read_chunk():
                *lines, rest = (rest + bytes(chunk)).split(b"\n\n")
                for line in lines:
                    yield line.decode().removeprefix("data: ")

    async def half(self, plan: Plan) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield plan.content[: len(plan.content) // 2]
            await asyncio.sleep(PATIENCE)

        # A client that is cancelled may end its body in good order: only against a length that
        # it announced does half a body differ from a bad one.
        request = self._client.post(self._url).header("content-length", str(len(plan.content)))
        streamed = request.body_stream(parts()).build_streamed()
        sending = asyncio.create_task(streamed.__aenter__())
        await asyncio.sleep(plan.pause)
        sending.cancel()
        await asyncio.wait({sending})

    async def aclose(self) -> None:
        await self._client.close()


@dataclass
class Storm:
    """Carries out plans, a number at once, and keeps what each uncancelled one got."""

    wire: Wire
    texts: list[tuple[str, str]] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    async def rage(self, plans: Sequence[Plan]) -> None:
        async with asyncio.TaskGroup() as group:
            gate = asyncio.Semaphore(AT_ONCE)
            for plan in plans:
                await gate.acquire()
                group.create_task(self._one(plan)).add_done_callback(lambda _: gate.release())

    async def _one(self, plan: Plan) -> None:
        if plan.leaves == "body":
            await self.wire.half(plan)
            self.left["body"] += 1
            return
        async with asyncio.timeout(PATIENCE):
            await self._read(plan)

    async def _read(self, plan: Plan) -> None:
        events = self.wire.events(plan)
        text, seen = "", 0
        try:
            if plan.leaves == "prefill":
                async with asyncio.timeout(plan.pause):
                    await anext(events)
            async for event in events:
                if plan.leaves == "queue" or (plan.leaves and seen >= plan.tokens):
                    break
                if event == "[DONE]":
                    self.texts.append((plan.prompt, text))
                    return
                text += json.loads(event)["choices"][0]["text"]
                seen += 1
        except TimeoutError:
            pass
        finally:
            await events.aclose()
        assert plan.leaves
        self.left[plan.leaves] += 1


def plans(count: int) -> list[Plan]:
    """Half of them leave, evenly over the phases; the moments are drawn."""
    chance = random.Random(SEED)  # noqa: S311 - the same storm every time
    leaving = [None, PHASES[0], None, PHASES[1], None, PHASES[2], None, PHASES[3]]
    made = [
        Plan(
            prompt=chance.choice(PROMPTS),
            leaves=leaving[number % len(leaving)],
            tokens=chance.randrange(1, TOKENS - 4),
            pause=chance.uniform(0.0, 0.03),
        )
        for number in range(count)
    ]
    chance.shuffle(made)
    return made


def references(probe: Probe) -> dict[str, str]:
    """What each prompt's answer is when nobody disturbs it."""
    answers = {}
    for prompt in PROMPTS:
        content = body(prompt, TOKENS, stream=False)
        answer = httpx.post(f"{probe.url}/v1/completions", content=content, timeout=PATIENCE)
        answers[prompt] = answer.json()["choices"][0]["text"]
    return answers


def resident(probe: Probe) -> list[int]:
    """Bytes of the front end and of the runtime."""
    return [process.memory_info().rss for process in (probe.front, probe.runtime)]


def slopes(values: Sequence[float]) -> list[float]:
    """The slope between each two of them, a step apart from the next, in order of size."""
    numbered = list(enumerate(values))
    return sorted((b - a) / (j - i) for (i, a), (j, b) in combinations(numbered, 2))


def surely_grows(values: Sequence[float]) -> float:
    """The lower end of the 99 % interval of the Theil-Sen slope (Sen 1968)."""
    n, steps = len(values), slopes(values)
    spread = NormalDist().inv_cdf(0.995) * sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return steps[max(0, int((len(steps) - spread) / 2))]


#: Bytes that Python's allocator takes from the system at once, on 64 bits.
LUMP = 1 << 18


def leak(memory: Sequence[float]) -> float:
    """How far the growth of the second half surely exceeds noise; not above 0 without a leak.

    Noise is the largest change that a single round made in the first half: an allocator
    grows in lumps, a leak in every round.
    """
    half = len(memory) // 2
    noise = max(LUMP, *(abs(b - a) for a, b in pairwise(memory[:half])))
    return surely_grows(memory[half:]) * half - noise


@pytest.mark.parametrize(
    ("each", "fires"), [(0, False), (1_000, False), (20_000, True), (1_000_000, True)]
)
def test_a_leak_in_every_round_shows_above_the_noise(each: int, fires: bool) -> None:
    chance = random.Random(SEED)  # noqa: S311 - the same storm every time
    memory = [75e6 + each * step + chance.gauss(0, 20_000) for step in range(2 * ROUNDS)]
    assert (leak(memory) > 0) is fires


def test_a_storm_of_cancels_leaves_nothing_and_harms_no_other_request(tmp_path: Path) -> None:
    every = plans(REQUESTS)
    size = len(every) // ROUNDS
    memory = []
    with probing(tmp_path, YAML, flags="http2_transport") as probe:
        expected = references(probe)
        storms = [Storm(Http1(probe.url)), Storm(Http2(probe.served.h2_url))]

        async def rage(part: Sequence[Plan]) -> None:
            half = len(part) // 2
            await asyncio.gather(storms[0].rage(part[:half]), storms[1].rage(part[half:]))
            await asyncio.to_thread(eventually, probe.idle, "nothing is left of a round")

        async def rounds() -> tuple[Holdings, int]:
            """What is held before the storm, and the requests that warmed the engine up."""
            warm, end = 0, time.monotonic() + WARM_SECONDS
            while not warm or time.monotonic() < end:
                await rage(plans(2 * AT_ONCE))  # what is made once and kept is made here
                warm += 2 * AT_ONCE
            before = probe.holdings()
            for number in range(ROUNDS):
                await rage(every[number * size : (number + 1) * size])
                memory.append(resident(probe))
            return before, warm

        with asyncio.Runner() as runner:
            before, warm = runner.run(rounds())
            eventually(lambda: no_more(probe.holdings(), before), f"no more is held than {before}")
            for storm in storms:
                runner.run(storm.wire.aclose())
        now = probe.samples()

    asked = len(every) + warm
    for storm in storms:
        assert [prompt for prompt, got in storm.texts if got != expected[prompt]] == []
        assert set(storm.left) == set(PHASES)
    assert sum(len(storm.texts) for storm in storms) == asked // 2
    assert sum(storm.left.total() for storm in storms) == asked // 2

    ended = {kind: total(now, "phase5_streams_ended_total", kind=kind) for kind in KINDS}
    assert ended["error"] == 0
    assert total(now, "phase5_streams_admitted_total") == sum(ended.values())
    outcomes = {name: total(now, "phase5_requests_total", outcome=name) for name in OUTCOMES}
    finished = asked // 2 + len(PROMPTS)
    assert outcomes["ok"] >= finished  # one that leaves with the last token may count as served
    assert {name for name, count in outcomes.items() if count} == {"ok", "cancelled"}, outcomes
    for process in zip(*memory, strict=True):
        assert leak(process) <= 0, process


def no_more(now: Holdings, before: Holdings) -> bool:
    return all(a <= b for a, b in zip(astuple(now), astuple(before), strict=True))
