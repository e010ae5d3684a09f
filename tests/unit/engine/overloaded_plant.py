"""A model of an engine under overload: the real admission, guard and governor over a batch.

The batch works in turns, as `engine.runtime.adapter` does: a turn reads at most `CHUNK` tokens
of the prompts, those that began first before the others, and gives every stream that has read
its prompt one token. Time is the model's own, so that minutes take a moment and always come
out the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from engine.core.admission import AdmissionQueue, Admit, Reject, Ticket
from engine.core.governor import AdaptiveGovernor
from engine.core.guard import GovernorGuard
from engine.core.seeker import Seeker
from engine.core.tenants import TenantBudgets

TARGET = 0.550
LIMIT, LOW, HIGH = 50, 4, 100
INTERVAL, TICK = 5.0, 0.5
#: Tokens of a turn, and of an answer.
CHUNK, ANSWER = 512, 32


@dataclass(frozen=True)
class Machine:
    """Seconds that a turn takes: for its own sake, for each token read and each one written.

    Beyond `room` rows, each one more makes all of them slower by `crowding`.
    """

    turn: float
    read: float
    write: float
    room: int = 1000
    crowding: float = 0.0

    def seconds(self, read: int, written: int) -> float:
        """How long a turn takes."""
        crowd = 1 + self.crowding * max(0, written - self.room)
        return self.turn + (read * self.read + written * self.write) * crowd


#: About what `tiny` does on one core: 24 answers a second behind prompts of some 600 tokens.
TINY = Machine(turn=0.003, read=45e-6, write=250e-6)


@dataclass
class Running:
    """A stream with a slot."""

    ticket: Ticket
    since: float
    unread: int
    written: int = 0


@dataclass
class Overload:
    """Streams arrive at `rate` for as long as `run` is told; `slowness` says how slow it is now.

    Attributes:
        firsts: when each stream that had its first text arrived, and how long it waited for it.
        ends: when each answer was whole.
        limits: the limit of each second.
        allowed: what the governor alone would have allowed.
    """

    machine: Machine
    rate: float
    slowness: Callable[[float], float] = lambda _: 1.0
    static: int | None = None
    governed: bool = True
    seed: int = 0
    firsts: list[tuple[float, float]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    allowed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        low, high = (LOW, HIGH) if self.static is None else (self.static, self.static)
        self.guard = GovernorGuard(TARGET, TenantBudgets(0.5, 0.25, 60.0))
        start = min(max(LIMIT, low), high)
        self.governor = AdaptiveGovernor(TARGET, low, high, start, INTERVAL)
        self.seeker = Seeker(low, INTERVAL)
        self.queue = AdmissionQueue(start, 200, 0.0, guard=self.guard)
        self.now, self._tick, self._uid = 0.0, 0.0, 0
        self._random = Random(self.seed)  # noqa: S311 - a load, not a secret
        self._next = self._random.expovariate(self.rate)
        self._running: dict[int, Running] = {}

    def run(self, seconds: float) -> "Overload":
        """Let so much time pass."""
        until = self.now + seconds
        while self.now < until:
            self._turn()
        return self

    def goodput(self, begin: float, end: float) -> float:
        """First texts in time, a second, of the streams that arrived between the two times."""
        good = [waited <= TARGET for arrived, waited in self.firsts if begin <= arrived < end]
        return sum(good) / (end - begin)

    def throughput(self, begin: float, end: float) -> float:
        """Whole answers a second."""
        return sum(begin <= at < end for at in self.ends) / (end - begin)

    def _turn(self) -> None:
        reading, room = [], CHUNK
        for stream in self._running.values():
            if stream.unread and room:
                reading.append((stream, min(stream.unread, room)))
                room -= reading[-1][1]
        writing = [stream for stream in self._running.values() if not stream.unread]
        took = self.machine.seconds(CHUNK - room, len(writing)) * self.slowness(self.now)
        self._arrive(self.now + took)
        self.now += took
        for stream, tokens in reading:
            stream.unread -= tokens
            self.guard.tokens.progress(stream.ticket.stream_id, stream.unread, self.now)
        for stream in writing:
            self._write(stream)
        self._look(self.now)

    def _write(self, stream: Running) -> None:
        stream.written += 1
        uid = stream.ticket.stream_id
        if stream.written == 1:
            waited = self.now - stream.since
            full = self.queue.running >= self.governor.limit(self.now) == self.queue.limit
            self.seeker.first_text(self.queue.running)
            self.guard.first_text(uid, waited, self.now)
            self.governor.observe(waited, self.now, at_limit=full)
            self.firsts.append((stream.ticket.arrived, self.now - stream.ticket.arrived))
        if stream.written == ANSWER:
            del self._running[uid]
            self.ends.append(self.now)
            self.queue.release(uid, self.now)

    def _arrive(self, until: float) -> None:
        """Take what arrives until then, each at its time."""
        while self._next <= until:
            now, self._uid = self._next, self._uid + 1
            tokens = self._random.randint(400, 800)
            late = now + (30.0 if self.governed else 1e9)
            ticket = Ticket(self._uid, now, late, tokens, pipeline=False, governed=self.governed)
            self._look(now)
            decision = self.queue.offer(ticket, now)
            if isinstance(decision, Admit):
                self._start(ticket, now)
            elif isinstance(decision, Reject):
                self.seeker.shed(1)
            self._next += self._random.expovariate(self.rate)

    def _look(self, now: float) -> None:
        """Every tick, and whenever a slot may be free."""
        if now >= self._tick:
            self._tick = now + TICK
            if self.governed:
                self.queue.set_limit(self.seeker.limit(self.governor.limit(now), now))
            while len(self.limits) <= now:
                self.limits.append(self.queue.limit)
                self.allowed.append(self.governor.limit(now))
        for ticket in self.queue.ready(now):
            self._start(ticket, now)
        self.seeker.shed(len(self.queue.expired(now)))

    def _start(self, ticket: Ticket, now: float) -> None:
        self._running[ticket.stream_id] = Running(ticket, now, ticket.prompt_tokens)


@cache
def capacity(machine: Machine) -> float:
    """Answers a second with every slot taken all the time, whenever they come."""
    plant = Overload(machine, rate=200.0, governed=False)
    return plant.run(30).throughput(10, 30)
