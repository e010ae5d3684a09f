"""From logits to the next tokens of a batch.

A row's draw depends on its own seed and output position and on nothing else in the batch, so
a stream gets the same tokens alone, in company, and after a replay. That needs more than a
seed: the logits of one row differ in their last bits from batch to batch. The draw is the
maximum of the logits plus Gumbel noise (Gumbel 1954; "the Gumbel-max trick"), which such a
difference changes about once in 100,000 draws. Inverting the cumulative distribution changes
once in some hundreds, since every word of the vocabulary before the drawn one adds its error;
it is no faster.

Filters work in mlx-lm's order (top-p, min-p, top-k, then temperature), so that the set of
tokens that can be drawn is the same.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import log
from typing import Final, NamedTuple

import mlx.core as mx

from engine.runtime.messages import Sampling, Submit
from engine.runtime.prefixes import worth_keeping

_DRAW: Final = struct.Struct(">Qq")
_KEY: Final = struct.Struct(">II")


class Filters(NamedTuple):
    """What rows must share to be drawn in one operation."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float


class Detail(NamedTuple):
    """Log-probabilities of one drawn token: its own, and the best alternatives (lazy arrays)."""

    logprob: mx.array
    ids: mx.array
    logprobs: mx.array


@dataclass(slots=True, eq=False)
class Row:
    """The sampling state of one stream; it travels with the batch as the row's sampler."""

    sampling: Sampling
    seed: int
    position: int
    eos: tuple[int, ...] = ()
    min_tokens: int = 0
    logprobs: int | None = None
    keep_cache: bool = False
    history: Sequence[int] = ()
    filters: Filters = field(init=False)
    penalised: bool = field(init=False)
    counts: mx.array | None = field(init=False, default=None)
    before: "Row | None" = field(init=False, default=None)

    def __post_init__(self) -> None:
        given = self.sampling
        self.filters = Filters(given.temperature, given.top_p, given.top_k, given.min_p)
        if given.temperature == 0:
            self.filters = Filters(0, 1, 0, 0)  # greedy rows share one group
        self.penalised = (
            given.repetition_penalty != 1
            or given.presence_penalty != 0
            or given.frequency_penalty != 0
        )

    @classmethod
    def of(cls, request: Submit, output: Sequence[int], eos: tuple[int, ...]) -> "Row":
        """The state of a stream that begins, or goes on behind what it has put out."""
        return cls(
            sampling=request.sampling,
            seed=request.seed,
            position=len(output),
            eos=eos,
            min_tokens=request.min_tokens,
            logprobs=request.logprobs,
            keep_cache=request.reuse_prefix
            and worth_keeping(len(request.prompt) + request.max_tokens),
            history=tuple(output),
        )

    def fork(self, ahead: int = 0) -> "Row":
        """A row that goes on from this one's state, so many positions further.

        Of a penalised row it goes on counting where this one ends by the time it is first drawn.
        """
        row = replace(self, position=self.position + ahead)
        row.before = self if self.penalised else None
        return row

    def following(self, tokens: int) -> list["Row"]:
        """The states in which the next tokens are drawn, if each is what the draft says.

        The first is this row itself, and so many more follow. `choose` must be given all of
        them in this order.
        """
        rows = [self]
        for _ in range(tokens):
            rows.append(rows[-1].fork(1))
        return rows

    def count(self, last: mx.array, vocabulary: int) -> mx.array:
        """How often each token stands in the output. `last` (1,) was drawn in the last step."""
        if self.before is not None:
            self.counts, self.before = self.before.counts, None
        if self.counts is None:
            # The first step's input is the end of the prompt, or the end of `history`.
            counts = mx.zeros((vocabulary,))
            if self.history:
                counts = counts.at[mx.array(list(self.history))].add(1.0)
        else:
            counts = self.counts.at[last].add(1.0)
        self.counts = counts
        return counts


def choose(
    logits: mx.array, inputs: mx.array, rows: Sequence[Row]
) -> tuple[mx.array, list[Detail | None]]:
    """Draw the next token of every row and advance the rows by one position.

    Args:
        logits: (rows, vocabulary), of the position behind `inputs`.
        inputs: (rows,), the tokens of the last step.
        rows: their sampling states.

    Returns:
        The tokens (rows,), and the details of those rows that asked for log-probabilities.
    """
    logits = _penalised(logits, inputs, rows)
    logits = _without_early_end(logits, rows)
    tokens = _draw_all(logits, rows)
    details = [
        None if row.logprobs is None else _detail(logits[index], tokens[index], row.logprobs)
        for index, row in enumerate(rows)
    ]
    for row in rows:
        row.position += 1
    return tokens, details


def gumbel(rows: Sequence[Row], vocabulary: int) -> mx.array:
    """Noise (rows, vocabulary), a function of each row's seed and output position alone."""
    keys = mx.array([_key(row.seed, row.position) for row in rows], dtype=mx.uint32)
    draw = mx.vmap(lambda key: mx.random.gumbel((vocabulary,), key=key))
    noise: mx.array = draw(keys)
    return noise


def _key(seed: int, position: int) -> tuple[int, int]:
    """The key of mlx's counter-based generator for one draw."""
    given = _DRAW.pack(seed & 0xFFFF_FFFF_FFFF_FFFF, position)
    high, low = _KEY.unpack(blake2b(given, digest_size=_KEY.size).digest())
    return high, low


def filtered(logits: mx.array, filters: Filters) -> mx.array:
    """Logits (rows, vocabulary) with minus infinity where top-p, min-p or top-k forbids a token."""
    if filters.top_p < 1:
        logits = _top_p(logits, filters.top_p)
    if filters.min_p > 0:
        floor = logits.max(axis=-1, keepdims=True) + log(filters.min_p)
        logits = mx.where(logits < floor, -mx.inf, logits)
    if 0 < filters.top_k < logits.shape[-1]:
        least = mx.topk(logits, filters.top_k, axis=-1).min(axis=-1, keepdims=True)
        logits = mx.where(logits < least, -mx.inf, logits)
    return logits


def _top_p(logits: mx.array, top_p: float) -> mx.array:
    """Keep the fewest best tokens whose probabilities reach `top_p` together."""
    ascending = mx.sort(logits, axis=-1)
    probabilities = mx.softmax(ascending.astype(mx.float32), axis=-1)
    better = mx.cumsum(probabilities, axis=-1, reverse=True, inclusive=False)
    dropped = (better >= top_p).sum(axis=-1, keepdims=True)
    last = ascending.shape[-1] - 1  # the best token stays even at top_p 0
    least = mx.take_along_axis(ascending, mx.minimum(dropped, last), axis=-1)
    return mx.where(logits < least, -mx.inf, logits)


def _draw_all(logits: mx.array, rows: Sequence[Row]) -> mx.array:
    groups: dict[Filters, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.filters, []).append(index)
    if len(groups) == 1:
        return _draw(logits, rows[0].filters, rows)
    drawn = mx.concatenate(
        [
            _draw(logits[mx.array(members)], filters, [rows[index] for index in members])
            for filters, members in groups.items()
        ]
    )
    order = [index for members in groups.values() for index in members]
    return drawn[mx.array(sorted(range(len(order)), key=order.__getitem__))]


def _draw(logits: mx.array, filters: Filters, rows: Sequence[Row]) -> mx.array:
    if filters.temperature == 0:
        return mx.argmax(logits, axis=-1)
    logits = filtered(logits, filters).astype(mx.float32)
    return mx.argmax(logits / filters.temperature + gumbel(rows, logits.shape[-1]), axis=-1)


def _penalised(logits: mx.array, inputs: mx.array, rows: Sequence[Row]) -> mx.array:
    """Penalties of those rows that have some, over the tokens of their output."""
    members = [index for index, row in enumerate(rows) if row.penalised]
    if not members:
        return logits
    counts = mx.stack(
        [rows[index].count(inputs[index : index + 1], logits.shape[-1]) for index in members]
    )
    given = [rows[index].sampling for index in members]
    repetition = mx.array([sampling.repetition_penalty for sampling in given])[:, None]
    presence = mx.array([sampling.presence_penalty for sampling in given])[:, None]
    frequency = mx.array([sampling.frequency_penalty for sampling in given])[:, None]
    at = mx.array(members)
    some = logits[at]
    repeated = mx.where(some < 0, some * repetition, some / repetition)
    some = mx.where(counts > 0, repeated - presence, some) - counts * frequency
    logits = logits[:]  # the caller's stays as it is
    logits[at] = some.astype(logits.dtype)
    return logits


def _without_early_end(logits: mx.array, rows: Sequence[Row]) -> mx.array:
    """Forbid the end tokens of rows that have not reached their `min_tokens`."""
    early = [index for index, row in enumerate(rows) if row.eos and row.position < row.min_tokens]
    if not early:
        return logits
    logits = logits[:]
    logits[mx.array(early)[:, None], mx.array(rows[early[0]].eos)] = -mx.inf  # one model, one eos
    return logits


def _detail(logits: mx.array, token: mx.array, alternatives: int) -> Detail:
    """Log-probabilities after penalties and before filters, as mlx-lm reports them."""
    logprobs = logits.astype(mx.float32)
    logprobs = logprobs - mx.logsumexp(logprobs)
    ids = mx.argsort(-logprobs)[:alternatives]
    return Detail(logprobs[token], ids, logprobs[ids])
