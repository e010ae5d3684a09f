"""What requests ask: seeded prompts and bodies, made before the run starts.

Prompts are common words in printable ASCII, so every tokenizer can read them, and random
enough that no two share a useful prefix unless a workload wants it.
"""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from pytest_phase5.load.plan import CHAT_PATH, Request

_WORDS: Final = """
    amber anchor apple arrow autumn basket beacon bridge bright candle canyon castle cedar
    chapter circle clever cloud copper cotton desert distant dragon early eastern engine fabric
    falcon farmer feather forest garden gentle glacier golden harbor helmet hollow honest
    island jacket journey kettle kitchen ladder lantern letter little marble meadow mirror
    morning mountain narrow needle northern ocean orange orchard paper pepper pilot planet
    pocket quiet rabbit ribbon river rocket saddle sailor shadow silver simple spring square
    station stone summer table temple thunder timber tower travel tunnel valley velvet village
    violet walnut water western whisper window winter wonder yellow
"""
WORDS: Final = tuple(_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A kind of request. Ranges are inclusive and drawn evenly.

    `words` are those of the last message, `turns` the messages before it (user and
    assistant in turn), `tokens` the length of the answer, `system` the system prompt (None
    leaves it to the model's template, which may bring a long one). With `ignore_eos` each
    answer has exactly that length, so that two engines do the same work. Without a `model`
    the generator asks each engine, before the run, which one it serves.
    """

    name: str
    words: tuple[int, int]
    turns: tuple[int, int] = (0, 0)
    tokens: tuple[int, int]
    ignore_eos: bool = True
    stream: bool = True
    system: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that cannot be drawn from."""
        for name, least in (("words", 1), ("turns", 0), ("tokens", 1)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(
                    f"workload {self.name!r}: {name} {low}-{high}; allowed: {least} or more, rising"
                )


#: A dozen words in, sixteen tokens out: prefill is cheap and the queue shows.
SHORT: Final = Workload(name="short", words=(8, 16), tokens=(16, 16))
#: A conversation of mixed length.
CHAT: Final = Workload(name="chat", words=(10, 80), turns=(0, 3), tokens=(8, 32))


def requests(workload: Workload, count: int, seed: int) -> tuple[Request, ...]:
    """The first `count` requests of a workload; a longer run begins with the same ones."""
    random = Random(f"{workload.name}:{seed}")  # noqa: S311 - reproducible traffic, not a secret
    return tuple(
        Request(
            key=f"{workload.name}-{seed}-{number}",
            path=CHAT_PATH,
            body=_body(workload, random),
        )
        for number in range(count)
    )


def _body(workload: Workload, random: Random) -> dict[str, Any]:
    turns = random.randint(*workload.turns)
    system = [{"role": "system", "content": workload.system}] if workload.system else []
    body: dict[str, Any] = {
        "messages": system
        + [_message(workload, random, turns - back) for back in range(turns + 1)],
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


def _message(workload: Workload, random: Random, before_last: int) -> dict[str, str]:
    """One message; the last one (`before_last` 0) is always the user's."""
    words = random.choices(WORDS, k=random.randint(*workload.words))
    role = "assistant" if before_last % 2 else "user"
    return {"role": role, "content": " ".join(words)}
