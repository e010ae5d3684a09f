"""`tiny` must show faults of the engine: its text varies, prints, and does not end by itself."""

import json
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.runtime import tiny
from engine.server.text import TextCodec

PROMPTS = ("hello", "What is the capital of France?", "aaaa", "1 2 3 4", "a long walk home " * 8)

#: mlx in a process of its own, as the engine has it.
GREEDY = """
import json, sys
from mlx_lm import load
from mlx_lm.generate import generate_step
import mlx.core as mx
model, _ = load(sys.argv[1])
def greedy(prompt):
    return [token for (token, _), _ in zip(generate_step(mx.array(prompt), model), range(32))]
print(json.dumps([greedy(prompt) for prompt in json.loads(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny.build(path)
    return path


@pytest.fixture(scope="module")
def outputs(folder: Path) -> list[list[int]]:
    codec = TextCodec(folder)
    prompts = [codec.encode_chat([{"role": "user", "content": text}]) for text in PROMPTS]
    done = subprocess.run(
        [sys.executable, "-P", "-c", GREEDY, str(folder), json.dumps(prompts)],
        capture_output=True,
        check=True,
    )
    answer: list[list[int]] = json.loads(done.stdout)
    return answer


def test_greedy_output_varies(outputs: list[list[int]]) -> None:
    assert min(len(set(output)) for output in outputs) >= 24


def test_different_prompts_give_different_outputs(outputs: list[list[int]]) -> None:
    assert len({tuple(output) for output in outputs}) == len(PROMPTS)


def test_special_tokens_are_not_generated(outputs: list[list[int]]) -> None:
    assert min(min(output) for output in outputs) >= len(tiny.SPECIALS)


def test_every_ordinary_token_is_printable_ascii(folder: Path) -> None:
    codec = TextCodec(folder)
    texts = [codec.decode([token]) for token in range(len(tiny.SPECIALS), tiny.VOCABULARY)]
    allowed = set(string.printable) - set("\t\n\r\x0b\x0c")
    assert all(texts)
    assert set("".join(texts)) == allowed
    assert len(set(texts)) == len(texts)


def test_what_is_not_printable_ascii_is_unknown(folder: Path) -> None:
    assert set(TextCodec(folder).encode("é\n")) == {0}


def test_two_builds_are_equal(folder: Path, tmp_path: Path) -> None:
    tiny.build(tmp_path)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_head_is_not_the_embedding(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert not np.array_equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"])
