"""From a part of a profile to the plans that carry it out: pure.

The warm-up is the first block of the first plan, `WARM_UP`, and has rows like every other:
the engine counts it as well. What is measured follows without a pause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import ceil
from typing import Final

from gates.samples import Sample
from pytest_phase5.load.curves import Curve, Leg, constant
from pytest_phase5.load.plan import ALONE, TIMEOUT, Block, Driver, Fleet, Plan, Request, lag_limit
from pytest_phase5.load.plans import LEAST_WARMUP, TREATMENT
from pytest_phase5.load.profiles import (
    GOOD_TTFT,
    Closed,
    Load,
    Part,
    Profile,
    ProfileError,
    Steps,
    TimesExpected,
)
from pytest_phase5.load.shaped import in_row
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.workload import Workload
from pytest_phase5.load.workload import requests as make_requests

#: The block of a part's first plan that is not judged.
WARM_UP: Final = 0
#: Requests of one plan: 12 minutes of a soak. A plan is written out in full before it starts,
#: 20 MB at this length; a longer load goes on in the next, a second or two later.
MOST_REQUESTS: Final = 36_000
#: Turns of each stream in the warm-up of a closed part, and the fewest that measure anything.
_TURNS: Final = 2
#: Seconds and requests of a step at the least: below that it hardly begins.
_LEAST_STEP: Final = 0.5
_LEAST_REQUESTS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a part is built for. `expected_load` is that of gates.yaml, in requests a second."""

    url: str
    driver: Driver = "http1"
    seed: int = 0
    time_scale: float = 1.0
    expected_load: float | None = None
    ca_file: str | None = None
    fleet: Fleet = ALONE  #: who shares the sending, with the driver `locust`

    @property
    def rehearses(self) -> bool:
        """Whether it is shortened: a rehearsal does without the generator's self-check."""
        return self.time_scale < 1


def check_sendable(profile: Profile, setting: Setting) -> None:
    """Refuse a profile that the chosen driver cannot send, before anything is started.

    Raises:
        ProfileError: it names the part, and what can send it.
    """
    if setting.fleet != ALONE and setting.driver != "locust":
        raise ProfileError(f"a fleet with --driver {setting.driver}; allowed: --driver locust")
    if setting.driver != "locust":
        return
    for part in profile.parts:
        where = f"{profile.name}: part {part.name!r}"
        if part.driver is not None:
            raise ProfileError(f"{where} is sent by {part.driver}; allowed: no --driver locust")
        if isinstance(part.load, Steps):
            # A step is judged by all its samples before the next one is sent.
            raise ProfileError(f"{where} needs one sender; allowed: --driver http1 or http2")
        if isinstance(part.load, Closed) and setting.fleet.shares > 1:
            raise ProfileError(
                f"{where} keeps a number of streams, {setting.fleet.shares} senders share "
                "only a schedule; allowed: 1 process, or a profile of arrivals"
            )


def plans_of(part: Part, setting: Setting) -> Iterator[Plan]:
    """The plans of a part, in order.

    Raises:
        ProfileError: it doubles an expected load that nobody has stated.
    """
    load = _stated(part.load, setting)
    lag = lag_limit(GOOD_TTFT if part.timed else TIMEOUT)
    for plan in _plans(load, part.workload, setting):
        yield replace(plan, lag_limit=lag)


def _plans(load: Closed | Curve | Steps, workload: Workload, setting: Setting) -> Iterator[Plan]:
    if isinstance(load, Closed):
        yield _closed(load, workload, setting)
    elif isinstance(load, Steps):
        yield _steps(load, workload, setting)
    else:
        for number, piece in enumerate(pieces(load.scaled(setting.time_scale), MOST_REQUESTS)):
            yield _open(piece, workload, setting, number)


def count_plans(part: Part, setting: Setting) -> int:
    """How many plans a part has: more than one for an open load that is long."""
    load = _stated(part.load, setting)
    if not isinstance(load, Curve):
        return 1
    return sum(1 for _ in pieces(load.scaled(setting.time_scale), MOST_REQUESTS))


def planned_rate(part: Part, setting: Setting) -> float | None:
    """Requests a second that an open part asks for, on average; None where others decide."""
    load = _stated(part.load, setting)
    return load.requests / load.seconds if isinstance(load, Curve) else None


def measured(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples after the warm-up."""
    return tuple(sample for sample in samples if sample.block != WARM_UP)


def pieces(curve: Curve, most: int) -> Iterator[Curve]:
    """A curve as a row of curves of about `most` requests each, or the curve itself."""
    if curve.requests <= most:
        yield curve
        return
    for leg in curve.legs:
        count = ceil(leg.requests / most)
        for number in range(count):
            start, end = (_rate(leg, place / count) for place in (number, number + 1))
            part = Leg(leg.seconds / count, start, end)
            yield Curve(legs=(part,), spacing=curve.spacing, shape=curve.shape)


def _rate(leg: Leg, share: float) -> float:
    return leg.start + (leg.end - leg.start) * share


def _stated(load: Load, setting: Setting) -> Closed | Curve | Steps:
    if not isinstance(load, TimesExpected):
        return load
    if setting.expected_load is None:
        raise ProfileError("gates.yaml: no expected_load; allowed: requests a second, above 0")
    return constant(load.times * setting.expected_load, load.seconds)


def _closed(load: Closed, workload: Workload, setting: Setting) -> Plan:
    least = max(LEAST_WARMUP, _TURNS * load.streams)
    # Each prompt that comes again was there before anything counts.
    warm = max(least, _TURNS * (load.prompts or 0))
    count = max(least, ceil(load.requests * setting.time_scale))
    asked = _asked(workload, warm + count, setting.seed, load.prompts)
    blocks = [
        Block(arm=TREATMENT, requests=chosen, concurrency=load.streams)
        for chosen in (asked[:warm], asked[warm:])
    ]
    return _plan(blocks, setting, closed=True)


def _asked(workload: Workload, count: int, seed: int, prompts: int | None) -> tuple[Request, ...]:
    """So many requests, each by a client of its own, of so many prompts."""
    different = make_requests(workload, min(count, prompts or count), seed)
    again = zip(range(count), cycle(different), strict=False)
    return tuple(replace(one, key=f"{workload.name}-{seed}-{number}") for number, one in again)


def _open(curve: Curve, workload: Workload, setting: Setting, number: int) -> Plan:
    """The first piece of a part warms up at the average rate, on a curve of its own."""
    rate = curve.requests / curve.seconds
    warm = constant(rate, max(1.0, LEAST_WARMUP / rate), "even")
    # Every plan has a block that is not judged: in a later piece one request, as all rows of
    # a part are read alike.
    begin = warm if number == 0 else constant(rate, 1 / rate, "even")
    blocks = in_row((begin, curve), workload=workload, seed=setting.seed + number)
    return _plan(blocks, setting)


def _steps(load: Steps, workload: Workload, setting: Setting) -> Plan:
    least = max(_LEAST_STEP, load.seconds * setting.time_scale)
    warm = constant(load.rates[0], max(1.0, LEAST_WARMUP / load.rates[0]), "even")
    steps = (constant(rate, max(least, _LEAST_REQUESTS / rate)) for rate in load.rates)
    curves = (warm, *steps)
    rule = StopRule(ttft=GOOD_TTFT, first=WARM_UP + 1)
    return _plan(in_row(curves, workload=workload, seed=setting.seed), setting, stop=rule)


def _plan(
    blocks: Sequence[Block],
    setting: Setting,
    *,
    closed: bool = False,
    stop: StopRule | None = None,
) -> Plan:
    return Plan(
        targets={TREATMENT: setting.url},
        blocks=tuple(blocks),
        closed=closed,
        driver=setting.driver,
        ca_file=setting.ca_file,
        stop=stop,
        fleet=setting.fleet,
    )
