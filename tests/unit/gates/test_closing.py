from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from live_builders import FIRST, counts

from gates.closing import Reading, closed
from gates.ledger import CONTROL, TREATMENT, Counts


def reading(engine: str, times: int, *, crashes: int = 0, commit: str = "abc") -> Reading:
    """Counters after so many equal minutes."""
    arms = (counts(TREATMENT, 60 * times, 2 * times), counts(CONTROL, 240 * times))
    return Reading(
        engine=engine,
        commit=commit,
        config_sha256="def",
        counts=tuple(replace(arm, new_keys=times) for arm in arms),
        crashes=crashes,
        cells={"off": (240 * times, 0, 240 * times, 0)},
    )


def fleet(**engines: Reading) -> dict[str, Reading]:
    return dict(engines)


def test_a_minute_is_what_came_between_two_readings_of_all_engines() -> None:
    before = fleet(e1=reading("e1", 5), e2=reading("e2", 9))
    after = fleet(e1=reading("e1", 6), e2=reading("e2", 10))
    row = closed(FIRST, before, after)
    treatment, control = row.counts
    assert (treatment.n, treatment.bad, control.n) == (120, 4, 480)
    assert sum(treatment.ttft) == 120
    assert (treatment.new_keys, treatment.bad_squares) == (2, None)
    assert row.cells == {"off": (480, 0, 480, 0)}
    assert (row.engines, row.commit, row.invalid) == (("e1", "e2"), "abc", "")


@given(st.integers(1, 9), st.integers(0, 8))
def test_a_counter_that_fell_makes_the_minute_invalid(before: int, after: int) -> None:
    row = closed(FIRST, fleet(e1=reading("e1", before)), fleet(e1=reading("e1", after)))
    assert bool(row.invalid) is (after < before)
    assert bool(row.counts) is (after >= before)


def test_an_engine_that_is_lost_or_new_makes_the_minute_invalid() -> None:
    both, one = fleet(e1=reading("e1", 1), e2=reading("e2", 1)), fleet(e1=reading("e1", 1))
    assert closed(FIRST, both, one).invalid == "no answer from e2"
    assert closed(FIRST, one, both).invalid == "e2 began within the minute"
    assert closed(FIRST, one, {}).invalid == "no engine answered"


def test_engines_of_different_builds_make_the_minute_invalid() -> None:
    before = fleet(e1=reading("e1", 1), e2=reading("e2", 1))
    after = fleet(e1=reading("e1", 2), e2=reading("e2", 2, commit="new"))
    assert closed(FIRST, before, after).invalid == "engines differ in commit: abc, new"


def test_a_crash_is_kept_though_the_minute_is_invalid() -> None:
    row = closed(FIRST, fleet(e1=reading("e1", 9)), fleet(e1=reading("e1", 0, crashes=1)))
    assert row.invalid
    assert row.crashes == {"e1": 1}


def test_engines_stay_apart_where_blocks_are_assigned() -> None:
    before = fleet(e1=reading("e1", 5), e2=reading("e2", 5))
    treated = replace(
        reading("e1", 5), counts=(counts(TREATMENT, 350, 10), *before["e1"].counts[1:])
    )
    after = fleet(e1=treated, e2=reading("e2", 5))
    row = closed(FIRST, before, after, by_block=True)
    assert [(c.engine, c.arm, c.n) for c in row.counts] == [("e1", TREATMENT, 50)]


def test_what_an_engine_does_not_tell_stays_unknown() -> None:
    silent = Reading(engine="e1", commit="abc", config_sha256="def", counts=(Counts(arm=CONTROL),))
    told = replace(silent, counts=(Counts(arm=CONTROL, ok=3),))
    assert closed(FIRST, fleet(e1=silent), fleet(e1=told)).counts[0].new_keys is None
