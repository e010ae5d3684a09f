"""The real model: converted rightly, and tokenised in the front end as mlx-lm does it."""

import ctypes.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.models import resolve_model
from engine.server.text import TextCodec

MODELS = ("tiny", "smollm2-135m")
CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count: 1 2 34567"}],
    [
        {"role": "user", "content": "Grüße, 世界! 👩‍🚀 {{ 7 * 7 }} {% if x %}"},
        {"role": "assistant", "content": "Yes.\n\n  indented"},
        {"role": "user", "content": "<|im_start|>system\nno</s>"},
    ],
]
TEXTS = ["Once upon a time", " two  spaces\n\n\ttab", "naïve Grüße 世界", "👩‍🚀🦜", "x = 12345", ""]

#: What mlx-lm's own tokenizer makes of it, in a process of its own: it imports transformers.
REFERENCE = """
import json, sys
from pathlib import Path
from mlx_lm.tokenizer_utils import load
tokenizer = load(Path(sys.argv[1]))
conversations, texts = json.loads(sys.argv[2])
chats = [tokenizer.apply_chat_template(c, add_generation_prompt=True) for c in conversations]
plain = [tokenizer.encode(text) for text in texts]
decoded = [tokenizer.decode(ids, skip_special_tokens=True) for ids in [*chats, *plain]]
eos = sorted(tokenizer.eos_token_ids)
print(json.dumps({"chats": chats, "plain": plain, "decoded": decoded, "eos": eos}))
"""

ANSWER = """
import sys
from mlx_lm import generate, load
model, tokenizer = load(sys.argv[1])
messages = [{"role": "user", "content": "What is the capital of France?"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
print(generate(model, tokenizer, prompt, max_tokens=16))
"""


@cache
def folder(model: str) -> Path:
    return resolve_model(model).path


@cache
def codec(model: str) -> TextCodec:
    return TextCodec(folder(model))


@cache
def reference(model: str) -> dict[str, Any]:
    given = json.dumps([CONVERSATIONS, TEXTS])
    done = subprocess.run(
        [sys.executable, "-P", "-c", REFERENCE, str(folder(model)), given],
        capture_output=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_knows_the_capital_of_france() -> None:
    library = ctypes.util.find_library("openblas")
    preload = {"LD_PRELOAD": library, "OPENBLAS_NUM_THREADS": "2"} if library else {}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ANSWER, str(folder("smollm2-135m"))],
        env={**os.environ, **preload},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Paris" in done.stdout


@pytest.mark.parametrize("model", MODELS)
def test_chats_become_the_same_tokens_as_in_mlx_lm(model: str) -> None:
    ours = [codec(model).encode_chat(messages) for messages in CONVERSATIONS]
    assert ours == reference(model)["chats"]


@pytest.mark.parametrize("model", MODELS)
def test_plain_texts_become_the_same_tokens_as_in_mlx_lm(model: str) -> None:
    assert [codec(model).encode(text) for text in TEXTS] == reference(model)["plain"]


@pytest.mark.parametrize("model", MODELS)
def test_tokens_become_the_same_text_as_in_mlx_lm(model: str) -> None:
    tokens = [*reference(model)["chats"], *reference(model)["plain"]]
    assert [codec(model).decode(ids) for ids in tokens] == reference(model)["decoded"]


@pytest.mark.parametrize("model", MODELS)
def test_the_same_tokens_end_an_output_as_in_mlx_lm(model: str) -> None:
    assert sorted(codec(model).eos_ids) == reference(model)["eos"]


def streamed(tokens: list[int]) -> str:
    detokenizer = codec("smollm2-135m").detokenizer()
    return "".join([*(detokenizer.push(token) for token in tokens), detokenizer.finish()])


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_streamed_text_equals_the_whole(text: str) -> None:
    tokens = codec("smollm2-135m").encode(text)
    assert streamed(tokens) == codec("smollm2-135m").decode(tokens)


@settings(deadline=None)
@given(tokens=st.lists(st.one_of(st.integers(0, 300), st.integers(0, 49151)), max_size=40))
def test_streaming_any_tokens_equals_the_whole(tokens: list[int]) -> None:
    assert streamed(tokens) == codec("smollm2-135m").decode(tokens)


def test_a_character_of_several_tokens_is_held_back_until_it_is_whole() -> None:
    detokenizer = codec("smollm2-135m").detokenizer()
    pieces = [detokenizer.push(token) for token in codec("smollm2-135m").encode("🦜")]
    assert len(pieces) > 1
    assert pieces == [""] * (len(pieces) - 1) + ["🦜"]
