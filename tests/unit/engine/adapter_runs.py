"""A small random model, and adapters over it that are driven to the end."""

import random
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import gemma3_text
from mlx_lm.models.llama import Model, ModelArgs

from engine.runtime.adapter import Adapter
from engine.runtime.messages import Prefill, Submit, Token
from engine.runtime.prefill import GATHER_SECONDS

VOCABULARY = 256
EOS = 2


@cache
def model() -> Any:
    """A random Llama with an untied head, so that different prompts give different outputs."""
    arguments = ModelArgs(
        model_type="llama",
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=2,
        num_key_value_heads=1,
        rms_norm_eps=1e-5,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
    )
    mx.random.seed(11)
    built = Model(arguments)
    built.lm_head.weight = mx.random.normal(built.lm_head.weight.shape)
    mx.eval(built.parameters())
    return built


def sliding() -> Any:
    """A model whose caches cannot be cut."""
    arguments = gemma3_text.ModelArgs(
        model_type="gemma3_text",
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=2,
        head_dim=16,
        num_key_value_heads=1,
        vocab_size=64,
        sliding_window=16,
        sliding_window_pattern=2,
    )
    return gemma3_text.Model(arguments)


def adapter(**options: Any) -> Adapter:
    """One whose turns take long by its clock, so that newcomers begin at once."""
    given = {"eos": [EOS], "max_rows": 8, "prefill_chunk": 16, "prefill_rows": 4, **options}
    return Adapter(model(), **{"clock": count(step=GATHER_SECONDS).__next__, **given})


def prompts(n: int) -> list[list[int]]:
    source = random.Random(5)  # noqa: S311  # a reproducible choice, not a secret
    return [
        [source.randrange(3, VOCABULARY) for _ in range(source.randint(1, 60))] for _ in range(n)
    ]


def request(uid: int, prompt: list[int], **options: Any) -> Submit:
    given = {"max_tokens": 12, "seed": uid, "ignore_eos": True, **options}
    return Submit(uid=uid, prompt=prompt, **given)


class Run:
    """An adapter driven to the end, with all that it said, by stream."""

    def __init__(self, under_test: Adapter, requests: list[Submit], **options: Any) -> None:
        self.tokens: dict[int, list[Token]] = {one.uid: [] for one in requests}
        self.prefills: dict[int, list[Prefill]] = {one.uid: [] for one in requests}
        self.refused: dict[int, str] = {}
        self.most_rows = 0
        for one in requests:
            under_test.submit(one)
        self.drive(under_test, **options)

    def drive(self, under_test: Adapter, after_step: Callable[[], None] = lambda: None) -> None:
        while under_test.busy:
            turn = under_test.step()
            under_test.settle()
            self.most_rows = max(self.most_rows, under_test.rows)
            self.refused |= dict(turn.refused)
            for token in turn.tokens:
                self.tokens[token.uid].append(token)
            for prefill in turn.prefills:
                self.prefills[prefill.uid].append(prefill)
            after_step()

    def output(self, uid: int) -> list[int]:
        return [token.token for token in self.tokens[uid]]

    @property
    def outputs(self) -> list[list[int]]:
        return [self.output(uid) for uid in self.tokens]


def stock_outputs(given: list[list[int]], max_tokens: int = 12) -> list[list[int]]:
    """What mlx-lm's own generator makes of the prompts, greedily."""
    generator = BatchGenerator(model(), stop_tokens=None)
    uids = generator.insert(given, max_tokens=[max_tokens] * len(given))
    outputs: dict[int, list[int]] = {uid: [] for uid in uids}
    unfinished = set(uids)
    while unfinished:
        for response in generator.next_generated():
            outputs[response.uid].append(response.token)
            if response.finish_reason:
                unfinished.discard(response.uid)
    return list(outputs.values())
