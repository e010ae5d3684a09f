"""Streams as the adapter knows them: where each stands, and what is set aside for it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from engine.runtime.messages import Prefill, Submit, Token, Warmed
from engine.runtime.sampling import Detail


class Kept(NamedTuple):
    """A KV cache that belongs to no row, and the tokens that it holds."""

    cache: list[Any]
    tokens: list[int]

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return sum(layer.nbytes for layer in self.cache)

    def before(self, length: int) -> "Kept | None":
        """The same, holding fewer tokens than `length`: the model must read at least one.

        None when nothing is left, or where a sliding window does not know its past any more.
        """
        if surplus := max(len(self.tokens) - (length - 1), 0):
            if not can_trim_prompt_cache(self.cache):
                return None
            trim_prompt_cache(self.cache, surplus)
        tokens = self.tokens[: length - 1]
        return Kept(self.cache, tokens) if tokens else None

    def evaluated(self) -> "Kept":
        """The same, computed: a lazy slice would hold the whole batch that it was cut from."""
        mx.eval([layer.state for layer in self.cache])
        return self


class Parking:
    """Caches set aside for streams that have no row, by the streams' ids."""

    def __init__(self) -> None:
        self._kept: dict[int, Kept] = {}  # the longest set aside first

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(kept.nbytes for kept in self._kept.values())

    def put(self, uid: int, kept: Kept) -> None:
        """Set a cache aside."""
        self._kept[uid] = kept

    def take(self, uid: int) -> Kept | None:
        """Hand a cache over, if there is one."""
        return self._kept.pop(uid, None)

    def shrink(self, keep_bytes: int, *, spare: int) -> None:
        """Drop the longest set aside until the others than `spare` hold at most `keep_bytes`."""
        spared = self._kept[spare].nbytes if spare in self._kept else 0
        for uid in [uid for uid in self._kept if uid != spare]:
            if self.nbytes - spared <= keep_bytes:
                return
            del self._kept[uid]

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()


@dataclass(slots=True, eq=False)
class Stream:
    """What was asked, what came out, and where the stream stands.

    Attributes:
        arrival: its place in the order of arrival.
        output: every output token, those of an earlier process included.
        most: tokens that its row holds in the end, if nothing stops it.
        row: the generator's id of its row; None while it waits or is paused.
        unread: prompt tokens before its next output token; 0 while it decodes.
        fresh: tokens that it has to read to all appearance: when it arrived, or was paused.
        cached: prompt tokens that came from the prefix store.
        skipped: tokens that its row found in a cache when it began.
        stops: lengths at which its cache is stored while its prompt is read.
        arrived: when it was submitted to this process, by the adapter's clock.
        waited: seconds from then until it had a row.
    """

    request: Submit
    arrival: int
    output: list[int] = field(init=False)
    most: int = field(init=False)
    row: int | None = None
    paused: bool = False
    unread: int = 0
    fresh: int = 0
    cached: int = 0
    skipped: int = 0
    stops: list[int] = field(default_factory=list)
    arrived: float = 0.0
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.output = list(self.request.emitted)
        self.most = len(self.request.prompt) + self.request.max_tokens

    @property
    def uid(self) -> int:
        """Its id, which the front end gave."""
        return self.request.uid

    @property
    def known(self) -> list[int]:
        """What a row reads before it decodes: a stream that comes again reads its output too."""
        return [*self.request.prompt, *self.output]

    @property
    def length(self) -> int:
        """How many tokens that is."""
        return len(self.request.prompt) + len(self.output)

    def begin(self, row: int, kept: Kept, now: float) -> None:
        """Take a row that starts behind `kept`."""
        self.waited = now - self.arrived
        self.row = row
        self.skipped = len(kept.tokens)
        self.unread = self.length - self.skipped

    def token(self, response: Any) -> Token:
        """Note the next output token, and how it is told."""
        detail: Detail | None = response.logprobs
        logprob, top = (None, None) if detail is None else _numbers(detail)
        position = len(self.output)
        self.output.append(response.token)
        reason = response.finish_reason
        return Token(self.request.uid, position, response.token, reason, logprob, top)

    def prefill(self, response: Any) -> Prefill:
        """Note a chunk that was read, and how it is told."""
        done, total = response.progress
        self.unread = total - done
        skipped = self.skipped
        return Prefill(self.uid, skipped + done, skipped + total, self.cached, self.waited)


@dataclass(slots=True)
class Turn:
    """What one step brought. `refused` names streams that could not begin, and why.

    `warmed` says how much is known of prompts that wait, `read_ahead` how many tokens of them
    were read, `expired` how many waited too long. Of `drafted` tokens `accepted` ones held.
    """

    tokens: list[Token] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    warmed: list[Warmed] = field(default_factory=list)
    read_ahead: int = 0
    expired: int = 0
    drafted: int = 0
    accepted: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


def _numbers(detail: Detail) -> tuple[float, dict[int, float]]:
    ids: Any = detail.ids.tolist()
    logprobs: Any = detail.logprobs.tolist()
    logprob: Any = detail.logprob.item()
    return logprob, dict(zip(ids, logprobs, strict=True))
