"""What is simulated, and what must come out. One table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from typing import Final

from engine.core.flags import FLAGS, FlagSet
from gates.simulation.traffic import MODELS, Change, Model

#: Requests a minute of one flag's treatment at canary, and of the control beside it.
TREATED: Final = 60.0
BESIDE: Final = 240.0

#: Requests a minute of a whole fleet at 100 a second, of which canary takes 1 %.
FLEET: Final = 6_000.0

_DAY: Final = 24 * 60

#: A regression that comes late comes here: half a day of sound traffic, and half an hour.
LATE: Final = 12 * 60 + 30


class Counts(StrEnum):
    """What a scenario measures."""

    ROLLBACKS = "rolled back"  #: runs in which any flag was
    PROMOTIONS = "promoted"  #: runs in which any flag may be promoted at the end
    REQUESTS = "treated requests to rollback"  #: their median, from when it went wrong
    MINUTES = "minutes to rollback"  #: their maximum, from when it went wrong
    WRONG = "wrong flag"  #: runs in which a sound flag was rolled back


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One cell of the table."""

    name: str
    model: Model
    counts: Counts
    target: float  #: the bound; a share, or a number
    change: Change = field(default_factory=Change)
    rates: Mapping[FlagSet, float] = field(default_factory=dict)
    stage: str = "canary"
    length: int = _DAY  #: minutes
    runs: int = 100
    long: bool = False  #: `--fast` shortens it
    at_least: bool = False  #: the target is a lower bound
    demands: tuple[str, ...] = ()  #: criteria for a promotion; none: soak and all critical ones

    @property
    def guilty(self) -> FlagSet:
        """The flags that are wrong."""
        return self.change.flags or frozenset()


ONE: Final = frozenset({"ttft_pipeline"})
_SINGLE: Final = {ONE: TREATED, frozenset[str](): BESIDE}


def crossed(share: float, total: float) -> dict[FlagSet, float]:
    """The rates of all flag sets when each flag takes a share of the traffic independently."""
    rates: dict[FlagSet, float] = {}
    for on in product((True, False), repeat=len(FLAGS)):
        chance = 1.0
        for each in on:
            chance *= share if each else 1 - share
        name = frozenset(flag for flag, each in zip(FLAGS, on, strict=True) if each)
        rates[name] = total * chance
    return rates


def _single(name: str, model: str, counts: Counts, target: float, **more: object) -> Scenario:
    given = {"rates": _SINGLE, **more}
    return Scenario(name=name, model=MODELS[model], counts=counts, target=target, **given)  # type: ignore[arg-type] # the fields of Scenario, checked at run time by it


def _wrong(errors: float | None = None, slower: float = 1.0, since: int = 0) -> Change:
    return Change(errors=errors, slower=slower, since=since, flags=ONE)


#: At most one sound flag in a hundred is rolled back at a stage.
_FALSE: Final = 0.01

#: None of so many runs shows a share under 1 % at 95 %.
_MANY: Final = 300

_SOUND: Final = (
    *(
        _single(f"{name}: treatment equals control", name, Counts.ROLLBACKS, _FALSE, runs=_MANY)
        for name in ("E1", "E2", "E3", "E4")
    ),
    _single("E6: treatment equals control, noisy hosts", "E6", Counts.ROLLBACKS, 0.03, runs=_MANY),
    _single(
        "E4: four flags at canary",
        "E4",
        Counts.ROLLBACKS,
        _FALSE,
        rates=crossed(0.01, FLEET),
        runs=_MANY,
    ),
    _single(
        "E4: four flags at mid",
        "E4",
        Counts.ROLLBACKS,
        _FALSE,
        rates=crossed(0.5, 2 * TREATED),
        stage="mid",
        length=3 * _DAY,
        long=True,
        runs=_MANY,
    ),
    _single(
        "E4: four flags, 30 days at full",
        "E4",
        Counts.ROLLBACKS,
        _FALSE,
        rates=crossed(0.99, FLEET),
        stage="full",
        length=30 * _DAY,
        long=True,
        runs=_MANY,
    ),
)

_AT_THE_LIMIT: Final = replace(MODELS["E1"], name="E1", errors=0.0002)

_UNSOUND: Final = (
    *(
        _single(name, "E3", Counts.PROMOTIONS, _FALSE, change=change, runs=_MANY)
        for name, change in (
            ("errors 0.2 %", _wrong(0.002)),
            ("P95 605 ms", _wrong(slower=1.21)),
            ("P95 605 ms in both arms", Change(slower=1.21)),
        )
    ),
    _single("errors exactly 0.1 %", "E1", Counts.PROMOTIONS, 0.05, change=_wrong(0.001)),
    Scenario(
        name="P95 exactly 550 ms in both arms",
        model=_AT_THE_LIMIT,
        counts=Counts.PROMOTIONS,
        target=0.05,
        change=Change(slower=1.1),
        rates=_SINGLE,
    ),
    Scenario(
        name="P95 exactly 10 % over control",
        model=_AT_THE_LIMIT,
        counts=Counts.PROMOTIONS,
        target=0.05,
        change=_wrong(slower=1.1),
        rates=_SINGLE,
    ),
)

_DETECTED: Final = (
    ("errors 5 %", 0.05, 1.0, 200),
    ("errors 1 %", 0.01, 1.0, 900),
    ("errors 0.5 %", 0.005, 1.0, 3_000),
    ("P95 +50 %", None, 1.5, 300),
    ("P95 +20 %", None, 1.2, 1_500),
)

#: What comes late may take so many times as long.
_LATER: Final = 3

_REGRESSIONS: Final = (
    *(
        _single(
            f"{name} from the start", "E3", Counts.REQUESTS, target, change=_wrong(errors, slower)
        )
        for name, errors, slower, target in _DETECTED
    ),
    *(
        _single(
            f"{name} after 12 h 30",
            "E3",
            Counts.REQUESTS,
            _LATER * target,
            change=_wrong(errors, slower, LATE),
        )
        for name, errors, slower, target in _DETECTED
    ),
)

_INCIDENTS: Final = (
    _single(
        "outage in both arms",
        "E3",
        Counts.MINUTES,
        5,
        change=Change(errors=0.3, since=LATE),
        rates=crossed(0.01, FLEET),
        runs=60,
    ),
    _single(
        "errors 0.5 % in both arms",
        "E3",
        Counts.ROLLBACKS,
        _FALSE,
        change=Change(errors=0.005, since=LATE),
    ),
    *(
        _single(
            f"one of four flags: {name}",
            "E3",
            Counts.WRONG,
            0.02,
            change=_wrong(errors, slower, since),
            rates=crossed(share, total),
            stage=stage,
            runs=_MANY,
        )
        for name, errors, slower, since, share, total, stage in (
            ("errors 1 % at mid", 0.01, 1.0, 0, 0.5, 2 * TREATED, "mid"),
            ("P95 +20 % at mid", None, 1.2, LATE, 0.5, 2 * TREATED, "mid"),
            ("errors 5 % at canary", 0.05, 1.0, LATE, 0.01, FLEET, "canary"),
        )
    ),
)

#: What leaving canary demands, of a flag that need not make anything faster.
_CANARY: Final = (
    *("soak", "live_crashes", "live_error_rate"),
    *("live_ttft_vs_control", "live_latency_vs_control"),
)

_HEALTHY: Final = (
    Scenario(
        name="healthy, errors 0.03 %, as fast as control",
        model=replace(MODELS["E3"], errors=0.0003),
        counts=Counts.PROMOTIONS,
        target=0.95,
        rates=_SINGLE,
        at_least=True,
        demands=_CANARY,
    ),
    Scenario(
        name="healthy, errors 0.03 %, P95 350 ms of 500",
        model=replace(MODELS["E3"], errors=0.0003),
        counts=Counts.PROMOTIONS,
        target=0.95,
        change=_wrong(0.0003, 0.7),
        rates=_SINGLE,
        at_least=True,
        demands=(*_CANARY, "live_ttft_p95", "live_ttft_better"),
    ),
    Scenario(
        name="some 3,300 clean requests",
        model=replace(MODELS["E3"], errors=0.0),
        counts=Counts.PROMOTIONS,
        target=0.0,
        rates={ONE: 2.3, frozenset[str](): BESIDE},
        demands=_CANARY,
    ),
)

SCENARIOS: Final = (*_SOUND, *_UNSOUND, *_REGRESSIONS, *_INCIDENTS, *_HEALTHY)
