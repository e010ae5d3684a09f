"""The four flags: their names, sets of them, and who is in.

Assignment is by hash, not by chance: a key stays in the arm that it was given, and a key
that is in at 1 % is still in at 10 %. Every flag hashes with a salt of its own, so the
flags cross freely and each one's effect can be told apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Final

ADAPTIVE_GOVERNOR: Final = "adaptive_governor"
HTTP2_TRANSPORT: Final = "http2_transport"
TTFT_PIPELINE: Final = "ttft_pipeline"
QOS_MONITORING: Final = "qos_monitoring"

#: Every flag, in the order in which a stream meets them.
FLAGS: Final = (ADAPTIVE_GOVERNOR, HTTP2_TRANSPORT, TTFT_PIPELINE, QOS_MONITORING)

#: Buckets of the hash: one hundredth of a percent each.
BUCKETS: Final = 10_000

#: The flags that are on.
FlagSet = frozenset[str]


class FlagSetError(ValueError):
    """A text that does not name a flag set. The message says what is allowed."""


def flag_set_name(flags: Iterable[str]) -> str:
    """The short name of a set: `off`, `all`, or the names joined by `+` in canonical order."""
    members = frozenset(flags)
    return "all" if members == frozenset(FLAGS) else joined(members)


def joined(flags: Iterable[str]) -> str:
    """The names joined by `+` in canonical order, or `off`: the form of `X-Phase5-Flags`."""
    members = frozenset(flags)
    return "+".join(flag for flag in FLAGS if flag in members) or "off"


def parse_flag_set(text: str) -> FlagSet:
    """Read `off`, `all`, one flag, or flags joined by `+`.

    Raises:
        FlagSetError: for anything else; it names the given text and the allowed names.
    """
    if text == "off":
        return frozenset()
    if text == "all":
        return frozenset(FLAGS)
    names = text.split("+")
    for name in names:
        if name not in FLAGS:
            raise FlagSetError(
                f"unknown flag {name!r} in flag set {text!r}; "
                f"allowed: off, all, or any of {', '.join(FLAGS)} joined by '+'"
            )
    if len(set(names)) != len(names):
        raise FlagSetError(f"flag set {text!r} names a flag twice")
    return frozenset(names)


def every_flag_set() -> tuple[FlagSet, ...]:
    """All sixteen sets, from `off` over single flags and pairs to `all`."""
    return tuple(
        frozenset(members)
        for size in range(len(FLAGS) + 1)
        for members in combinations(FLAGS, size)
    )


def bucket(salt: str, key: str) -> int:
    """The bucket of a key under a salt, 0 to 9,999, uniform and stable across processes."""
    # A key from JSON may hold half a surrogate pair: any text has a bucket.
    text = f"{salt}:{key}".encode(errors="surrogatepass")
    digest = blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest) % BUCKETS


def assigned(salt: str, key: str, percentage: float) -> bool:
    """Whether a key is in the treatment arm at a percentage of 0 to 100."""
    # Rounded, since 0.07 * 100 is a little more than 7 in floating point.
    return bucket(salt, key) < round(percentage * (BUCKETS / 100), 6)


@dataclass(frozen=True, slots=True)
class FlagState:
    """What serves for one flag at this moment."""

    percentage: float
    salt: str


def decide(states: Mapping[str, FlagState], key: str) -> FlagSet:
    """The flags whose treatment arm holds this key. The caller pins the answer to the stream."""
    return frozenset(
        flag for flag, state in states.items() if assigned(state.salt, key, state.percentage)
    )
