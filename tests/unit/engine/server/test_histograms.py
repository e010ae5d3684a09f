from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from engine.server.histograms import TokenHistogram

BOUNDS = (0.001, 0.0025, 1.0, 5.0)
VALUES = st.lists(st.floats(0, 10) | st.sampled_from(BOUNDS), max_size=20)


@given(on=VALUES, off=VALUES)
def test_it_shows_what_the_library_s_own_histogram_shows(on: list[float], off: list[float]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # they do not annotate it
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    theirs_made = Histogram("gap_seconds", "Gaps", ("flag",), buckets=BOUNDS, registry=theirs)
    children = [("on",), ("off",)]
    ours_made = TokenHistogram(
        name="gap_seconds",
        text="Gaps",
        labels=("flag",),
        bounds=BOUNDS,
        children=children,
        registry=ours,
    )
    for flag, values in (("on", on), ("off", off)):
        child = theirs_made.labels(flag)
        for value in values:
            child.observe(value)
            ours_made.children[(flag,)].observe(value)
    assert generate_latest(ours) == generate_latest(theirs)
