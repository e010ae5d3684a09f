"""Raw samples as minutes: the way of a load run, or an export, into live judging."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gates.eprocess import Array, Flags, Numbers
from gates.minutes import Columns, Minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One entry a request, in any order.

    Raises:
        ValueError: values that are not numbers.
    """

    minute: Numbers  #: in which it ended, since 1970
    treated: Flags
    failed: Flags
    ttft: Array  #: seconds; infinite where no token came
    latency: Array

    def __post_init__(self) -> None:
        for name in ("ttft", "latency"):
            missing = int(np.isnan(getattr(self, name)).sum())
            if missing:
                raise ValueError(f"{name}: {missing} values are not numbers")


def minutes_of(raw: Raw, ttft_edges: Sequence[float], latency_edges: Sequence[float]) -> Minutes:
    """Count samples by minute and arm; minutes without any are not there.

    Raises:
        ValueError: for no samples.
    """
    if not len(raw.minute):
        raise ValueError("no samples")
    present, place = np.unique(raw.minute, return_inverse=True)
    ttft, latency = (
        np.searchsorted(np.asarray(edges), values, side="left")
        for edges, values in ((ttft_edges, raw.ttft), (latency_edges, raw.latency))
    )
    treatment, control = (
        _columns(
            len(present),
            place[arm],
            raw.failed[arm],
            (ttft[arm], len(ttft_edges) + 1),
            (latency[arm], len(latency_edges) + 1),
        )
        for arm in (raw.treated, ~raw.treated)
    )
    return Minutes(minute=present, first=int(present[0]), treatment=treatment, control=control)


def _columns(
    length: int,
    place: Numbers,
    failed: Flags,
    ttft: tuple[Numbers, int],
    latency: tuple[Numbers, int],
) -> Columns:
    n = np.bincount(place, minlength=length).astype(np.float64)
    bad = np.bincount(place[failed], minlength=length).astype(np.float64)
    none = np.zeros(length)
    return Columns(
        n=n,
        bad=bad,
        keyed=bad,
        ended=n,
        assigned=n,
        shed=none,
        early=none,
        ttft=_buckets(length, place, *ttft),
        latency=_buckets(length, place, *latency),
    )


def _buckets(length: int, place: Numbers, bucket: Numbers, buckets: int) -> Array:
    counts = np.bincount(place * buckets + bucket, minlength=length * buckets)
    return counts.reshape(length, buckets).astype(np.float64)
