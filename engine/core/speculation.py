"""When drafts pay: decided from what they cost and bring on this machine, now.

A step that verifies drafts of `k` tokens takes longer than a plain one by a *price*, and brings
each row 1 + (accepted tokens) instead of 1. Its gain is the ratio of the two rates, tokens a
second with drafts by tokens a second without. Both are measured on live traffic, for each
size of the batch: on a CPU a second token of one row is nearly free, and that of eight is not.

What a draft of `k` tokens brings follows from how often one is right, as in Leviathan, Kalman and
Matias, Fast Inference from Transformers via Speculative Decoding (2023); when to draft is ours.

Two safeguards. A plan is made only where the expected gain is clear. And whatever was expected:
a size whose steps brought no gain rests, and is tried again with one short draft after more
and more steps. Nothing is drafted, looked up or computed in between.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Final

#: The gain at which drafting begins, and below which it ends: between the two nothing changes.
START: Final = 1.1
KEEP: Final = 1.0

#: Steps with drafts before their measured gain may end them: half of them can be outliers.
TELLING_STEPS: Final = 8

#: Steps that are remembered for a time or price; the median of them counts, so that a step that
#: another process disturbed does not.
REMEMBERED: Final = 7

#: Plain steps after which a size that does not draft is tried again, at first and at most. One
#: short draft costs one more step or two: 3 to 6 per cent of 32, and 0.4 per cent of 512.
FIRST_REST: Final = 32
LONGEST_REST: Final = 512

#: Steps from one look for drafts to the next where they would not pay, and where nothing was
#: found: a look costs some microseconds a row, and a copy that begins should not be missed.
IDLE_STEPS: Final = 16
PATIENT_STEPS: Final = 4

#: Steps without drafts after which speculation no longer counts as active.
QUIET_STEPS: Final = 64

#: Steps with drafts after which one plain step shows anew what those take: 1.5 per cent.
BASELINE_STEPS: Final = 64

#: Steps after which a price is out of date: other machines' load and longer caches change it.
PRICE_STEPS: Final = 4096

#: Weight of the latest draft in a stream's acceptance, in that of all, and in the gain.
STREAM_WEIGHT: Final = 0.2
PRIOR_WEIGHT: Final = 0.1
GAIN_WEIGHT: Final = 0.1

#: How likely a draft's tokens are held to be right before any was seen.
_HOPE: Final = 0.7


class Source(StrEnum):
    """Where drafts come from, the cheaper first."""

    LOOKUP = "lookup"
    MODEL = "model"


class Curve:
    """How likely at least one, two, ... tokens of a draft are accepted, as seen lately."""

    __slots__ = ("_at_least",)

    def __init__(self, at_least: Sequence[float]) -> None:
        self._at_least = list(at_least)

    @classmethod
    def hopeful(cls, length: int) -> "Curve":
        """Before any draft was seen; `length` is that of the longest draft, in tokens."""
        return cls([_HOPE**tokens for tokens in range(1, length + 1)])

    def copy(self) -> "Curve":
        """The same, to go on by itself."""
        return Curve(self._at_least)

    def expected(self, length: int) -> float:
        """Tokens of a draft of this length that will be accepted, on average."""
        return sum(self._at_least[:length])

    def observe(self, length: int, accepted: int, weight: float) -> None:
        """Learn from one draft of `length` tokens, of which `accepted` held.

        One that was accepted as a whole counts as if a longer one had been: if that is wrong,
        the next will be longer and say so.
        """
        whole = accepted == length
        for index, known in enumerate(self._at_least):
            self._at_least[index] = known + weight * ((whole or index < accepted) - known)


@dataclass(frozen=True, slots=True)
class Plan:
    """Draft so many tokens for each row, by a source and the cheaper ones.

    `trial`: only to learn whether it would pay by now.
    """

    length: int
    source: Source
    trial: bool = False


@dataclass(slots=True)
class _Price:
    """What steps with drafts take, in plain steps."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    step: int = 0


@dataclass(slots=True)
class _Size:
    """Batches of about one number of rows.

    Attributes:
        steps: of this size so far, in which drafts were allowed.
        look: the step from which on it is worth to look for drafts.
        misses: looks in a row that found none.
        drafted: the step of the latest draft.
        drafting: drafts were worth it when last looked.
        rest: steps from one trial to the next while they are not.
        resting: drafts brought no gain; only a trial may change that.
        gain, seen: the measured gain, and the steps with drafts that it is made of.
        since_plain: steps with drafts since the last one without.
        prices: by length and source.
    """

    steps: int = 0
    look: int = 0
    misses: int = 0
    drafted: int = 0
    drafting: bool = False
    rest: int = FIRST_REST
    resting: bool = False
    gain: float = 1.0
    seen: int = 0
    since_plain: int = 0
    prices: dict[tuple[int, Source], _Price] = field(default_factory=dict)

    def tried(self, *, promising: bool) -> None:
        """A trial was made, or drafts brought no gain: when the next trial is due."""
        self.rest = FIRST_REST if promising else min(2 * self.rest, LONGEST_REST)

    def judge(self) -> bool:
        """Whether drafts have to rest from here on."""
        if self.seen < TELLING_STEPS or self.resting:
            return False
        if self.gain >= START:
            self.rest = FIRST_REST
        self.resting = self.gain < KEEP
        if self.resting:
            self.tried(promising=False)
        return self.resting


class Speculation:
    """Decides for each step whether and how much to draft, and learns from it.

    Args:
        longest: tokens of a draft, at most.
    """

    def __init__(self, longest: int) -> None:
        self.lengths = sorted({max(longest // 4, 1), max(longest // 2, 1), longest})
        self._sizes: dict[int, _Size] = {}
        self._plain: dict[int, deque[float]] = {}  # seconds, by exact number of rows
        self._priors = {source: Curve.hopeful(longest) for source in Source}
        self._quiet = QUIET_STEPS  # steps since the last drafts that were not a trial

    @property
    def active(self) -> bool:
        """Whether drafts are made because they pay, as of late."""
        return self._quiet < QUIET_STEPS

    def gain(self, rows: int) -> float:
        """The measured gain in batches of about so many rows; 1 before there were drafts."""
        return self._size(rows).gain

    def curve(self, source: Source) -> Curve:
        """What a new stream's drafts are expected to be worth."""
        return self._priors[source].copy()

    def attentive(self, rows: int) -> bool:
        """Count a step, and say whether it is worth to look for drafts. Cheap when it is not."""
        size = self._size(rows)
        size.steps += 1
        self._quiet += 1
        return size.steps >= size.look

    def plan(self, rows: int, offers: Mapping[Source, Sequence[Curve]]) -> Plan | None:
        """What to draft in a step of so many rows.

        Args:
            rows: of the batch, those without a draft included.
            offers: for each source the rows that would have a draft by it or a cheaper one.
        """
        size = self._size(rows)
        plans = self._plans(rows, offers)
        if not plans:
            size.misses += 1
            size.look = size.steps + min(size.misses, PATIENT_STEPS)
            return None
        size.misses = 0
        if rows not in self._plain or size.since_plain >= BASELINE_STEPS:
            return None
        best = max(plans, key=plans.__getitem__)
        size.drafting = not size.resting and plans[best] >= (KEEP if size.drafting else START)
        if size.drafting:
            return best
        due = size.drafted + size.rest
        if size.steps >= due:
            cheapest = min(plans, key=lambda plan: (plan.length, list(Source).index(plan.source)))
            return replace(cheapest, trial=True)
        size.look = min(size.steps + IDLE_STEPS, due)
        return None

    def observe_plain(self, rows: int, seconds: float) -> None:
        """A step without drafts took so long."""
        self._size(rows).since_plain = 0
        self._plain.setdefault(rows, deque(maxlen=REMEMBERED)).append(seconds)

    def observe(self, rows: int, plan: Plan, tokens: int, seconds: float) -> bool:
        """A step with drafts brought so many tokens in so long.

        Returns:
            Whether batches of this size have no drafts from here on, but for trials.
        """
        size = self._size(rows)
        ratio = seconds / median(self._plain[rows])
        price = size.prices.setdefault((plan.length, plan.source), _Price())
        price.recent.append(ratio)
        price.step = size.drafted = size.steps
        size.since_plain += 1
        gain = tokens / rows / ratio
        if plan.trial:
            size.resting, size.seen = False, 0
            size.tried(promising=gain >= START)
        else:
            self._quiet = 0
        size.seen += 1
        size.gain += max(GAIN_WEIGHT, 1 / size.seen) * (gain - size.gain)
        return size.judge()

    def observe_draft(self, source: Source, curve: Curve, length: int, accepted: int) -> None:
        """So many tokens of a stream's draft were accepted."""
        curve.observe(length, accepted, STREAM_WEIGHT)
        self._priors[source].observe(length, accepted, PRIOR_WEIGHT)

    def _plans(self, rows: int, offers: Mapping[Source, Sequence[Curve]]) -> dict[Plan, float]:
        """Everything that could be done, with the gain that it should bring."""
        return {
            Plan(length, source): (1 + sum(curve.expected(length) for curve in curves) / rows)
            / self._price(rows, length, source)
            for source, curves in offers.items()
            if curves
            for length in self._lengths(rows, source)
        }

    def _lengths(self, rows: int, source: Source) -> list[int]:
        """Lengths whose price is known, and the next one: none is tried before its shorter ones."""
        known = [self._known_price(rows, length, source) is not None for length in self.lengths]
        return self.lengths[: [*known, False].index(False) + 1]

    def _price(self, rows: int, length: int, source: Source) -> float:
        """What a step takes, in plain steps: as measured, else by the next shorter drafts.

        The shortest drafts cost nothing until they are known, so that they become known.
        """
        if (known := self._known_price(rows, length, source)) is not None:
            return known
        place = self.lengths.index(length)
        if place == 0:
            return 1.0
        shorter = self.lengths[place - 1]
        return 1 + (self._price(rows, shorter, source) - 1) * length / shorter

    def _known_price(self, rows: int, length: int, source: Source) -> float | None:
        size = self._size(rows)
        price = size.prices.get((length, source))
        if price is None or size.steps - price.step >= PRICE_STEPS:
            return None
        return max(median(price.recent), 1.0)  # less was chance: more tokens never take less time

    def _size(self, rows: int) -> _Size:
        size = self._sizes.get(bits := (rows - 1).bit_length())
        if size is None:
            size = self._sizes[bits] = _Size()
        return size
