"""What requests ask: seeded prompts and bodies, made before the run starts.

Prompts are common words in printable ASCII, so every tokenizer can read them, and random
enough that no two share a useful prefix unless a workload wants it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count as count_up
from itertools import islice
from random import Random
from typing import Any, Final

from pytest_phase5.load.plan import CHAT_PATH, LeaveAfter, Request
from pytest_phase5.load.words import Words, zipf

Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Clients that leave in the middle: a share of them, each after its own time.

    Exactly one range is given, drawn evenly: `tokens` counts pieces of generated text,
    `seconds` from sending. See `plan.LeaveAfter`.

    Raises:
        ValueError: a range that does not rise.
    """

    share: float
    tokens: tuple[int, int] | None = None
    seconds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a share that is none, and ranges that cannot be drawn from."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"leaving: share {self.share}; allowed: 0 to 1")
        for low, high in filter(None, (self.tokens, self.seconds)):
            if low > high:
                raise ValueError(f"leaving: {low}-{high}; allowed: rising")
        self._after(0)  # the earliest must be possible

    def draw(self, random: Random) -> LeaveAfter | None:
        """Whether and when the next client leaves. Always takes two draws."""
        leaves, place = random.random() < self.share, random.random()
        return self._after(place) if leaves else None

    def _after(self, place: float) -> LeaveAfter:
        tokens, seconds = self.tokens, self.seconds
        return LeaveAfter(
            tokens=tokens and tokens[0] + int(place * (tokens[1] - tokens[0] + 1)),
            seconds=seconds and seconds[0] + place * (seconds[1] - seconds[0]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A kind of request. Ranges are inclusive and drawn evenly.

    `words` are those of the last message, `turns` the messages before it (user and
    assistant in turn), `tokens` the length of the answer, `system` the system prompt (None
    leaves it to the model's template, which may bring a long one). With `ignore_eos` each
    answer has exactly that length, so that two engines do the same work. Without a `model`
    the generator asks each engine, before the run, which one it serves.

    Beyond that:

    - `sigma`: words are drawn from a lognormal distribution of this deviation about the
      geometric mean of the range, and cut to the range: many short ones, few long ones.
    - `shared_prompts`: so many system prompts of `shared_words` words; each request has one
      of them, the first most often (`zipf` is the exponent, 0 for evenly).
    - `talks`: so many conversations at a time. A request is the next turn of one of them:
      all that was said before, word for word, and a new question. A conversation ends after
      `exchanges` questions. The answers in it are made up beforehand, not those of the
      server: requests of an open loop are due whether or not an answer has come, and two
      engines must be asked the same. So a turn shares the prompt of the turn before with
      what a server may have kept, and not the answer.
    - `leaving`: clients that close their stream on purpose.
    """

    name: str
    words: tuple[int, int]
    turns: tuple[int, int] = (0, 0)
    tokens: tuple[int, int]
    ignore_eos: bool = True
    stream: bool = True
    system: str | None = None
    model: str | None = None
    sigma: float | None = None
    shared_prompts: int = 0
    shared_words: tuple[int, int] = (100, 300)
    zipf: float = 1.0
    talks: int = 0
    exchanges: tuple[int, int] = (2, 5)
    leaving: Leaving | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be drawn from, and wishes that exclude each other."""
        leasts = (("words", 1), ("turns", 0), ("tokens", 1), ("shared_words", 1), ("exchanges", 1))
        for name, least in leasts:
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise self._refusal(f"{name} {low}-{high}; allowed: {least} or more, rising")
        for name in ("sigma", "shared_prompts", "zipf", "talks"):
            if (getattr(self, name) or 0) < 0:
                raise self._refusal(f"{name} {getattr(self, name)}; allowed: zero or more")
        if self.shared_prompts and self.system is not None:
            raise self._refusal("both system and shared_prompts; allowed: one of them")
        if self.talks and self.turns != (0, 0):
            raise self._refusal("both turns and talks; allowed: one of them")
        if self.leaving and not self.stream:
            raise self._refusal("leaving without stream; allowed: clients leave streams")

    def _refusal(self, what: str) -> ValueError:
        return ValueError(f"workload {self.name!r}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Several workloads at once; each request's `kind` is the name of its workload.

    Args:
        name: of the mix.
        parts: workloads with their weights, of any sum.

    Raises:
        ValueError: a weight that is not positive.
    """

    name: str
    parts: tuple[tuple[Workload, float], ...]

    def __post_init__(self) -> None:
        """Refuse parts that cannot be told apart or drawn."""
        names = [part.name for part, _ in self.parts]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"mix {self.name!r}: parts {names}; allowed: names of their own")
        if not all(weight > 0 for _, weight in self.parts):
            raise ValueError(f"mix {self.name!r}: a weight is not positive")


#: A dozen words in, sixteen tokens out: prefill is cheap and the queue shows.
SHORT: Final = Workload(name="short", words=(8, 16), tokens=(16, 16))
#: A conversation of mixed length.
CHAT: Final = Workload(name="chat", words=(10, 80), turns=(0, 3), tokens=(8, 32))
#: Many users of a few assistants: long system prompts that a cache can know.
ASSISTANTS: Final = Workload(name="assistants", words=(8, 40), tokens=(8, 32), shared_prompts=8)
#: Conversations that grow by a question and an answer at a time.
TALKS: Final = Workload(name="talks", words=(8, 24), tokens=(8, 32), talks=16)
#: Prompts from a line to some pages.
VARIED: Final = Workload(name="varied", words=(8, 400), tokens=(8, 16), sigma=1.0)
#: A third of the clients has seen enough after a few tokens.
LEAVERS: Final = Workload(
    name="leavers", words=(8, 16), tokens=(16, 16), leaving=Leaving(share=1 / 3, tokens=(1, 8))
)
#: All of them at once.
MIXED: Final = Mix(
    name="mixed", parts=((SHORT, 4), (ASSISTANTS, 2), (TALKS, 2), (VARIED, 1), (LEAVERS, 1))
)


def requests(workload: Workload | Mix, count: int, seed: int) -> tuple[Request, ...]:
    """The first `count` requests of a workload; a longer run begins with the same ones."""
    source = _mixed(workload, seed) if isinstance(workload, Mix) else _plain(workload, seed)
    return tuple(islice(source, count))


def _mixed(mix: Mix, seed: int) -> Iterator[Request]:
    random = _random(f"{mix.name}:{seed}")
    sources = [_plain(part, seed, kind=part.name) for part, _ in mix.parts]
    weights = [weight for _, weight in mix.parts]
    while True:
        yield next(random.choices(sources, weights)[0])


def _plain(workload: Workload, seed: int, kind: str | None = None) -> Iterator[Request]:
    random = _random(f"{workload.name}:{seed}")
    leaving = _random(f"{workload.name}:{seed}:leaving")
    talks = _talks(workload, random, _random(f"{workload.name}:{seed}:shared"))
    for number in count_up():
        yield Request(
            key=f"{workload.name}-{seed}-{number}",
            path=CHAT_PATH,
            body=_body(workload, next(talks), random),
            kind=kind,
            leave_after=workload.leaving.draw(leaving) if workload.leaving else None,
        )


def _talks(workload: Workload, random: Random, shared: Random) -> Iterator[Messages]:
    """The messages of each request in turn."""
    begin = partial(_begin, workload, random, _openings(workload, shared))
    if not workload.talks:
        while True:
            yield begin()
    going: list[tuple[int, Messages]] = []
    while True:
        place = random.randrange(workload.talks)
        if place >= len(going):
            place = len(going)
            going.append((random.randint(*workload.exchanges), begin()))
        left, messages = going[place]
        yield [*messages]
        going[place] = (
            (left - 1, [*messages, _said(workload, random, "assistant"), _asked(workload, random)])
            if left > 1
            else (random.randint(*workload.exchanges), begin())
        )


def _openings(workload: Workload, shared: Random) -> Iterator[Messages]:
    """The system prompt of each new conversation, if it has one."""
    if not workload.shared_prompts:
        while True:
            yield [{"role": "system", "content": workload.system}] if workload.system else []
    lengths = Words(*workload.shared_words)
    prompts = [lengths.text(shared) for _ in range(workload.shared_prompts)]
    weights = zipf(workload.shared_prompts, workload.zipf)
    while True:
        yield [{"role": "system", "content": shared.choices(prompts, weights)[0]}]


def _begin(workload: Workload, random: Random, openings: Iterator[Messages]) -> Messages:
    turns = random.randint(*workload.turns)
    # The last one is always the user's.
    roles = ("assistant" if (turns - place) % 2 else "user" for place in range(turns + 1))
    return next(openings) + [_said(workload, random, role) for role in roles]


def _asked(workload: Workload, random: Random) -> dict[str, str]:
    return _said(workload, random, "user")


def _said(workload: Workload, random: Random, role: str) -> dict[str, str]:
    return {"role": role, "content": Words(*workload.words, workload.sigma).text(random)}


def _body(workload: Workload, messages: Messages, random: Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": messages,
        "max_tokens": random.randint(*workload.tokens),
        "temperature": 0,
        "ignore_eos": workload.ignore_eos,
        "stream": workload.stream,
    }
    if workload.model is not None:
        body["model"] = workload.model
    if workload.stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - reproducible traffic, not a secret
