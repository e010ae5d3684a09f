import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.histogram import Histogram
from gates.raw_minutes import Raw, minutes_of

EDGES = (0.1, 0.55, 2.0)
samples = st.lists(
    st.tuples(
        st.integers(100, 104), st.booleans(), st.booleans(), st.floats(0, 5), st.floats(0, 5)
    ),
    min_size=1,
    max_size=60,
)


def raw(rows: list[tuple[int, bool, bool, float, float]]) -> Raw:
    minute, treated, failed, ttft, latency = zip(*rows, strict=True)
    return Raw(
        minute=np.array(minute),
        treated=np.array(treated),
        failed=np.array(failed),
        ttft=np.array(ttft),
        latency=np.array(latency),
    )


@given(samples)
def test_every_sample_counts_once_in_its_minute_arm_and_bucket(
    rows: list[tuple[int, bool, bool, float, float]],
) -> None:
    minutes = minutes_of(raw(rows), EDGES, EDGES)
    for place, minute in enumerate(minutes.minute):
        for arm, treated in ((minutes.treatment, True), (minutes.control, False)):
            own = [row for row in rows if row[0] == minute and row[1] is treated]
            assert arm.n[place] == len(own)
            assert arm.bad[place] == sum(row[2] for row in own)
            histogram = Histogram.of(np.array([row[3] for row in own]), EDGES)
            assert tuple(arm.ttft[place]) == histogram.counts


def test_what_is_no_number_and_what_is_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ttft: 1 values are not numbers"):
        raw([(1, True, False, float("nan"), 1.0)])
    empty = np.array([])
    none = Raw(
        minute=empty.astype(np.int64),
        treated=empty.astype(np.bool_),
        failed=empty.astype(np.bool_),
        ttft=empty,
        latency=empty,
    )
    with pytest.raises(ValueError, match="no samples"):
        minutes_of(none, EDGES, EDGES)
