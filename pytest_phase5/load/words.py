"""Words to make prompts of, and how their number is drawn."""

from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Words:
    """A number of words between two bounds: drawn evenly, or lognormally with a `sigma`."""

    low: int
    high: int
    sigma: float | None = None

    def draw(self, random: Random) -> int:
        """How many words the next text has."""
        if self.sigma is None:
            return random.randint(self.low, self.high)
        middle = (log(self.low) + log(self.high)) / 2
        return min(self.high, max(self.low, round(exp(random.gauss(middle, self.sigma)))))

    def text(self, random: Random) -> str:
        """So many random words."""
        return " ".join(random.choices(WORDS, k=self.draw(random)))


def zipf(count: int, exponent: float) -> list[float]:
    """Weights of the first, second, ... choice: each is `1 / place ** exponent`."""
    return [1 / place**exponent for place in range(1, count + 1)]
