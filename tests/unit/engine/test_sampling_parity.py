"""Each sampling parameter against stock mlx-lm, on the logits of a real model."""

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import sample_utils
from mlx_lm.generate import BatchGenerator
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlx_lm.utils import load_model

from engine.runtime.adapter import Adapter
from engine.runtime.messages import Sampling, Submit, Token
from engine.runtime.models import resolve_model
from engine.runtime.sampling import Row, choose, filtered

PROMPTS = [
    [1, *range(start, start + 5 * length, 5)]
    for start, length in zip(range(100, 900, 100), (3, 40, 12, 1, 25, 7, 60, 18), strict=True)
]

PARAMETERS = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.8, "top_p": 0.2},
    {"temperature": 1.3, "top_k": 40},
    {"temperature": 1.3, "top_k": 1},
    {"temperature": 1.0, "min_p": 0.05},
    {"temperature": 1.0, "min_p": 0.5},
    {"temperature": 0.9, "top_p": 0.95, "top_k": 50},
    {"temperature": 0.9, "top_p": 0.8, "min_p": 0.02},
    {"temperature": 1.1, "top_k": 20, "min_p": 0.1},
    {"temperature": 1.1, "top_p": 0.9, "top_k": 30, "min_p": 0.03},
]


@cache
def tiny() -> Any:
    model, _ = load_model(resolve_model("tiny").path)
    return model


@cache
def logits() -> mx.array:
    """Of the token behind each prompt."""
    rows = [tiny()(mx.array([prompt]))[:, -1, :] for prompt in PROMPTS]
    return mx.concatenate(rows)


def stock_chances(values: mx.array, options: dict[str, float]) -> np.ndarray:
    """With which probability stock mlx-lm draws each token: what its sampler hands to the draw."""
    handed_over: list[mx.array] = []

    def note(masked: mx.array, temperature: float) -> mx.array:
        handed_over.append(mx.softmax(masked * (1.0 / temperature), axis=-1))
        return mx.argmax(masked, axis=-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_utils, "categorical_sampling", note)
        sampler = make_sampler(options["temperature"], **_without_temperature(options))
        sampler(values - mx.logsumexp(values, axis=-1, keepdims=True))
    return np.array(handed_over[0])


def _without_temperature(options: dict[str, float]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "temperature"}


@pytest.mark.parametrize("options", PARAMETERS, ids=str)
def test_the_same_tokens_can_be_drawn_with_the_same_chances(options: dict[str, float]) -> None:
    filters = Row(Sampling(**options), seed=0, position=0).filters
    ours = np.array(mx.softmax(filtered(logits(), filters) / filters.temperature, axis=-1))
    stock = stock_chances(logits(), options)
    assert np.array_equal(ours > 0, stock > 0)
    np.testing.assert_allclose(ours, stock, atol=1e-5)


def drive(requests: list[Submit], **options: Any) -> dict[int, list[Token]]:
    given = {"eos": [2], "max_rows": 8, "prefill_chunk": 64, "prefill_rows": 8, **options}
    under_test = Adapter(tiny(), **given)
    tokens: dict[int, list[Token]] = {request.uid: [] for request in requests}
    for request in requests:
        under_test.submit(request)
    while under_test.busy:
        for token in under_test.step().tokens:
            tokens[token.uid].append(token)
    return tokens


def request(uid: int, **options: Any) -> Submit:
    sampling = Sampling(**options.pop("sampling", {}))
    given = {"max_tokens": 16, "seed": uid, "ignore_eos": True, **options}
    return Submit(uid=uid, prompt=PROMPTS[uid], sampling=sampling, **given)


def outputs(tokens: dict[int, list[Token]]) -> list[list[int]]:
    return [[token.token for token in one] for one in tokens.values()]


@pytest.mark.parametrize("options", PARAMETERS, ids=str)
def test_a_stream_draws_only_what_stock_could_draw(options: dict[str, float]) -> None:
    (drawn,) = outputs(drive([request(1, sampling=options)]))
    sequence = mx.array([[*PROMPTS[1], *drawn]])
    behind_each = tiny()(sequence)[0, len(PROMPTS[1]) - 1 : -1]
    allowed = stock_chances(behind_each, options) > 0
    assert all(allowed[position, token] for position, token in enumerate(drawn))


@pytest.mark.parametrize("options", PARAMETERS, ids=str)
def test_a_seed_gives_the_same_tokens_again_and_in_any_batch(options: dict[str, float]) -> None:
    alone = outputs(drive([request(3, sampling=options)]))
    company = [request(uid, sampling=options if uid == 3 else PARAMETERS[uid]) for uid in range(8)]
    for max_rows in (2, 8):
        assert outputs(drive(company, max_rows=max_rows))[3] == alone[0]


def test_other_seeds_give_other_tokens() -> None:
    given = [request(1, sampling={"temperature": 1.0}, seed=seed) for seed in range(6)]
    assert len({tuple(outputs(drive([one]))[0]) for one in given}) == 6


def stock_run(options: dict[str, float], ahead: list[list[int]]) -> tuple[list[Any], list[Any]]:
    """Greedy outputs and log-probabilities of stock mlx-lm, with penalties over the output."""
    generator = BatchGenerator(tiny())

    def over_output(processor: Any, prompt: list[int]) -> Any:
        return lambda tokens, values: processor(tokens[len(prompt) :], values)

    processors = [
        [over_output(one, prompt) for one in make_logits_processors(**_wide(options))]
        for prompt in ahead
    ]
    uids = generator.insert(ahead, max_tokens=[16] * len(ahead), logits_processors=processors)
    drawn: dict[int, list[int]] = {uid: [] for uid in uids}
    logprobs: dict[int, list[float]] = {uid: [] for uid in uids}
    while any(len(one) < 16 for one in drawn.values()):
        for response in generator.next_generated():
            drawn[response.uid].append(response.token)
            logprobs[response.uid].append(response.logprobs[response.token].item())
    return list(drawn.values()), list(logprobs.values())


def _wide(options: dict[str, float]) -> dict[str, Any]:
    """Stock looks at the last 20 tokens only; ours at the whole output."""
    contexts = {
        name.replace("penalty", "context_size"): 1000 for name in options if "penalty" in name
    }
    return {**options, **contexts}


PENALTIES = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"presence_penalty": 1.5},
    {"presence_penalty": -0.7},
    {"frequency_penalty": 0.9},
    {"frequency_penalty": -0.4},
    {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.3},
]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("options", PENALTIES, ids=str)
def test_greedy_tokens_and_log_probabilities_are_those_of_stock(
    options: dict[str, float], ahead: bool
) -> None:
    drawn, logprobs = stock_run(options, PROMPTS)
    requests = [request(uid, sampling=options, logprobs=1) for uid in range(len(PROMPTS))]
    ours = drive(requests, ahead=ahead)
    assert outputs(ours) == drawn
    reported = [[token.logprob for token in one] for one in ours.values()]
    np.testing.assert_allclose(reported, logprobs, atol=1e-4)


@pytest.mark.parametrize("options", PENALTIES[1:], ids=str)
def test_penalised_logits_are_those_of_stock(options: dict[str, float]) -> None:
    output = [7, 300, 7, 7, 900, 2, 300, 41]
    row = Row(Sampling(**options), seed=0, position=len(output), logprobs=4096, history=output)
    _, (detail,) = choose(logits()[:1], mx.array([output[-1]]), [row])
    expected = logits()[:1]
    for processor in make_logits_processors(**_wide(options)):
        expected = processor(mx.array(output), expected)
    expected = expected - mx.logsumexp(expected, axis=-1, keepdims=True)
    assert detail is not None
    ours = np.empty(expected.shape[-1])
    ours[np.array(detail.ids)] = np.array(detail.logprobs)
    np.testing.assert_allclose(ours, np.array(expected)[0], atol=1e-5)
