"""The load profiles: what each asks, how hard, and for how long. Data only.

A profile is a row of parts, run one after the other; each warms up at its own load first.
`--time-scale` shrinks how long a part lasts, never how hard it presses: a closed part sends
fewer requests, an open one ends earlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pytest_phase5.load.curves import Curve, constant, spike
from pytest_phase5.load.plan import Driver
from pytest_phase5.load.workload import SHORT, Workload

#: Seconds to the first token within which an answer counts as good: what the requirements ask
#: of its 95th percentile.
GOOD_TTFT: Final = 0.55

#: From a greeting to a page: what a request waits for most is its own prompt.
VARIED: Final = Workload(name="varied", words=(4, 300), tokens=(8, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """So many streams at once, each new request when another has ended.

    With `prompts` only so many different ones are asked, over and over: what still grows then
    is no cache that fills.
    """

    streams: int
    requests: int
    prompts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Each rate for so many seconds, until one is too much."""

    rates: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesExpected:
    """So many times the `expected_load` of gates.yaml."""

    times: float
    seconds: float


Load = Closed | Curve | Steps | TimesExpected


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One run. `flags` are those of its engine: None for what was asked for.

    Where no time is judged (`timed` is false), the generator may be as late as it likes.
    `criteria` are those of gates.yaml that it brings evidence for.
    """

    name: str
    load: Load
    workload: Workload = SHORT
    flags: str | None = None
    driver: Driver | None = None  #: None: what was asked for
    timed: bool = True
    criteria: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the requirements want of a profile, and where alone it could be shown."""

    text: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named load. `needs` are flags that must be on besides those that were asked for."""

    name: str
    summary: str
    parts: tuple[Part, ...]
    needs: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    compares: bool = False  #: with a recorded baseline


#: The models that the requirements name.
_MODELS: Final = ("mlx-community/gemma-2-27b-it-4bit", "qwen3-30b")

#: 368 requests are the fewest at which a P99 has an upper bound.
_ONE_AT_A_TIME: Final = Part(
    name="one at a time",
    load=Closed(streams=1, requests=400),
    workload=VARIED,
    criteria=("ttft_p95_ms", "latency_p99_ms"),
)

#: From what a small model manages on two cores to more than `tiny` does on eight; each step is
#: half as much again, so that the knee is known to within a half.
_STEP_RATES: Final = (8, 12, 18, 27, 40, 60, 90, 135, 200, 300, 450, 675)

#: What the requirements ask the engine to stand, for long enough to show 0.1 % from 25/s on.
_TWICE: Final = TimesExpected(times=2, seconds=60)

_THROUGHPUT_STREAMS: Final = (10, 25, 50, 75, 100)

#: What the most streams at once show: all that an engine can do.
_MOST_STREAMS: Final = max(_THROUGHPUT_STREAMS)
_BUSY: Final = ("throughput_rps", "streams_75")
_CONNECTING: Final = ("connection_overhead",)

#: The baseline of the requirements for streams: every connection that HTTP/2 saves shows.
_FIFTY: Final = Closed(streams=50, requests=1_000)

#: The target of the requirements for streams. At 4,000 requests the slope of the runtime's
#: memory, which breathes by 12 MiB, is known to 5 KiB a request.
_SEVENTY_FIVE: Final = Closed(streams=75, requests=4_000, prompts=150)

_ALL: Final = (
    Profile(
        name="ttft",
        summary="400 prompts of varying size, one at a time: the time to the first token itself",
        parts=(_ONE_AT_A_TIME,),
        targets=(
            Target(text="TTFT P95 at most 550 ms, from 800 ms without features", models=_MODELS),
        ),
    ),
    Profile(
        name="throughput",
        summary="1,000 requests in 60 s; then 10, 25, 50, 75 and 100 streams at once",
        parts=(
            Part(name="1,000 in 60 s", load=constant(1_000 / 60, 60, "even")),
            *(
                # Ten turns a stream: start and end of the crowd are a fifth of it at most.
                Part(
                    name=f"{n} streams",
                    load=Closed(streams=n, requests=10 * n),
                    criteria=_BUSY if n == _MOST_STREAMS else (),
                )
                for n in _THROUGHPUT_STREAMS
            ),
        ),
        targets=(
            Target(text="130 requests/s, 30 % more than without features", models=_MODELS),
            Target(text="75 streams at once, 50 % more than without features", models=_MODELS),
        ),
    ),
    Profile(
        name="sustained",
        summary="100 requests/s for 10 minutes",
        parts=(Part(name="sustained", load=constant(100, 600)),),
    ),
    Profile(
        name="spike",
        summary="from 0 to 200 requests/s and back to 0 in 5 minutes",
        parts=(Part(name="spike", load=spike(200, 300)),),
    ),
    Profile(
        name="soak",
        summary="50 requests/s for 2 hours: leaks and slow decay",
        parts=(Part(name="soak", load=constant(50, 7_200)),),
    ),
    Profile(
        name="leak",
        summary="4,000 requests at 75 streams, of 150 prompts: memory that requests leave behind",
        parts=(
            Part(name="again and again", load=_SEVENTY_FIVE, timed=False, criteria=("no_leak",)),
        ),
    ),
    Profile(
        name="stress",
        summary="more every 30 s until it is too much; then twice the expected load, also "
        "with every flag off",
        parts=(
            Part(name="steps", load=Steps(rates=_STEP_RATES, seconds=30)),
            Part(name="twice expected", load=_TWICE, criteria=("stress_error_rate",)),
            Part(
                name="twice expected, off",
                load=_TWICE,
                flags="off",
                criteria=("off_serves_the_peak",),
            ),
        ),
    ),
    Profile(
        name="connections",
        summary="50 streams over HTTP/1.1 and over HTTP/2: connections, CPU, latency",
        parts=(
            Part(name="HTTP/1.1", load=_FIFTY, driver="http1", criteria=_CONNECTING),
            Part(name="HTTP/2", load=_FIFTY, driver="http2", criteria=_CONNECTING),
        ),
        needs=("http2_transport",),
    ),
    Profile(
        name="regression",
        summary="against a recorded baseline of the same machine, model and engine version",
        parts=(
            _ONE_AT_A_TIME,
            Part(name="10 streams", load=Closed(streams=10, requests=500)),
        ),
        compares=True,
    ),
)

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in _ALL}


class ProfileError(ValueError):
    """A profile that does not exist, or cannot run as asked. One line for the user."""


def profile_named(name: str) -> Profile:
    """The profile of a name.

    Raises:
        ProfileError: there is none; it names those there are.
    """
    if name not in PROFILES:
        raise ProfileError(f"profile {name!r}; allowed: {', '.join(PROFILES)}")
    return PROFILES[name]
