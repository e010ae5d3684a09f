"""At which boundaries of a prompt its KV cache is worth a copy.

Prompts share whole turns: the system prompt, then the conversation up to a message. The front
end sends these boundaries with each prompt. Most are never seen again, and a prompt that is
stored whole serves its beginnings too wherever the cache can be cut. So a boundary is worth
stopping at when another prompt has had the same beginning; and where caches cannot be cut, the
first boundary always is, since nothing else would keep what conversations have in common.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

#: Boundaries that are remembered: some hundred conversations of ten turns. 100 bytes each.
MAX_REMEMBERED: Final = 4_096

_HASH_BYTES: Final = 8


class Checkpoints:
    """Remembers which beginnings were seen; the least recently seen is forgotten first.

    Args:
        least: tokens below which a beginning is not worth keeping.
        cuts: whether the cache of a longer prompt serves its beginnings.
    """

    def __init__(self, least: int, *, cuts: bool, remembered: int = MAX_REMEMBERED) -> None:
        self._least = least
        self._cuts = cuts
        self._remembered = remembered
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, prompt: Sequence[int], boundaries: Sequence[int]) -> None:
        """A prompt has come. Boundaries are lengths, in rising order."""
        for key in self._keys(prompt, boundaries).values():
            self._seen[key] = self._seen.pop(key, 0) + 1
        while len(self._seen) > self._remembered:
            self._seen.popitem(last=False)

    def worth(self, prompt: Sequence[int], boundaries: Sequence[int]) -> list[int]:
        """The boundaries to stop at, of a prompt that was noted."""
        keys = self._keys(prompt, boundaries)
        first = min(keys, default=0)
        return [
            length
            for length, key in keys.items()
            if self._seen.get(key, 0) > 1 or (length == first and not self._cuts)
        ]

    def _keys(self, prompt: Sequence[int], boundaries: Sequence[int]) -> dict[int, bytes]:
        """A hash of each beginning that is long enough, by its length."""
        data, chain, at = memoryview(array("Q", prompt)), blake2b(digest_size=_HASH_BYTES), 0
        keys: dict[int, bytes] = {}
        for length in boundaries:
            if self._least <= length < len(prompt):
                chain.update(data[at:length].cast("B"))
                at = length
                keys[length] = chain.digest()
        return keys
