"""Which keys the traffic of a flag comes from: how many, how busy, how unlucky.

Keys are what is assigned to an arm, so a comparison needs to know of them: whether both arms
got their share, whether one key is most of an arm, whether errors are many or one's. All in
bounded memory, by digests; every number only rises while the epoch lasts, so that a reader can
take the difference of two readings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TREATMENT: Final = "treatment"
CONTROL: Final = "control"
ARMS: Final = (TREATMENT, CONTROL)

#: Bits of the map of keys seen: 128 KiB. With a million keys in it a new one is still noticed
#: with a probability of 0.37, and then counts as 2.7.
MAP_BITS: Final = 2**20

#: Fewer free bits than this share, and each new key would count for so many that chance rules:
#: nothing more is counted, in either arm.
_LEAST_FREE: Final = 1 / 16

#: Candidates for busy keys; a key with more than 1/65 of the requests is always among them.
_CANDIDATES: Final = 64

#: The share of an arm's requests from which a key is told by its digest. The gates hold from 20 %
#: on; ten keys can have as much at once.
_BUSY: Final = 0.1
_LEAST_REQUESTS: Final = 50  # before, chance makes keys busy

#: Keys told for an arm: those that are busy now, and some that were.
MOST_TOLD: Final = 16

#: Keys with errors that are kept apart within a minute; each further one counts by itself.
_MOST_UNLUCKY: Final = 1024


class DistinctKeys:
    """How many different keys there were, by a map of bits (linear counting).

    A new key counts as the inverse of its chance to be noticed, which makes the sum unbiased
    and lets it only rise (Ting, KDD 2014: "streamed approximate counting"). Both arms share
    the map, so what it misses it misses in both alike.
    """

    def __init__(self, bits: int = MAP_BITS) -> None:
        self._bits = bits
        self._map = bytearray(bits // 8)
        self._free = bits

    def new(self, digest: int) -> float:
        """What a key adds to the number of keys: 0 for one that was seen before."""
        place, bit = divmod(digest % self._bits, 8)
        if self._map[place] & (1 << bit) or self._free < _LEAST_FREE * self._bits:
            return 0.0
        weight = self._bits / self._free
        self._map[place] |= 1 << bit
        self._free -= 1
        return weight


@dataclass(slots=True)
class BusyKeys:
    """The keys with many of the requests (Misra and Gries, 1982), each counted once it is found.

    Before that it is counted short, by at most 1/65 of the requests.
    """

    told: dict[int, int] = field(default_factory=dict)
    _seen: int = 0
    _candidates: dict[int, int] = field(default_factory=dict)

    def add(self, digest: int) -> None:
        """A request of a key."""
        self._seen += 1
        if digest in self.told:
            self.told[digest] += 1
            return
        candidates = self._candidates
        if digest in candidates or len(candidates) < _CANDIDATES:
            candidates[digest] = candidates.get(digest, 0) + 1
            self._tell(digest)
        else:
            self._candidates = {key: n - 1 for key, n in candidates.items() if n > 1}

    def _tell(self, digest: int) -> None:
        known = len(self.told) < MOST_TOLD and self._seen >= _LEAST_REQUESTS
        if known and self._candidates[digest] >= _BUSY * self._seen:
            self.told[digest] = self._candidates.pop(digest)


@dataclass(slots=True)
class UnluckyKeys:
    """The sum over keys of their errors squared, minute by minute."""

    squares: int = 0
    _minute: int = -1
    _errors: dict[int, int] = field(default_factory=dict)

    def add(self, digest: int, minute: int) -> None:
        """An error of a key, in a minute since 1970."""
        if minute != self._minute:
            self._minute = minute
            self._errors.clear()
        before = self._errors.get(digest, 0)
        if before or len(self._errors) < _MOST_UNLUCKY:
            self._errors[digest] = before + 1
        self.squares += 2 * before + 1


@dataclass(slots=True)
class ArmKeys:
    """What is told of one arm of one flag."""

    new: float = 0.0
    busy: BusyKeys = field(default_factory=BusyKeys)
    unlucky: UnluckyKeys = field(default_factory=UnluckyKeys)

    @property
    def busiest(self) -> Mapping[int, int]:
        """Requests of the busy keys, by digest."""
        return self.busy.told


class KeyAccount:
    """Owns what is known of the keys of one flag, since its epoch began."""

    def __init__(self) -> None:
        self.arms = {arm: ArmKeys() for arm in ARMS}
        self._epoch: int | None = None
        self._distinct = DistinctKeys()

    def ended(self, digest: int, arm: str, *, bad: bool, minute: int) -> None:
        """Count a request that ended.

        Args:
            digest: of its key, 64 bits.
            arm: that the key is in.
            bad: whether it counts as an error.
            minute: since 1970.
        """
        keys = self.arms[arm]
        keys.new += self._distinct.new(digest)
        keys.busy.add(digest)
        if bad:
            keys.unlucky.add(digest, minute)

    def begin(self, epoch: int) -> None:
        """In another epoch keys are assigned anew, so all of them are new."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._distinct = DistinctKeys()
            for keys in self.arms.values():
                keys.busy = BusyKeys()
