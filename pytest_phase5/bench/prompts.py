"""What is asked, in tokens of the model at hand: workloads of the load generator, sized. Pure.

Every request says how many tokens its answer has. Our engine is told to go on over an end
(`ignore_eos`); the peer knows no such option, so the last message asks for a long story, which
ends in no model within so few tokens. Whether it held is checked for each answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from pytest_phase5.load.plan import Request
from pytest_phase5.load.words import Words
from pytest_phase5.load.workload import Leaving, Mix, Workload, requests

CHAT: Final = "chat"
SHARED: Final = "shared"
UNSHARED: Final = "unshared"
MIXED: Final = "mixed"
TALKS: Final = "talks"
OVERLOAD: Final = "overload"
STORM: Final = "storm"
LENGTHS: Final = "lengths"

#: Tokens of an answer, and of a short question: the mix of the load tests.
OUTPUT: Final = 16
QUESTION: Final = 40
#: Tokens of a system prompt, and of a long question.
SYSTEM: Final = 200
LONG: Final = 600
#: Weights of short and long ones; clients that leave, and after how many pieces of text.
SHORT_TO_LONG: Final = (3.0, 1.0)
LEAVING: Final = Leaving(share=0.6, tokens=(1, 8))
#: What keeps a model that can write from ending early.
LONG_STORY: Final = " Tell a very long story about all of these."
#: Words whose tokens are counted to know how many a word has.
_COUNTED: Final = 400

Asked = tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many tokens a word of ours has in a model."""

    tokens_per_word: float

    @classmethod
    def of(cls, count: Callable[[str], int]) -> "Sizes":
        """Count the tokens of many words."""
        text = Words(_COUNTED, _COUNTED).text(_random("sizes"))
        return cls(count(text) / _COUNTED)

    def words(self, tokens: int) -> tuple[int, int]:
        """A range of words that has about so many tokens."""
        exact = max(1, round(tokens / self.tokens_per_word))
        return exact, exact


def asked(workload: str, sizes: Sizes, count: int, seed: int, prompt: int = QUESTION) -> Asked:
    """The requests of a workload by its name; `prompt` is the length of a question in tokens."""
    source = _source(workload, sizes, prompt)
    made = requests(source, count, seed)
    if workload == UNSHARED:
        random, words = _random(f"own:{seed}"), Words(*sizes.words(SYSTEM))
        made = tuple(_with_system(request, words.text(random)) for request in made)
    return tuple(_for_long(request) for request in made)


def _source(workload: str, sizes: Sizes, prompt: int) -> Workload | Mix:
    plain = Workload(name=workload, words=sizes.words(prompt), tokens=(OUTPUT, OUTPUT))
    if workload == SHARED:
        return replace(plain, shared_prompts=1, shared_words=sizes.words(SYSTEM))
    if workload == TALKS:
        return replace(plain, talks=8, exchanges=(4, 4))
    if workload == STORM:
        return replace(plain, leaving=LEAVING)
    if workload == MIXED:
        long = replace(plain, name="long", words=sizes.words(LONG))
        parts = (replace(plain, name="short"), long)
        return Mix(name=MIXED, parts=tuple(zip(parts, SHORT_TO_LONG, strict=True)))
    return plain


def _with_system(request: Request, text: str) -> Request:
    messages = [{"role": "system", "content": text}, *request.body["messages"]]
    return replace(request, body={**request.body, "messages": messages})


def _for_long(request: Request) -> Request:
    *before, last = request.body["messages"]
    longer = {**last, "content": last["content"] + LONG_STORY}
    return replace(request, body={**request.body, "messages": [*before, longer]})


def to_model(requests_: Sequence[Request], model: str) -> Asked:
    """The same requests with the name that a server gives its model."""
    return tuple(replace(one, body={**one.body, "model": model}) for one in requests_)


def expected(request: Request) -> int:
    """Tokens that its answer must have."""
    body: Mapping[str, Any] = request.body
    return int(body["max_tokens"])


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - reproducible traffic, not a secret
