"""One step that verifies drafts: several tokens of a row, each exactly as plain steps draw it.

The model reads the last token of every row and its draft behind it, at once. Position by
position the next token is drawn as ever, from the logits there and f(seed, position); while it
is what the draft says, what was read behind it holds. So a row gets the accepted beginning of
its draft and one token more, and its cache is cut to what was read rightly. A wrong draft
costs time and changes nothing.

After Leviathan, Kalman and Matias, Fast Inference from Transformers via Speculative Decoding
(2023); common noise takes the place of their rejections, so that the tokens are the very same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, cast

import mlx.core as mx
from mlx_lm.generate import GenerationBatch

from engine.runtime.ragged import RaggedKVCache
from engine.runtime.sampling import Detail, Row, choose


@dataclass(slots=True)
class _Read:
    """What one row read in a step, and what came of it.

    Attributes:
        tokens: what it read: its last token, then its draft.
        states: its sampling state at each of them.
        drawn, details: what was drawn behind each of them.
        valid: how many of them were read rightly.
    """

    tokens: list[int]
    states: list[Row]
    drawn: list[int]
    details: list[Detail | None]
    valid: int = 1

    def compare(self) -> None:
        """Accept the draft as far as it is what was drawn."""
        for drafted, drawn in zip(self.tokens[1:], self.drawn, strict=False):
            if drafted != drawn:
                return
            self.valid += 1


class _Output(NamedTuple):
    """One output token."""

    token: int
    detail: Detail | None
    finish: str | None


class Verifying(GenerationBatch):  # type: ignore[misc]  # mlx-lm is half annotated
    """A decoding batch that can verify drafts; see `DecodingBatch`."""

    samplers: list[Row]
    drawn_ahead: bool  #: a step puts out the tokens that it reads, not those that it draws

    def last_tokens(self) -> list[int]:
        """What the next step reads of each row; waits for a step that computes ahead."""
        return cast("list[int]", self._next_tokens.tolist())

    def room(self, index: int) -> int:
        """The longest draft that a row may be given: one token follows each."""
        left: int = self.max_tokens[index] - self._num_tokens[index]
        return left - 1

    def verify(self, drafts: Sequence[Sequence[int]]) -> tuple[list[Any], list[int]]:
        """Take a step with a draft for each row; an empty one leaves its row at one token.

        A draft must leave room for one token more within the row's `max_tokens`.

        Returns:
            The responses, in order for each row, and how many tokens of each draft hold.
        """
        last = self.last_tokens()
        rows = self._read([[one, *draft] for one, draft in zip(last, drafts, strict=True)])
        for row in rows:
            row.compare()
        accepted = [row.valid - 1 for row in rows]
        put_out = [self._put_out(index, row) for index, row in enumerate(rows)]
        self._advance(rows)
        responses = [
            self._response(index, out) for index, each in enumerate(put_out) for out in each
        ]
        keep = [index for index, each in enumerate(put_out) if each[-1].finish is None]
        if len(keep) < len(rows):
            self.filter(keep)
        return responses, accepted

    def _read(self, given: Sequence[list[int]]) -> list[_Read]:
        """Read all tokens of all rows, and draw behind each of them."""
        self.prompt_cache[:] = [RaggedKVCache.of(layer) for layer in self.prompt_cache]
        width = max(map(len, given))
        padded = [[*tokens, *[0] * (width - len(tokens))] for tokens in given]
        logits = self.model(mx.array(padded), cache=self.prompt_cache)
        rows = mx.array([row for row, tokens in enumerate(given) for _ in tokens])
        places = mx.array([place for tokens in given for place in range(len(tokens))])
        inputs = mx.array([token for tokens in given for token in tokens])
        states = [
            row.following(len(tokens) - 1) for row, tokens in zip(self.samplers, given, strict=True)
        ]
        drawn, details = choose(
            logits[rows, places], inputs, [state for each in states for state in each]
        )
        mx.eval(drawn, [detail for detail in details if detail is not None])
        every = cast("list[int]", drawn.tolist())
        ends = pairwise(accumulate(map(len, given), initial=0))
        return [
            _Read(tokens, each, every[begin:end], details[begin:end])
            for tokens, each, (begin, end) in zip(given, states, ends, strict=True)
        ]

    def _put_out(self, index: int, row: _Read) -> list[_Output]:
        """A row's output tokens, one by one as plain steps do, up to one that ends it."""
        tokens, details = row.drawn, row.details
        if self.drawn_ahead:
            tokens, details = row.tokens, [self._next_logprobs[index], *row.details]
        out: list[_Output] = []
        for token, detail in zip(tokens[: row.valid], details, strict=False):
            out.append(_Output(token, detail, self._finish(index, token)))
            if out[-1].finish is not None:
                break
        row.valid = len(out)
        return out

    def _finish(self, index: int, token: int) -> str | None:
        """Count an output token of a row, and say why it ends with it, if it does."""
        self._num_tokens[index] += 1
        stopped = self._matchers[index].advance(token)
        if stopped:
            return "stop"
        return "length" if self._num_tokens[index] >= self.max_tokens[index] else None

    def _advance(self, rows: Sequence[_Read]) -> None:
        """Leave the batch as plain steps would: nothing that was read wrongly stays."""
        width = max(len(row.tokens) for row in rows)
        for layer in self.prompt_cache:
            ends = zip(layer.lengths, rows, strict=True)
            layer.cut([end - width + row.valid for end, row in ends])
        for sequence, row in zip(self.tokens, rows, strict=True):
            sequence.extend(row.tokens[: row.valid])
        self.samplers = [row.states[row.valid - 1] for row in rows]
        self._next_tokens = mx.array([row.drawn[row.valid - 1] for row in rows], mx.uint32)
        self._next_logprobs = [row.details[row.valid - 1] for row in rows]
        mx.eval([row.counts for row in self.samplers if row.counts is not None])

    def _response(self, index: int, out: _Output) -> Any:
        ends = out.finish is not None
        return self.Response(
            uid=self.uids[index],
            token=out.token,
            logprobs=out.detail,
            finish_reason=out.finish,
            prompt_cache=self.extract_cache(index) if ends else None,
            all_tokens=self.tokens[index] if ends else None,
        )
