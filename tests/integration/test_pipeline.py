"""`ttft_pipeline` on a real engine: it acts, and it changes no answer.

Case D23 of the engine's prior art: a benchmark compared two arms that were the same program.
Counts of tokens show here that they are not.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served import PATIENCE, Served, ask_all, both_arms

SYSTEM = "You answer every question of the traveller in a few short words, " * 6
#: Two places, so that most streams wait and are warmed while they do.
CONFIG = "admission: {limit: 2, queue: 50}\n"


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    with both_arms(tmp_path_factory, CONFIG) as both:
        yield both


def chat(question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {"model": "tiny", "messages": messages, "max_tokens": 24, "ignore_eos": True, **more}


#: Greedy, sampled, penalised, with log-probabilities and stops, one and several choices.
REQUESTS = [
    chat(f"Question {n}: what is the way to {n}?", **more)
    for n, more in enumerate(
        4
        * [
            {},
            {"temperature": 1.0, "top_p": 0.9, "seed": 5},
            {"temperature": 0.8, "frequency_penalty": 0.5, "seed": 6, "min_tokens": 4},
            {"logprobs": True, "top_logprobs": 2},
            {"n": 2, "temperature": 1.0, "seed": 7, "stop": ["the "]},
        ]
    )
]


async def ask_each(url: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return await ask_all(url, "/v1/chat/completions", bodies)


def counted(served: Served, name: str, labels: str = "") -> float:
    lines = httpx.get(f"{served.url}/metrics", timeout=PATIENCE).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + labels))


def test_answers_are_the_same_and_fewer_tokens_are_read(engines: dict[str, Served]) -> None:
    answers = {
        flags: asyncio.run(ask_each(engine.url, REQUESTS)) for flags, engine in engines.items()
    }
    texts = {
        flags: [[choice["message"]["content"] for choice in one["choices"]] for one in given]
        for flags, given in answers.items()
    }
    assert texts["off"] == texts["ttft_pipeline"]
    assert len({text for texts in texts["off"] for text in texts}) > len(REQUESTS) // 2

    off, on = engines["off"], engines["ttft_pipeline"]
    computed = {
        arm: counted(
            engine, "phase5_prompt_tokens_total", f'{{source="computed",ttft_pipeline="{arm}"'
        )
        for arm, engine in (("off", off), ("on", on))
    }
    assert 0 < computed["on"] < 0.5 * computed["off"]
    assert counted(on, "ttft_pipeline_hits") > 0.8
    assert counted(off, "ttft_pipeline_hits") == 0
    assert counted(on, "phase5_warm_streams_total", '{found="hit"}') >= len(REQUESTS) / 2
    assert counted(off, "phase5_warm_streams_total") == 0
    assert counted(off, "phase5_runtime_read_ahead_tokens_total") == 0
    assert counted(on, "phase5_pinned_bytes") == 0  # nobody waits any more


def test_the_stages_of_a_wait_add_up_to_its_time_to_first_token(
    engines: dict[str, Served],
) -> None:
    body = chat("And now?", stream=True)
    url = engines["ttft_pipeline"].url
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
    spans = {
        name: float(value)
        for name, _, value in (
            part.partition(";dur=") for part in answer.headers["server-timing"].split(", ")
        )
    }
    total = spans.pop("first_token")
    assert sorted(spans) == ["decode", "lookup", "prefill", "queue", "tokenise"]
    assert sum(spans.values()) == pytest.approx(total, abs=0.3)  # each is rounded to 0.1 ms


def test_the_next_turn_of_a_conversation_reads_only_what_is_new(
    engines: dict[str, Served],
) -> None:
    first = chat("Where is Paris?")
    url = engines["ttft_pipeline"].url
    (answer,) = asyncio.run(ask_each(url, [first]))
    reply = answer["choices"][0]["message"]["content"]
    turns = [
        *first["messages"],
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "How far?"},
    ]
    (second,) = asyncio.run(ask_each(url, [{**first, "messages": turns}]))
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= answer["usage"]["prompt_tokens"] - 1
