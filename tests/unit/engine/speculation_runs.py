"""Drafts on demand: for every step, right or wrong as a test wants them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapter_runs import Run, adapter

from engine.core.speculation import Curve, Plan, Source
from engine.runtime.adapter import Adapter
from engine.runtime.messages import Submit
from engine.runtime.sampling import Row
from engine.runtime.speculating import Speculator

LONGEST = 8


class Always:
    """A decision that drafts whenever there is something to draft."""

    lengths = (LONGEST,)
    active = True

    def __init__(self, source: Source = Source.MODEL) -> None:
        self._source = source
        self.drafted = Counter[Source]()
        self.accepted = Counter[Source]()
        self.plain = 0  #: steps without drafts
        self.steps: list[tuple[int, int]] = []  #: rows and tokens of each step with drafts

    def gain(self, rows: int) -> float:
        return 1.0 + rows

    def curve(self, source: Source) -> Curve:
        assert source in Source
        return Curve.hopeful(LONGEST)

    def attentive(self, rows: int) -> bool:
        return rows > 0

    def plan(self, rows: int, offers: Mapping[Source, Sequence[Curve]]) -> Plan | None:
        assert all(len(curves) <= rows for curves in offers.values())
        return Plan(LONGEST, self._source) if offers.get(self._source) else None

    def observe_plain(self, rows: int, seconds: float) -> None:
        assert rows > 0
        assert seconds >= 0
        self.plain += 1

    def observe(self, rows: int, plan: Plan, tokens: int, seconds: float) -> bool:
        assert seconds >= 0
        assert plan.length == LONGEST
        self.steps.append((rows, tokens))
        return False

    def observe_draft(self, source: Source, curve: Curve, length: int, accepted: int) -> None:
        assert 0 <= accepted <= length
        self.drafted[source] += length
        self.accepted[source] += accepted
        curve.observe(length, accepted, 0.1)


class Foresight:
    """Drafts from outputs that are known, by the streams' seeds; some tokens of them wrong.

    Args:
        whole: prompt and output of each stream.
        wrong: says of a seed and an output position whether the draft is wrong there.
        length: says how long a draft behind so many tokens is.
    """

    nbytes = 0

    def __init__(
        self,
        whole: Mapping[int, Sequence[int]],
        wrong: Callable[[int, int], bool] = lambda _, __: False,
        length: Callable[[int], int] = lambda _: LONGEST,
    ) -> None:
        self._whole = whole
        self._wrong = wrong
        self._length = length
        self.kept: Sequence[int] = ()

    def draft(self, row: int, known: Sequence[int], state: Row, length: int) -> list[int]:
        assert row >= 0
        begin = len(known)
        end = begin + min(length, self._length(begin))
        return [
            token + 1 if self._wrong(state.seed, place) else token
            for place, token in enumerate(self._whole[state.seed][begin:end], start=begin)
        ]

    def keep(self, rows: Sequence[int]) -> None:
        self.kept = list(rows)


def foresighted(requests: Sequence[Submit], plain: Run, **options: Any) -> Foresight:
    """Knows what streams put out in a run without drafts."""
    return Foresight(
        {one.seed: [*one.prompt, *plain.output(one.uid)] for one in requests}, **options
    )


def speculating(drafter: Any, decision: Any = None, **options: Any) -> Adapter:
    """An adapter whose steps have drafts."""
    return adapter(speculator=Speculator(decision or Always(), drafter), **options)
