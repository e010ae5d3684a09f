import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import FakeEngine, running
from gate_builders import sample
from guard_builders import view
from made_up_minutes import ENTERED, Clock, MadeUp, guard_on
from memory_store import MemoryStore

from engine.core.flags import FLAGS
from gates.engines import clients
from gates.guarding.drill import Drilled, Stretch, journal_of, lines
from gates.guarding.live_drill import LiveDrill, live_lines, rehearse_live
from gates.guarding.rehearsal import DrillError, Timing
from gates.journal import ChaosVerdict
from gates.samples import Outcome, Sample
from gates.standing import Standing

FLAG = "ttft_pipeline"
TIMING = Timing(detect=0.1, decide=0.2, apply=0.3, converge=0.4, engines={"u": 0.3})
BEGUN = 10.0


def asked(index: int, sent: float, flags: str = "off", **more: object) -> Sample:
    fine = sample(index, flags, sent=sent, scheduled=sent, first_token=sent + 0.1, end=sent + 2)
    return replace(fine, **more)  # type: ignore[arg-type] # the fields of Sample


FINE = (asked(0, 9.5, FLAG), asked(1, 9.8), asked(2, 10.5), asked(3, 11.0))
OFF = {FLAG: replace(view().flags[FLAG], percentage=0.0, effective=0.0, brake="b1")}


def drilled(samples: tuple[Sample, ...] = FINE, **more: object) -> Drilled:
    fine = Drilled(
        flag=FLAG,
        timing=TIMING,
        begun=BEGUN,
        stretches=(Stretch(url="u", origin=0.0, samples=samples),),
        engines=(replace(view(), flags=OFF),),
    )
    return replace(fine, **more)  # type: ignore[arg-type] # the fields of Drilled


def test_a_rollback_that_nobody_noticed_passes() -> None:
    journal = journal_of(drilled(), {"flag": FLAG})
    assert journal.verdict is ChaosVerdict.PASS
    assert (journal.steady_before, journal.steady_after, journal.proven) == (True, True, True)
    assert (journal.lost_streams, journal.recovery_seconds) == (0, 0.4)
    assert journal.measured["live_streams"] == 2
    assert journal.measured["treated_before"] == 1
    assert "drill: pass" in lines(drilled(), journal)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": (*FINE, asked(4, 9.9, outcome=Outcome.CUT, end=None))}, "1 accepted streams"),
        ({"samples": (*FINE, asked(4, 9.9, outcome=Outcome.FAILED))}, "1 accepted streams lost"),
        ({"samples": (*FINE, asked(4, 10.4, FLAG))}, "1 requests got ttft_pipeline after"),
        ({"engines": (view(),)}, "serves ttft_pipeline again"),
        ({"problems": ("history: edited",)}, "history: edited"),
        (
            {"stretches": (Stretch(url="u", origin=0.0, samples=FINE, trouble="it was late"),)},
            "it was late",
        ),
    ],
)
def test_a_rollback_that_somebody_noticed_fails(change: dict[str, object], words: str) -> None:
    samples = change.pop("samples", FINE)
    journal = journal_of(drilled(samples, **change), {})  # type: ignore[arg-type] # as above
    assert journal.verdict is ChaosVerdict.FAIL
    assert any(words in reason for reason in journal.reasons)


@pytest.mark.parametrize(
    ("samples", "name"),
    [
        ((), "steady_before"),
        ((asked(0, 9.5), asked(2, 10.5)), "proven"),
        ((asked(0, 9.5, FLAG),), "steady_after"),
        ((asked(0, 5.0, FLAG), asked(2, 10.5)), "steady_before"),
    ],
)
def test_a_rollback_that_fell_into_silence_shows_nothing(
    samples: tuple[Sample, ...], name: str
) -> None:
    assert getattr(journal_of(drilled(samples), {}), name) is False


# --- on live engines


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[MemoryStore, list[FakeEngine], Path]]:
    flags = {
        flag: Standing(
            stage="early" if flag == FLAG else "off",
            enabled=flag == FLAG,
            percentage=10.0 if flag == FLAG else 0.0,
            entered_at=ENTERED,
            epoch=3,
        )
        for flag in FLAGS
    }
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                running(FakeEngine(engine_id=name, generation=7, shares={FLAG: 10.0}))
            )
            for name in ("e1", "e2")
        ]
        yield MemoryStore(flags), engines, tmp_path / "drill"


def rehearse(
    live: tuple[MemoryStore, list[FakeEngine], Path], *, agreed: bool = True
) -> LiveDrill | None:
    store, engines, folder = live
    guard = guard_on(folder, store, MadeUp(), Clock())

    async def drill() -> LiveDrill | None:
        async with clients([engine.url for engine in engines]) as asked_ones:
            return await rehearse_live(guard, asked_ones, lambda _: agreed)

    try:
        return asyncio.run(drill())
    finally:
        guard.ledgers.close()


def count_nothing(monkeypatch: pytest.MonkeyPatch, *bad: int) -> None:
    """What the engines' counters say, look by look."""
    told = iter(bad)

    async def _bad(_engines: object) -> int:
        return next(told)

    monkeypatch.setattr("gates.guarding.live_drill._bad", _bad)


def test_a_live_drill_rolls_back_and_blames_nobody(
    live: tuple[MemoryStore, list[FakeEngine], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_nothing(monkeypatch, 3, 3)
    found = rehearse(live)
    assert found is not None
    assert found.passed
    assert found.flags == {FLAG: "early"}
    assert set(found.engines) == {engine.url for engine in live[1]}
    store = live[0]
    assert store.flags[FLAG].stage == "off"
    assert store.flags[FLAG].tombstones == ()
    assert store.records[-1].cause == "drill"
    assert "drill: pass" in live_lines(found)


def test_a_live_drill_that_somebody_noticed_fails(
    live: tuple[MemoryStore, list[FakeEngine], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_nothing(monkeypatch, 3, 4)
    found = rehearse(live)
    assert found is not None
    assert not found.passed


def test_nothing_happens_before_somebody_agreed(
    live: tuple[MemoryStore, list[FakeEngine], Path],
) -> None:
    assert rehearse(live, agreed=False) is None
    assert live[0].generation == 7
    assert all(not engine.brakes for engine in live[1])


def test_where_every_flag_is_off_there_is_nothing_to_drill(
    live: tuple[MemoryStore, list[FakeEngine], Path],
) -> None:
    store = live[0]
    store.flags = {flag: Standing() for flag in FLAGS}
    with pytest.raises(DrillError, match="every flag is off"):
        rehearse(live)
