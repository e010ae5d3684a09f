"""Memory that each request leaves behind: judged part by part, and never without readings."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest
from gate_builders import measurement

from gates.criteria import Criterion, Kind, Measure, Outcome
from gates.findings import Finding
from gates.groups import grouped
from gates.kinds import assess
from gates.usage import ENGINE, FRONT_END, RUNTIME, Usage, usage_from_row, usage_row

LIMIT = 16_384.0
LEAK = Criterion(
    id="no_leak",
    kind=Kind.CEILING,
    measure=Measure.MEMORY_SLOPE,
    direction="lower",
    limit=LIMIT,
    min_samples=1_000,
)


def readings(part: str, per_request: float, requests: int = 1_000) -> list[Usage]:
    """Fifty readings in a memory that breathes by 100 KiB."""
    random = Random(part)  # noqa: S311 - reproducible noise
    return [
        Usage(
            at=number / 10,
            part=part,
            requests=requests * number // 50,
            rss_bytes=70_000_000 + int(per_request * requests * number / 50 + random.gauss(0, 1e5)),
        )
        for number in range(51)
    ]


def outcomes(usage: Iterable[Usage]) -> dict[str, Finding]:
    (group,) = grouped([measurement("t", ["no_leak"], usage=tuple(usage))])
    return {
        next((part for part in (FRONT_END, RUNTIME) if part in f.reason), ""): f
        for f in assess(LEAK, group)
    }


def test_memory_that_stays_passes() -> None:
    found = outcomes([*readings(FRONT_END, 0), *readings(RUNTIME, 100)])
    assert {part: f.outcome for part, f in found.items()} == {
        FRONT_END: Outcome.PASS,
        RUNTIME: Outcome.PASS,
    }


@pytest.mark.parametrize("part", [FRONT_END, RUNTIME])
def test_the_part_that_keeps_what_it_served_fails(part: str) -> None:
    sound = FRONT_END if part == RUNTIME else RUNTIME
    found = outcomes([*readings(part, 2 * LIMIT), *readings(sound, 0)])
    assert found[part].outcome is Outcome.FAIL
    assert found[part].attributed
    assert found[sound].outcome is Outcome.PASS
    assert "> 16 KiB" in found[part].reason


def test_a_cache_that_fills_within_its_budget_is_no_leak() -> None:
    filling = [
        Usage(at=float(n), part=ENGINE, requests=0, prefix_bytes=int(n * 2 * LIMIT * 200))
        for n in range(6)
    ]
    found = outcomes([*readings(RUNTIME, 2 * LIMIT), *filling])
    assert found[RUNTIME].outcome is Outcome.PASS
    found = outcomes([*readings(FRONT_END, 2 * LIMIT), *filling])
    assert found[FRONT_END].outcome is Outcome.FAIL


def test_fewer_requests_than_asked_for_do_not_pass() -> None:
    (finding,) = outcomes(readings(FRONT_END, 0, requests=900)).values()
    assert (finding.outcome, finding.needs) == (Outcome.INCONCLUSIVE, 100)


def test_a_bound_over_the_limit_does_not_pass() -> None:
    (finding,) = outcomes(readings(FRONT_END, LIMIT)).values()
    assert finding.outcome is Outcome.INCONCLUSIVE


def test_no_reading_is_no_pass() -> None:
    (finding,) = outcomes([]).values()
    assert finding.outcome is Outcome.NO_DATA
    (finding,) = outcomes([Usage(at=0.0, part=ENGINE, requests=1_000, kv_bytes=1)]).values()
    assert finding.outcome is Outcome.NO_DATA


def test_a_part_whose_memory_could_not_be_read_does_not_go_missing() -> None:
    blind = [replace(reading, rss_bytes=None) for reading in readings(RUNTIME, 0)]
    found = outcomes([*readings(FRONT_END, 0), *blind])
    assert found[RUNTIME].outcome is Outcome.INCONCLUSIVE


def test_what_was_read_in_the_warm_up_says_nothing() -> None:
    growing = [
        Usage(at=-float(n), part=FRONT_END, requests=0, rss_bytes=n * 1_000_000) for n in range(60)
    ]
    (finding,) = outcomes([*growing, *readings(FRONT_END, 0)]).values()
    assert finding.outcome is Outcome.PASS


def test_a_reading_survives_its_row() -> None:
    reading = Usage(at=1.5, part=RUNTIME, requests=3, rss_bytes=1, cpu_seconds=0.25)
    assert usage_from_row(usage_row(reading)) == reading


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rss_bytes": 1.5}, "rss_bytes"),
        ({"requests": None}, "requests"),
        ({"at": True}, "at"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_row_that_is_none_names_the_field(change: dict[str, object], named: str) -> None:
    row = usage_row(Usage(at=1.5, part=RUNTIME, requests=3))
    with pytest.raises(ValueError, match=named):
        usage_from_row(row | change)
