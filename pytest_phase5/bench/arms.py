"""Who is measured beside whom. Pure."""

from collections.abc import Sequence
from random import Random
from typing import Final

#: `mlx_lm.server` with its defaults, and with a batch as wide as there are streams.
PEER: Final = "peer"
PEER_WIDE: Final = "peer-wide"
#: This engine with every flag off, and with every flag on.
OFF: Final = "off"
ON: Final = "on"
ARMS: Final = (PEER, PEER_WIDE, OFF, ON)
PEERS: Final = (PEER, PEER_WIDE)

#: Streams that `mlx_lm.server` decodes together unless it is told otherwise.
DECODE_CONCURRENCY: Final = 32

#: What is divided by what: the peer stands for its better row.
RATIOS: Final = ((ON, PEER), (OFF, PEER), (ON, OFF))


def taking_part(streams: int) -> tuple[str, ...]:
    """The arms for so many streams: up to its default the wide peer is the peer."""
    return ARMS if streams > DECODE_CONCURRENCY else (PEER, OFF, ON)


def orders(arms: Sequence[str], rounds: int, random: Random) -> list[list[str]]:
    """The order of the arms in each round, drawn anew, so that drift favours none."""
    return [random.sample(list(arms), len(arms)) for _ in range(rounds)]
