"""From rounds to rows and ratios: medians of each arm, and pairs of the same round. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from pytest_phase5.bench.arms import PEER, PEERS, RATIOS
from pytest_phase5.bench.asking import Round
from pytest_phase5.bench.figures import COUNTED
from pytest_phase5.bench.ratios import Estimate, of_rounds

#: The measures that are divided, with their classes (`ttft_p95_ms:short`) where there are any.
COMPARED: Final = (
    "requests_per_second",
    "good_per_second",
    "tokens_per_second",
    "ttft_p95_ms",
    "latency_p99_ms",
    "cpu_ms_per_request",
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One arm divided by another, in one measure."""

    measure: str
    of: str
    to: str  #: the arm that really stood for the peer
    estimate: Estimate
    pairs: int

    def row(self) -> dict[str, Any]:
        """For JSON."""
        named = {"measure": self.measure, "of": self.of, "to": self.to, "pairs": self.pairs}
        return {**named, **self.estimate.rounded()}


def more_is_better(measure: str) -> bool:
    """Of rates; of times and costs it is less."""
    return measure.endswith("_per_second")


def values(rounds: Sequence[Round], arm: str, measure: str) -> dict[int, float]:
    """What an arm came to, by the number of the round; rounds that do not count are left out."""
    return {
        one.number: one.measures[measure]
        for one in rounds
        if one.arm == arm and one.figures.state in COUNTED and measure in one.measures
    }


def better_peer(rounds: Sequence[Round], measure: str) -> str:
    """The row of the peer that is better in this measure; its plain row where it has one alone."""
    found = {arm: values(rounds, arm, measure) for arm in PEERS}
    medians = {arm: median(those.values()) for arm, those in found.items() if those}
    if not medians:
        return PEER
    choose = max if more_is_better(measure) else min
    return choose(medians, key=lambda arm: medians[arm])


def ratios(rounds: Sequence[Round]) -> Iterator[Ratio]:
    """Every pair of arms in every measure that both of them have."""
    for measure in _measures(rounds):
        for of, to in RATIOS:
            other = better_peer(rounds, measure) if to == PEER else to
            ours, theirs = values(rounds, of, measure), values(rounds, other, measure)
            both = [
                ours[number] / theirs[number]
                for number in sorted(ours.keys() & theirs.keys())
                if ours[number] > 0 and theirs[number] > 0
            ]
            if both:
                yield Ratio(measure, of, other, of_rounds(both), len(both))


def _measures(rounds: Sequence[Round]) -> list[str]:
    known = {name for one in rounds for name in one.measures}
    return sorted(
        (name for name in known if name.split(":")[0] in COMPARED),
        key=lambda name: (COMPARED.index(name.split(":")[0]), name),
    )


def rows(rounds: Sequence[Round]) -> dict[str, dict[str, Any]]:
    """Medians of each arm over its rounds that count, and how all of its rounds ended."""
    arms = sorted({one.arm for one in rounds})
    return {arm: _row(rounds, [one for one in rounds if one.arm == arm]) for arm in arms}


def _row(rounds: Sequence[Round], own: Sequence[Round]) -> dict[str, Any]:
    names = sorted({name for one in own for name in one.measures})
    medians = {name: values(rounds, own[0].arm, name) for name in names}
    return {
        "states": dict(Counter(one.figures.state for one in own)),
        "reasons": sorted({one.figures.reason for one in own if one.figures.reason}),
        "measures": {
            name: round(median(those.values()), 3) for name, those in medians.items() if those
        },
        "tokens": tokens(own),
    }


def tokens(own: Sequence[Round]) -> Mapping[str, int]:
    """What was asked and answered in all rounds, and how much of it had been kept."""
    return {
        "prompt": sum(one.figures.prompt_tokens for one in own),
        "output": sum(one.figures.output_tokens for one in own),
        "cached": sum(one.figures.cached_tokens for one in own),
    }
