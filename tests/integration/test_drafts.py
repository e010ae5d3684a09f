"""Speculation in a real engine: it acts, and answers are those of an engine without it.

The model drafts for itself here, so that nearly every draft is right and most steps bring
several tokens.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served import PATIENCE, Served, ask_all, both_arms

from engine.runtime import blas
from engine.runtime.models import resolve_model

DRAFTING = "runtime: {speculation: {draft_model: tiny}}\n"

#: Greedy, sampled, penalised; with stops, limits, log-probabilities, several choices.
BODIES: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.8, "frequency_penalty": 0.7, "presence_penalty": 0.3},
    {"temperature": 0.9, "min_tokens": 20, "ignore_eos": False},
    {"temperature": 0.7, "logprobs": 2},
    {"temperature": 1.0, "n": 2, "stop": ["e", "zz"]},
    {"temperature": 1.0, "stop": ["ab"], "max_tokens": 37},
]


def body(number: int, **more: Any) -> dict[str, Any]:
    asked = {"model": "tiny", "prompt": f"Story {number}: once", "max_tokens": 60, "seed": number}
    return {**asked, "ignore_eos": True, **BODIES[number % len(BODIES)], **more}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    with both_arms(tmp_path_factory, DRAFTING) as both:
        yield both


async def ask_each(served: Served, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return await ask_all(served.url, "/v1/completions", bodies)


def said(answer: dict[str, Any]) -> list[Any]:
    """What a client can tell apart, log-probabilities to three places."""
    return [
        (
            choice["text"],
            choice["finish_reason"],
            [round(value, 3) for value in (choice["logprobs"] or {}).get("token_logprobs", ())],
        )
        for choice in answer["choices"]
    ]


def counted(served: Served, name: str) -> float:
    lines = httpx.get(f"{served.url}/metrics", timeout=PATIENCE).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_answers_are_the_same_and_drafts_were_made(engines: dict[str, Served]) -> None:
    bodies = [body(number) for number in range(4)], [body(number) for number in range(4, 8)]
    for few in bodies:
        off, on = (asyncio.run(ask_each(served, few)) for served in engines.values())
        assert [said(answer) for answer in off] == [said(answer) for answer in on]
        assert [answer["usage"]["completion_tokens"] for answer in off] == [
            answer["usage"]["completion_tokens"] for answer in on
        ]
    drafted = {
        flags: counted(served, "phase5_runtime_drafted_tokens_total")
        for flags, served in engines.items()
    }
    assert drafted["off"] == 0
    assert drafted["ttft_pipeline"] > 0
    accepted = counted(engines["ttft_pipeline"], "phase5_runtime_accepted_tokens_total")
    assert accepted > 0.5 * drafted["ttft_pipeline"]


async def stream(client: httpx.AsyncClient, asked: dict[str, Any], begun: asyncio.Event) -> str:
    """One streamed answer; says when half of it is there."""
    text, pieces = "", 0
    async with client.stream("POST", "/v1/completions", json=asked) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["text"]
                pieces += 1
            if pieces >= asked["max_tokens"] // 2:
                begun.set()
    return text


async def killed_midway(served: Served, bodies: list[dict[str, Any]]) -> list[str]:
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
        begun = asyncio.Event()
        tasks = [asyncio.create_task(stream(client, one, begun)) for one in bodies]
        await begun.wait()
        os.kill(served.children()[0].pid, signal.SIGKILL)
        return await asyncio.gather(*tasks)


def test_a_stream_whose_process_is_killed_between_drafts_goes_on_exactly(
    engines: dict[str, Served],
) -> None:
    bodies = [body(number, max_tokens=120, stream=True, **BODIES[number]) for number in range(3)]
    off, on = engines.values()
    texts = asyncio.run(killed_midway(on, bodies))
    calm = asyncio.run(ask_each(off, [{**one, "stream": False} for one in bodies]))
    assert texts == [answer["choices"][0]["text"] for answer in calm]
    assert counted(on, "phase5_runtime_replays_total") >= 1


#: A clock that counts looks at it: drafts cost nothing, so they are made wherever they can be.
REAL_MODEL = """
import json, sys
from itertools import count
from pathlib import Path
from engine.core.speculation import Speculation
from engine.runtime.light import leave_out_transformers
leave_out_transformers()
from engine.runtime.adapter import Adapter
from engine.runtime.drafting import ModelDrafter
from engine.runtime.messages import Sampling, Submit
from engine.runtime.serving import load_weights
from engine.runtime.speculating import Speculator
from engine.server.text import TextCodec

model, _ = load_weights(Path(sys.argv[1]))
codec = TextCodec(Path(sys.argv[1]))
text = "In Oslo the museum of bridges has 42 rooms. In Quito the museum of bees has 17 rooms."
asked = [f"Repeat this text: {text}", "Write a short story about a lighthouse."]
prompts = [codec.encode_chat([{"role": "user", "content": one}]) for one in asked]

def run(speculator):
    adapter = Adapter(
        model, eos=codec.eos_ids, max_rows=4, prefill_chunk=64, prefill_rows=4,
        speculator=speculator,
    )
    for uid, prompt in enumerate(prompts):
        sampling = Sampling(temperature=0.8 * uid, frequency_penalty=0.2 * uid)
        adapter.submit(Submit(
            uid=uid, prompt=prompt, max_tokens=40, seed=uid, sampling=sampling, speculate=True,
        ))
    outputs, drafted, accepted = {0: [], 1: []}, 0, 0
    while adapter.busy:
        turn = adapter.step()
        drafted, accepted = drafted + turn.drafted, accepted + turn.accepted
        for token in turn.tokens:
            outputs[token.uid].append(token.token)
    return {"outputs": outputs, "drafted": drafted, "accepted": accepted}

clock = lambda: count().__next__
print(json.dumps({
    "plain": run(None),
    "lookup": run(Speculator(Speculation(8), None, clock())),
    "model": run(Speculator(Speculation(8), ModelDrafter(model), clock())),
}))
"""


def test_a_real_model_says_the_same_with_drafts_by_look_up_and_by_itself() -> None:
    folder = resolve_model("smollm2-135m").path
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", REAL_MODEL, str(folder)],
        env=blas.child_environment(size),
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["lookup"]["outputs"] == found["model"]["outputs"] == found["plain"]["outputs"]
    assert found["plain"]["drafted"] == 0
    assert found["lookup"]["accepted"] > 10
    assert found["model"]["accepted"] > 0.6 * found["model"]["drafted"] > 10  # look-ups may fail
