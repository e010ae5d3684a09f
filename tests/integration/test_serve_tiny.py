"""`phase5 serve --model tiny` as its users meet it: a process, a port, the official client."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import PATIENCE, QUESTION, SERVE, Served, serving

from engine.runtime.models import resolve_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("engine"), "all") as served:
        yield served


def test_the_official_client_gets_the_same_text_whole_and_streamed(engine: Served) -> None:
    with engine.client() as client:
        whole = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=12)
        chunks = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        got = list(chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in got if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert whole.choices[0].finish_reason == "length"
    assert got[-1].usage is not None
    assert got[-1].usage.completion_tokens == 12


def test_a_seed_repeats_a_sampled_answer(engine: Served) -> None:
    with engine.client() as client:
        texts = [
            client.completions.create(
                model="tiny", prompt="Once", max_tokens=12, temperature=1, seed=seed
            )
            .choices[0]
            .text
            for seed in (7, 7, 8)
        ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stop_string_may_span_tokens(engine: Served) -> None:
    with engine.client() as client:
        ask = {"model": "tiny", "prompt": "Once", "max_tokens": 12}
        text = client.completions.create(**ask).choices[0].text
        stop = text[len(text) // 2 - 3 : len(text) // 2 + 3]
        choice = client.completions.create(**ask, stop=[stop]).choices[0]
    assert choice.text == text[: text.index(stop)]
    assert choice.finish_reason == "stop"


def test_the_second_port_speaks_http2_and_is_announced(engine: Served) -> None:
    body = {"model": "tiny", "messages": QUESTION, "max_tokens": 1}
    answer = httpx.post(f"{engine.url}/v1/chat/completions", json=body, timeout=PATIENCE)
    port = engine.h2_url.rpartition(":")[2]
    assert f'h2c=":{port}"' in answer.headers["alt-svc"]
    endpoints = engine.status()["endpoints"]
    assert isinstance(endpoints, dict)
    assert endpoints["http2"] == engine.h2_url


def fails(*options: str) -> tuple[int, str]:
    answer = subprocess.run(
        [*SERVE, *options], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert len(lines) == 1, answer.stderr
    return answer.returncode, lines[0]


def test_a_port_in_use_is_told_in_one_line(engine: Served) -> None:
    port = engine.url.rpartition(":")[2]
    code, line = fails("--model", "tiny", "--port", port)
    assert code == 2
    assert port in line
    assert "in use" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "nowhere/at/all"), ("nowhere/at/all", "smollm2-135m")),
        (("--config", os.devnull), (os.devnull, "empty")),
        (("--model", "tiny", "--tls-cert", "cert.pem"), ("--tls-key",)),
        (("--model", "tiny", "--tls-cert", __file__, "--tls-key", __file__), (__file__, "PEM")),
    ],
)
def test_what_cannot_serve_is_told_in_one_line(
    options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    code, line = fails(*options)
    assert code == 2
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("spoiled", "code"), [("tokenizer.json", 2), ("model.safetensors", 1)], ids=["text", "weights"]
)
def test_a_model_that_cannot_be_loaded_is_told_in_one_line(
    tmp_path: Path, spoiled: str, code: int
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(resolve_model("tiny").path, folder)
    (folder / spoiled).write_text("{")
    assert fails("--model", str(folder), "--port", "0")[0] == code
