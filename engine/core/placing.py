"""Which replica a new stream goes to.

The least loaded one, unless another has read the beginning of the prompt before. What a
replica has read is only guessed from what was sent there: the replica itself decides what
it can reuse, and a wrong guess costs a prefill, never a wrong answer.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

#: Tokens of a block: the shortest prefix that a process keeps (`engine.runtime.prefixes`).
BLOCK_TOKENS: Final = 32

#: Streams that an affine replica may have more than the least loaded one. On `smollm2-135m`
#: 200 known tokens save 480 ms of prefill, and each stream more in a batch makes a step 4 ms
#: longer: 120 ms over an answer of 30 tokens. Four such streams eat up what affinity saves.
AFFINITY_MARGIN: Final = 4

#: Blocks remembered for a replica: what 256 MiB, the default prefix store, hold of `tiny`,
#: whose tokens take 1 KiB each. Larger models hold fewer.
MAX_BLOCKS: Final = 8_192

_HASH_BYTES: Final = 8

Reason = Literal["affinity", "least loaded", "affinity yields", "waits"]


@dataclass(frozen=True, slots=True)
class Load:
    """A replica as a new stream finds it; `known` blocks of its prompt were sent there before."""

    replica: int
    streams: int
    ready: bool
    known: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stream goes, and why."""

    replica: int
    reason: Reason


def place(loads: Sequence[Load]) -> Placement | None:
    """Choose among replicas that may serve; None when there is none.

    While none is ready, the stream waits in the one with the fewest streams.
    """
    ready = [load for load in loads if load.ready]
    least = min(ready or loads, key=lambda load: (load.streams, load.replica), default=None)
    if least is None:
        return None
    if not ready:
        return Placement(least.replica, "waits")
    affine = max(ready, key=lambda load: (load.known, -load.streams, -load.replica))
    if affine.known == 0:
        return Placement(least.replica, "least loaded")
    if affine.streams - least.streams > AFFINITY_MARGIN:
        return Placement(least.replica, "affinity yields")
    return Placement(affine.replica, "affinity")


def block_hashes(prompt: Sequence[int]) -> list[bytes]:
    """One hash for each whole block of a prompt, over it and all blocks before it."""
    data = memoryview(array("Q", prompt)).cast("B")
    size = BLOCK_TOKENS * 8
    hashes: list[bytes] = []
    chain = blake2b(digest_size=_HASH_BYTES)
    for start in range(0, len(data) - size + 1, size):
        chain.update(data[start : start + size])
        hashes.append(chain.digest())
    return hashes


class PrefixIndex:
    """The blocks that one replica was sent, the least recently used forgotten first."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def known(self, hashes: Iterable[bytes]) -> int:
        """How many blocks from the beginning of a prompt were sent before."""
        count = 0
        for block in hashes:
            if block not in self._blocks:
                break
            count += 1
        return count

    def remember(self, hashes: Sequence[bytes]) -> None:
        """Note what is sent now. Of a prompt too long for the index its beginning counts."""
        # The beginning last: a block is of no use once those before it are forgotten.
        for block in reversed(hashes[: self._max_blocks]):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the replica's process is a new one."""
        self._blocks.clear()
