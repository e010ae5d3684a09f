"""Which step is the last, who gave way, and what is then known of the server: table and rows."""

from dataclasses import replace
from typing import Any

import pytest

from gates.evidence import EngineIdentity
from gates.samples import Outcome, Sample
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import Setting, plans_of
from pytest_phase5.load.checks import RunReport, faults
from pytest_phase5.load.grids import knee_text
from pytest_phase5.load.knee import knee, step_rows
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.profiles import Part, Steps
from pytest_phase5.load.running import PartResult
from pytest_phase5.load.stepping import Search

RATES = (10.0, 20.0, 40.0, 80.0)
PART = Part(name="steps", load=Steps(rates=RATES, seconds=2))
(PLAN,) = plans_of(PART, Setting(url="http://127.0.0.1:1"))
ENGINE = Engine(
    url="http://127.0.0.1:1", h2_url=None, flag_set="off",
    identity=EngineIdentity(
        flag_set="off", model="tiny", model_sha256="aa", engine_version="0", commit="c",
        config_sha256="f",
    ),
)  # fmt: skip


def sent(plan: Plan, block: int, *, lag: float = 0.0, ttft: float = 0.1) -> list[Sample]:
    """The samples of a step: each request late by `lag`, its first token `ttft` after sending."""
    (shots,) = [shots for number, shots in enumerate(plan.shots()) if number == block]
    return [
        Sample(
            index=shot.index or 0, arm=shot.arm, block=block, scheduled=shot.due,
            sent=shot.due + lag, first_token=shot.due + lag + ttft, end=shot.due + lag + ttft + 0.1,
            outcome=Outcome.OK, protocol="h1",
        )
        for shot in shots
    ]  # fmt: skip


FINE: dict[str, Any] = {}
LATE = {"lag": 0.05}
SLOW = {"ttft": 0.6}
SLOW_AND_LATE = {"lag": 0.05, "ttft": 0.6}
LATE_ALONE_TOO_SLOW = {"lag": 0.3, "ttft": 0.4}

#: The steps in order, the last one sent, who gave way, and the knee: held, broke, beyond.
SEARCHES: dict[str, tuple[list[dict[str, Any]], int | None, str | None, Any]] = {
    "nobody": ([FINE] * 4, None, None, (80, None, None)),
    "the server": ([FINE, FINE, SLOW], 3, "server", (20, 40, None)),
    "the server at once": ([SLOW], 1, "server", (None, 10, None)),
    "the generator": ([FINE, LATE, LATE], 3, "generator", (10, None, 20)),
    "the generator at once": ([LATE, LATE], 2, "generator", (None, None, 10)),
    "a noisy second": ([FINE, LATE, FINE, SLOW], 4, "server", (40, 80, None)),
    "late twice, not in a row": ([LATE, FINE, LATE, FINE], None, None, (80, None, None)),
    "late at the end": ([FINE, FINE, FINE, LATE], None, None, (40, None, 80)),
    "both": ([FINE, SLOW_AND_LATE], 2, "server", (10, 20, None)),
    "late, and slow only for it": (
        [FINE, LATE_ALONE_TOO_SLOW, LATE_ALONE_TOO_SLOW], 3, "generator", (10, None, 20)
    ),
}  # fmt: skip


def searched(steps: list[dict[str, Any]]) -> tuple[Search, list[Sample]]:
    assert PLAN.stop is not None
    search, samples = Search(PLAN, PLAN.stop), sent(PLAN, 0, **SLOW_AND_LATE)
    for block, changes in enumerate(steps, start=1):
        assert search.end is None
        step = sent(PLAN, block, **changes)
        samples += step
        assert search.is_over(step) == (search.end is not None)
    return search, samples


def part_of(search: Search, samples: list[Sample], **changes: Any) -> PartResult:
    end = search.end
    part = PartResult(
        part=PART, engine=ENGINE, driver="http1", samples=tuple(samples), late=tuple(search.late),
        stopped_at=end and end.block, stopped_by=end and end.by, stop_reason=end.why if end else "",
    )  # fmt: skip
    return replace(part, **changes)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_ends_with_who_gave_way_and_tells_what_held(name: str) -> None:
    steps, last, by, (held, broke, beyond) = SEARCHES[name]
    search, samples = searched(steps)
    assert (search.end and search.end.block, search.end and search.end.by) == (last, by)
    found = knee(part_of(search, samples))
    assert found is not None
    assert (found["held"], found["broke"], found["beyond"]) == (held, broke, beyond)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_valid_unless_the_generator_was_late_from_the_first_step(name: str) -> None:
    search, samples = searched(SEARCHES[name][0])
    end = search.end
    report = RunReport(
        complete=True, reason="", started="", origin=0.0, rows=len(samples), loop="x",
        stopped_at=end and end.block, stopped_by=end and end.by, late=tuple(search.late),
    )  # fmt: skip
    reasons = list(faults(PLAN, samples, report))
    if name == "the generator at once":
        assert reasons == ["no step could be judged: "]
    else:
        assert reasons == []
    # Without the generator's own word that it was late, a late step that counts is a fault.
    forgot = list(faults(PLAN, samples, replace(report, late=())))
    assert any("dispatch lag" in reason for reason in forgot) == any(
        step in search.late and step != last_of(search) for step in range(1, 5)
    )


def last_of(search: Search) -> int | None:
    return search.end.block if search.end else None


def test_a_step_that_both_did_not_hold_says_so() -> None:
    search, _ = searched([FINE, SLOW_AND_LATE])
    assert search.end is not None
    assert search.end.why == (
        "goodput 0.00% < 95.00% of offered (n=50) "
        "(also counted from the sending; the generator: dispatch lag p99 50.0 ms > 27.5 ms)"
    ).replace("n=50", f"n={len(PLAN.blocks[2].requests)}")


def test_a_request_without_room_is_the_generators_failure() -> None:
    search, _ = searched([])
    gone = [
        replace(s, outcome=Outcome.DROPPED, sent=None, first_token=None, end=None)
        if s.index % 50 == 0 else s
        for s in sent(PLAN, 4)
    ]  # fmt: skip
    assert not search.is_over(gone)
    assert search.late == [4]


def test_a_step_that_was_interrupted_is_not_known_to_have_held() -> None:
    search, samples = searched([FINE, FINE])
    part = part_of(search, samples, complete=False)
    found, rows = knee(part), step_rows(part)
    assert found is not None
    assert found["held"] == 10
    assert rows is not None
    assert [(row["rate"], row["end"]) for row in rows] == [(10, "held"), (20, "not finished")]


def test_rows_of_steps_tell_what_was_sent_and_how_it_went() -> None:
    search, samples = searched([FINE, LATE, FINE, SLOW])
    rows = step_rows(part_of(search, samples))
    assert rows is not None
    assert [row["end"] for row in rows] == ["held", "generator late", "held", "broke"]
    assert [round(row["lag_p99_ms"]) for row in rows] == [0, 50, 0, 0]
    assert [round(row["ttft_p95_ms"]) for row in rows] == [100, 150, 100, 600]
    assert [row["good_share"] for row in rows] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("held", "broke", "beyond", "text"),
    [
        (8, 12, None, "knee: held 8/s, broke at 12/s: slow"),
        (None, 8, None, "knee: no step held, broke at 8/s: slow"),
        (8, None, 12, "knee: beyond what was shown (held 8/s); at 12/s the generator was late"),
        (12, None, None, "knee: held 12/s, none broke"),
    ],
)
def test_the_knee_in_words(
    held: float | None, broke: float | None, beyond: float | None, text: str
) -> None:
    assert knee_text({"held": held, "broke": broke, "beyond": beyond, "why": "slow"}) == text
