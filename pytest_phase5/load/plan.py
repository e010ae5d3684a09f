"""What a run does, decided in full before it starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, Final, Literal, get_args

from pytest_phase5.load.steps import StopRule

#: Who sends: the asyncio generator over HTTP/1.1 or HTTP/2, or Locust (HTTP/1.1).
Driver = Literal["http1", "http2", "locust"]
DRIVERS: Final[tuple[Driver, ...]] = get_args(Driver)
CHAT_PATH: Final = "/v1/chat/completions"
#: Seconds that one request may take before it counts as failed.
TIMEOUT: Final = 30.0
#: Open requests at once; below the usual limit of 1,024 open files of a process.
MAX_IN_FLIGHT: Final = 512
#: Seconds that a master waits for its workers on other machines.
WORKER_WAIT: Final = 60.0
#: Where a master listens for them: Locust's own default.
MASTER_PORT: Final = 5557
#: Share of a judged limit that the generator may be late by: what it adds must not decide.
LAG_SHARE: Final = 0.05
#: The smallest limit of the SLOs, in seconds.
SMALLEST_LIMIT: Final = 0.4
#: Seconds late at the 99th percentile.
LAG_LIMIT: Final = LAG_SHARE * SMALLEST_LIMIT
#: Seconds that a closed run may last; it has no schedule that would bound it.
CLOSED_BUDGET: Final = 600.0
#: Seconds beyond the last deadline for the child to start, connect and write its rows.
SLACK: Final = 20.0
#: More of them for Locust: on a crowded machine its processes took 20 alone to be there.
LOCUST_SLACK: Final = 30.0


def lag_limit(*limits: float) -> float:
    """Seconds that the generator may send late at the 99th percentile, for these limits."""
    return LAG_SHARE * min(limits) if limits else LAG_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveAfter:
    """When a client leaves in the middle of its answer: exactly one of the two.

    `tokens` are pieces of generated text as they arrive (usage comes too late to count
    them), `seconds` count from sending. An answer that ends earlier is simply whole.

    Raises:
        ValueError: for none or both, or what cannot be waited for.
    """

    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse what does not say when."""
        if (self.tokens is None) == (self.seconds is None):
            raise ValueError(
                f"leave_after: tokens {self.tokens}, seconds {self.seconds}; allowed: one of them"
            )
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"leave_after: tokens {self.tokens}; allowed: 1 or more")
        if self.seconds is not None and not (isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"leave_after: seconds {self.seconds}; allowed: more than zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: `key` becomes `X-Phase5-Key`, `body` its JSON.

    A body without `model` gets the one that its target serves. `kind` is the class of the
    request, which its sample repeats. With `leave_after` the client closes the stream on
    purpose: the outcome is `cancelled`, with `left after ...` as its reason.
    """

    key: str
    body: Mapping[str, Any]
    path: str = CHAT_PATH
    kind: str | None = None
    leave_after: LeaveAfter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who shares the sending of a Locust run: processes here, or workers on other machines.

    With `workers` this machine only leads: it waits for so many at `bind` and `port`, and
    they send. Else `processes` here share the schedule.

    Raises:
        ValueError: for both, none, or numbers that mean nothing.
    """

    processes: int = 1
    workers: int = 0
    bind: str = "127.0.0.1"  #: where the master listens; `*` for everywhere
    port: int = MASTER_PORT
    wait: float = WORKER_WAIT  #: seconds until all workers must be there

    def __post_init__(self) -> None:
        """Refuse a fleet that cannot be."""
        if self.processes < 1 or self.workers < 0 or (self.workers and self.processes > 1):
            raise ValueError(
                f"fleet: {self.processes} processes, {self.workers} workers;"
                " allowed: 1 process or more, or 1 worker or more"
            )
        if not (0 < self.port < 65_536 and isfinite(self.wait) and self.wait > 0):  # noqa: PLR2004 - ports
            raise ValueError(
                f"fleet: port {self.port}, wait {self.wait}; allowed: 1 to 65535, more than zero"
            )

    @property
    def shares(self) -> int:
        """Among how many the schedule is divided."""
        return self.workers or self.processes


#: One process here.
ALONE: Final = Fleet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of requests to one arm.

    Open: `arrivals` has one offset per request, in seconds from `start`, which itself counts
    from the start of the run. Closed: `arrivals` is empty, and `concurrency` requests are
    in flight until the block is done; then the next block begins.
    """

    arm: str
    requests: tuple[Request, ...]
    start: float = 0.0
    arrivals: tuple[float, ...] = ()
    concurrency: int = 1
    warmup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One request in its place: `index` and `block` count measured ones, None in warm-up."""

    index: int | None
    block: int | None
    arm: str
    due: float  #: seconds from the start; of no meaning in a closed run
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: its targets (base URL of each arm), and its blocks in order.

    With a `stop` rule the measured blocks are steps of growing rate. After each the
    generator asks the rule; once it holds, the requests of later steps are not sent and
    have no rows, and the report says after which step and why. That is a complete run.

    Raises:
        ValueError: when it could not run as written; the message says which part.
    """

    targets: Mapping[str, str]
    blocks: tuple[Block, ...]
    closed: bool = False
    timeout: float = TIMEOUT
    max_in_flight: int = MAX_IN_FLIGHT
    lag_limit: float = LAG_LIMIT
    budget: float | None = None  #: seconds for the whole run; None: what the schedule needs
    driver: Driver = "http1"
    ca_file: str | None = None  #: certificates that an `https` target is checked against
    reuse: bool = True  #: keep connections for later requests; False: one for each (HTTP/1.1)
    stop: StopRule | None = None
    fleet: Fleet = ALONE  #: of the driver `locust`

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        if not self.measured:
            raise ValueError("plan: no measured request")
        for number, block in enumerate(self.blocks):
            _check_block(number, block, self.targets, closed=self.closed)
        if self.driver not in DRIVERS:
            raise ValueError(f"plan: driver {self.driver!r}; allowed: {', '.join(DRIVERS)}")
        self._check_stop()
        self._check_fleet()
        for name in ("timeout", "max_in_flight", "lag_limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"plan: {name} {getattr(self, name)}; allowed: more than zero")

    @property
    def measured(self) -> int:
        """Requests that must come back as rows."""
        return self.measured_until(None)

    def measured_until(self, last: int | None) -> int:
        """The same, when the run ends after the measured block of that number."""
        sizes = [len(block.requests) for block in self.blocks if not block.warmup]
        return sum(sizes if last is None else sizes[: last + 1])

    @property
    def longest(self) -> float:
        """Seconds after which the run is stopped from outside."""
        if self.budget is not None:
            return self.budget
        if self.closed:
            return min(CLOSED_BUDGET, self._closed_worst()) + SLACK + self._slack_of_locust
        last = max(shot.due for block in self.shots() for shot in block)
        # Between steps the last answer of each is waited for.
        pauses = len(self.blocks) if self.stop is not None else 1
        wait = self.fleet.wait if self.fleet.workers else 0
        return last + pauses * self.timeout + SLACK + self._slack_of_locust + wait

    @property
    def _slack_of_locust(self) -> float:
        return LOCUST_SLACK if self.driver == "locust" else 0.0

    def shots(self) -> Iterator[tuple[Shot, ...]]:
        """The requests of each block in order, numbered over the measured ones."""
        index = number = 0
        for block in self.blocks:
            due = block.arrivals or (0.0,) * len(block.requests)
            yield tuple(
                Shot(
                    index=None if block.warmup else index + place,
                    block=None if block.warmup else number,
                    arm=block.arm,
                    due=block.start + offset,
                    request=request,
                )
                for place, (offset, request) in enumerate(zip(due, block.requests, strict=True))
            )
            if not block.warmup:
                index, number = index + len(block.requests), number + 1

    def _check_stop(self) -> None:
        if self.stop is None:
            return
        if self.closed:
            raise ValueError("plan: a stop rule in a closed run; allowed: in an open one")
        steps = sum(not block.warmup for block in self.blocks)
        if self.stop.first >= steps:
            raise ValueError(f"plan: the first step is block {self.stop.first} of {steps}")

    def _check_fleet(self) -> None:
        """Processes share nothing while they send: what needs all samples needs one process."""
        if self.driver == "locust" and self.stop is not None:
            raise ValueError("plan: a stop rule with driver 'locust'; allowed: http1, http2")
        if self.fleet.shares > 1 and self.closed:
            raise ValueError(f"plan: closed, {self.fleet.shares} senders; allowed: 1")
        if self.fleet != ALONE and self.driver != "locust":
            raise ValueError(f"plan: a fleet with driver {self.driver!r}; allowed: locust")

    def _closed_worst(self) -> float:
        turns = sum(ceil(len(block.requests) / block.concurrency) for block in self.blocks)
        return turns * self.timeout


def _check_block(number: int, block: Block, targets: Mapping[str, str], *, closed: bool) -> None:
    where = f"plan: block {number}"
    if block.arm not in targets:
        raise ValueError(f"{where}: arm {block.arm!r}; allowed: {', '.join(targets)}")
    if block.concurrency < 1:
        raise ValueError(f"{where}: concurrency {block.concurrency}; allowed: 1 or more")
    wanted = 0 if closed else len(block.requests)
    if len(block.arrivals) != wanted:
        raise ValueError(f"{where}: {len(block.arrivals)} arrivals; allowed: {wanted}")
    if not all(isfinite(offset) and offset >= 0 for offset in (block.start, *block.arrivals)):
        raise ValueError(f"{where}: times must be finite and not negative")
    if list(block.arrivals) != sorted(block.arrivals):
        raise ValueError(f"{where}: arrivals are not in order")
