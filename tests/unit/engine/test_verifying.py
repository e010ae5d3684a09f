"""Whatever is drafted, the output is that of plain decoding."""

from typing import Any

import pytest
from adapter_runs import Run, adapter, prompts, request
from hypothesis import given, settings
from hypothesis import strategies as st
from speculation_runs import LONGEST, Always, foresighted, speculating

from engine.runtime.messages import Sampling, Submit, Token

#: Every parameter, alone and with others.
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0),
    Sampling(temperature=0.8, top_p=0.9),
    Sampling(temperature=1.2, top_k=20, min_p=0.01),
    Sampling(repetition_penalty=1.3),
    Sampling(presence_penalty=0.9),
    Sampling(frequency_penalty=0.8),
    Sampling(temperature=0.7, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.6),
]

streams = st.lists(
    st.fixed_dictionaries(
        {
            "sampling": st.sampled_from(SAMPLINGS),
            "max_tokens": st.integers(1, 30),
            "min_tokens": st.integers(0, 12),
            "ignore_eos": st.booleans(),
            "logprobs": st.sampled_from([None, 0, 3]),
        }
    ),
    min_size=1,
    max_size=6,
)


def requests(options: list[dict[str, Any]], **more: Any) -> list[Submit]:
    return [
        request(uid, prompt, speculate=True, **one, **more)
        for uid, (one, prompt) in enumerate(zip(options, prompts(len(options)), strict=True))
    ]


def close(found: list[Token], expected: list[Token]) -> bool:
    """Equal but for the last bits of log-probabilities."""
    return [_exact(token) for token in found] == [_exact(token) for token in expected] and all(
        _numbers(one) == pytest.approx(_numbers(other), abs=1e-3)
        for one, other in zip(found, expected, strict=True)
    )


def _exact(token: Token) -> Any:
    best = token.top_logprobs
    return token.uid, token.position, token.token, token.finish, best and sorted(best)


def _numbers(token: Token) -> dict[int, float]:
    own = {} if token.logprob is None else {-1: token.logprob}
    return own | (token.top_logprobs or {})


@settings(max_examples=settings.default.max_examples // 5)
@given(streams, st.integers(0, 2**32), st.booleans(), st.integers(3, 60))
def test_output_is_that_of_plain_steps_however_good_the_drafts(
    options: list[dict[str, Any]], luck: int, ahead: bool, end: int
) -> None:
    """Rows of all kinds in one batch, each draft of its own length, each token right or wrong."""
    given = requests(options)
    plain = Run(adapter(eos=[end], ahead=ahead), given)
    drafter = foresighted(
        given,
        plain,
        wrong=lambda seed, place: hash((luck, seed, place)) % 4 == 0,
        length=lambda place: hash((luck, place)) % (LONGEST + 1),
    )
    run = Run(speculating(drafter, eos=[end], ahead=ahead), given)
    assert all(close(run.tokens[one.uid], plain.tokens[one.uid]) for one in given)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_right_drafts_are_accepted_to_the_last_token(sampling: Sampling, ahead: bool) -> None:
    given = requests([{"sampling": sampling, "max_tokens": 28}] * 5)
    plain = Run(adapter(ahead=ahead), given)
    decision = Always()
    run = Run(speculating(foresighted(given, plain), decision, ahead=ahead), given)
    assert run.outputs == plain.outputs
    together = [tokens for rows, tokens in decision.steps if rows == 5]
    assert max(together) == 5 * (LONGEST + 1)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_end_token_within_a_draft_ends_the_stream_there(ahead: bool) -> None:
    (prompt,) = prompts(1)
    one = request(1, prompt, max_tokens=30, speculate=True)
    free = Run(adapter(), [one]).output(1)
    place = next(at for at in range(5, 25) if free.index(free[at]) == at)
    stopping = request(1, prompt, max_tokens=30, speculate=True, ignore_eos=False)
    drafter = foresighted([one], Run(adapter(), [one]))
    run = Run(speculating(drafter, eos=[free[place]], ahead=ahead), [stopping])
    assert run.output(1) == free[: place + 1]
    assert [token.finish for token in run.tokens[1]] == [None] * place + ["stop"]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("most", range(1, 13))
def test_no_stream_gets_more_than_its_max_tokens(most: int, ahead: bool) -> None:
    (prompt,) = prompts(1)
    longer = request(1, prompt, max_tokens=30, speculate=True)
    drafter = foresighted([longer], Run(adapter(), [longer]))
    run = Run(
        speculating(drafter, ahead=ahead), [request(1, prompt, max_tokens=most, speculate=True)]
    )
    assert len(run.output(1)) == most
    assert run.tokens[1][-1].finish == "length"


def test_a_penalty_counts_the_accepted_tokens_before_it_in_the_same_step() -> None:
    """Greedy with a penalty that forbids every repetition: a count that is late would show."""
    given = requests([{"sampling": Sampling(presence_penalty=1e6), "max_tokens": 40}] * 2)
    plain = Run(adapter(), given)
    run = Run(speculating(foresighted(given, plain)), given)
    assert run.outputs == plain.outputs
    assert all(len(set(output)) == 40 for output in run.outputs)


def test_wrong_drafts_only_cost_time() -> None:
    given = requests([{"max_tokens": 20}] * 4)
    plain = Run(adapter(), given)
    decision = Always()
    drafter = foresighted(given, plain, wrong=lambda *_: True)
    assert Run(speculating(drafter, decision), given).outputs == plain.outputs
    assert min(tokens / rows for rows, tokens in decision.steps) == 1.0
