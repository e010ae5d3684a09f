from collections import Counter
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from engine.runtime.messages import Sampling, Submit
from engine.runtime.sampling import Filters, Row, choose, filtered

VOCABULARY = 32


def row(seed: int = 0, position: int = 0, **options: Any) -> Row:
    sampling = Sampling(**options)
    return Row(sampling=sampling, seed=seed, position=position)


def logits(rows: int = 1, seed: int = 3) -> mx.array:
    return mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed)) * 2


def drawn(values: mx.array, *rows: Row) -> list[int]:
    tokens, _ = choose(values, mx.zeros((len(rows),), mx.int32), rows)
    result: Any = tokens.tolist()
    return list(result)


def test_greedy_takes_the_best_token_of_each_row() -> None:
    values = logits(5)
    assert drawn(values, *[row() for _ in range(5)]) == mx.argmax(values, axis=-1).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 5, "min_p": 0.02},
        {"temperature": 1.0, "repetition_penalty": 1.2},
    ],
)
def test_a_row_draws_the_same_alone_and_in_any_company(options: dict[str, Any]) -> None:
    values = logits(4)
    (alone,) = drawn(values[2:3], row(seed=9, position=4, **options))
    company = [
        row(seed=1, temperature=1.0),
        row(),
        row(seed=9, position=4, **options),
        row(top_k=2),
    ]
    assert drawn(values, *company)[2] == alone


def test_draws_change_with_seed_and_position() -> None:
    flat = mx.zeros((1, VOCABULARY))
    by_seed = {drawn(flat, row(seed=seed, temperature=1.0))[0] for seed in range(40)}
    by_position = {drawn(flat, row(position=at, temperature=1.0))[0] for at in range(40)}
    assert len(by_seed) > VOCABULARY / 3
    assert len(by_position) > VOCABULARY / 3


def test_choosing_advances_every_row() -> None:
    rows = [row(position=3), row(temperature=1.0)]
    drawn(logits(2), *rows)
    assert [one.position for one in rows] == [4, 1]


def test_draws_follow_the_distribution() -> None:
    probabilities = [0.5, 0.3, 0.2]
    n = 3000
    values = mx.broadcast_to(mx.log(mx.array(probabilities)), (n, 3))
    counts = Counter(drawn(values, *[row(seed=seed, temperature=1.0) for seed in range(n)]))
    for token, probability in enumerate(probabilities):  # 5 standard deviations
        deviation = (n * probability * (1 - probability)) ** 0.5
        assert abs(counts[token] - n * probability) < 5 * deviation


def test_the_last_bits_of_the_logits_change_hardly_any_draw() -> None:
    """They differ with the company in the batch; a replay must give the same text all the same.

    Ten times the error of fp32 here; inverting the cumulative distribution changes 5 of 2,000.
    """
    words, n = 4096, 2000
    values = mx.random.normal((1, words), key=mx.random.key(1))
    error = 1e-4 * mx.random.normal((n, words), key=mx.random.key(2))
    exact = mx.broadcast_to(values, (n, words))
    given = [{"seed": seed, "temperature": 1.0} for seed in range(n)]
    pairs = zip(
        drawn(exact, *(row(**one) for one in given)),
        drawn(exact + error, *(row(**one) for one in given)),
        strict=True,
    )
    assert sum(one != other for one, other in pairs) <= 1


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_top_p_keeps_the_tokens_that_mlx_lm_keeps(top_p: float) -> None:
    values = logits(3)
    normalised = values - mx.logsumexp(values, axis=-1, keepdims=True)
    ours = filtered(values, Filters(1, top_p, 0, 0)) > -mx.inf
    assert mx.array_equal(ours, apply_top_p(normalised, top_p) > -mx.inf)


@pytest.mark.parametrize("top_k", [1, 7, VOCABULARY - 1])
def test_top_k_keeps_the_tokens_that_mlx_lm_keeps(top_k: int) -> None:
    values = logits(3)
    ours = filtered(values, Filters(1, 1, top_k, 0)) > -mx.inf
    assert mx.array_equal(ours, apply_top_k(values, top_k) > -mx.inf)


@pytest.mark.parametrize("min_p", [0.01, 0.1, 0.9])
def test_min_p_keeps_the_tokens_that_mlx_lm_keeps(min_p: float) -> None:
    values = logits(3)
    ours = filtered(values, Filters(1, 1, 0, min_p)) > -mx.inf
    assert mx.array_equal(ours, apply_min_p(values, min_p) > -mx.inf)


@pytest.mark.parametrize("filters", [Filters(1, 0.0, 0, 0), Filters(1, 1, 0, 1.0)])
def test_the_strictest_filters_keep_the_best_token(filters: Filters) -> None:
    values = logits(2)
    kept = filtered(values, filters) > -mx.inf
    assert kept.sum(axis=-1).tolist() == [1, 1]
    assert mx.argmax(kept, axis=-1).tolist() == mx.argmax(values, axis=-1).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_a_forbidden_token_is_never_drawn(seed: int) -> None:
    values = mx.array([[0.0, -mx.inf, 0.0, -mx.inf]])
    assert drawn(values, row(seed=seed, temperature=1.0))[0] in {0, 2}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"repetition_penalty": 2.0}, [1.0, -4.0, 1.0]),
        ({"presence_penalty": 0.5}, [1.5, -2.5, 1.0]),
        ({"frequency_penalty": 0.5}, [1.0, -2.5, 1.0]),  # token 0 stands twice in the output
    ],
)
def test_penalties_count_the_output(option: dict[str, float], expected: list[float]) -> None:
    penalised = Row(sampling=Sampling(**option), seed=0, position=3, logprobs=3, history=[0, 0, 1])
    tokens, details = choose(mx.array([[2.0, -2.0, 1.0]]), mx.array([1]), [penalised])
    assert details[0] is not None
    reported = dict(zip(_list(details[0].ids), _list(details[0].logprobs), strict=True))
    penalties = [reported[token] - reported[2] + 1.0 for token in range(3)]
    assert penalties == pytest.approx(expected, abs=1e-5)
    assert tokens.item() == max(range(3), key=expected.__getitem__)


def test_a_penalty_sees_the_tokens_of_the_steps_before() -> None:
    greedy = row(presence_penalty=1.5)
    last, seen = mx.array([0]), []
    for _ in range(3):
        last, _ = choose(mx.array([[3.0, 2.0, 1.0]]), last, [greedy])
        seen.append(last.item())
    assert seen == [0, 1, 0]  # 3, then 1.5 < 2, then 1.5 > 0.5


def test_penalties_leave_other_rows_alone() -> None:
    values = mx.array([[2.0, 1.9], [2.0, 1.9]])
    penalised = Row(sampling=Sampling(presence_penalty=1), seed=0, position=1, history=[0])
    assert drawn(values, penalised, row()) == [1, 0]


def test_the_end_is_forbidden_before_min_tokens() -> None:
    values = mx.array([[5.0, 1.0]])
    early = Row(sampling=Sampling(), seed=0, position=0, eos=(0,), min_tokens=1)
    assert drawn(values, early) == [1]
    assert drawn(values, early) == [0]


def test_only_rows_that_asked_get_logprobs() -> None:
    asked = Row(sampling=Sampling(), seed=0, position=0, logprobs=2)
    tokens, details = choose(logits(2), mx.array([0, 0]), [row(), asked])
    assert details[0] is None
    assert details[1] is not None
    assert _list(details[1].ids)[0] == tokens[1].item()
    assert details[1].logprob.item() == pytest.approx(_list(details[1].logprobs)[0])
    assert len(_list(details[1].ids)) == 2


def test_a_replayed_stream_goes_on_at_its_position() -> None:
    request = Submit(uid=1, prompt=[1], max_tokens=9, seed=5, emitted=[4, 4, 2])
    assert Row.of(request, request.emitted, (0,)).position == 3


def _list(values: mx.array) -> list[Any]:
    result: Any = values.tolist()
    return list(result)
