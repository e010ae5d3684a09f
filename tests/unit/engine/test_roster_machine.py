"""Whatever happens to streams and processes in whatever order, clients see whole outputs."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
)

from engine.core.isolation import CLEARING_TOKENS
from engine.runtime.messages import Cancel, Pause, Prefill, Resume, Submit, Token, ToRuntime
from engine.runtime.roster import Roster


@dataclass
class Row:
    stream: int  # its prompt: a process may know the stream by another id
    position: int


@dataclass
class Process:
    """Computes what it is told to, one token at a time: token N of stream S is 100 S + N.

    What it sends is under way until `deliver`.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    under_way: list[Token] = field(default_factory=list)
    inbox: list[ToRuntime] = field(default_factory=list)

    def send(self, message: ToRuntime) -> None:
        self.inbox.append(message)

    def read(self) -> None:
        for message in self.inbox:
            match message:
                case Submit(uid=uid, prompt=[stream], emitted=emitted):
                    assert uid not in self.rows, "submitted twice"
                    assert emitted == [100 * stream + at for at in range(len(emitted))]
                    self.rows[uid] = Row(stream, len(emitted))
                case Cancel(uid=uid):
                    self.rows.pop(uid, None)
                    self.paused.discard(uid)
                case Pause(uid=uid):
                    self.paused.add(uid)
                case Resume(uid=uid):
                    self.paused.discard(uid)
        self.inbox.clear()

    def running(self) -> dict[int, Row]:
        return {uid: row for uid, row in self.rows.items() if uid not in self.paused}

    def compute(self, lengths: dict[int, int]) -> None:
        for uid, row in self.running().items():
            at = row.position
            finish = "length" if at + 1 == lengths[row.stream] else None
            self.under_way.append(Token(uid, at, 100 * row.stream + at, finish))
            row.position += 1
            if finish:
                del self.rows[uid]


@dataclass
class Client:
    tokens: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def on_prefill(self, prefill: Prefill) -> None:
        raise AssertionError(prefill)

    def on_token(self, token: Token) -> None:
        assert not self.ended
        self.tokens.append(token.token)
        if token.finish:
            self.ended.append(token.finish)

    def on_fault(self, reason: str) -> None:
        assert not self.ended
        self.ended.append(reason)


LENGTHS = st.integers(1, 12)
#: Output tokens at which a stream makes its process fail; most never do.
DEADLY = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 11))


class Rosters(RuleBasedStateMachine):
    """One roster, a process that comes and goes, and streams of which some are deadly."""

    streams: Bundle[int] = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.process: Process | None = None
        self.clients: dict[int, Client] = {}
        self.lengths: dict[int, int] = {}
        self.deadly: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.accidents = False  # a process failed by itself for no stream's sake

    @rule(target=streams, several=st.lists(st.tuples(LENGTHS, DEADLY), min_size=1, max_size=6))
    def submit(self, several: list[tuple[int, int | None]]) -> MultipleResults[int]:
        return multiple(*(self._submit(length, deadly_at) for length, deadly_at in several))

    @rule(uid=streams)
    def cancel(self, uid: int) -> None:
        if not self.clients[uid].ended:
            self.cancelled.add(uid)
        self.roster.cancel(uid)

    @rule(uid=streams)
    def pause(self, uid: int) -> None:
        self.roster.pause(uid)

    @rule(uid=streams)
    def resume(self, uid: int) -> None:
        self.roster.resume(uid)

    @rule(uid=streams)
    def simplify(self, uid: int) -> None:
        self.roster.simplify(uid)

    @precondition(lambda self: self.process is None)
    @rule()
    def start(self) -> None:
        self.process = Process()
        self.roster.attach(self.process)

    @precondition(lambda self: self.process is not None)
    @rule()
    def step(self) -> None:
        """The process reads what it was sent, and computes; a deadly stream stops all of it."""
        process = self._process()
        process.read()
        rows = process.running().values()
        if not any(self.deadly.get(row.stream) == row.position for row in rows):
            process.compute(self.lengths)
            return
        self.deliver()
        lost = list(process.running())
        for uid in lost:
            del process.rows[uid]
        self.roster.suspect("the step failed", lost)

    @precondition(lambda self: self.process is not None)
    @rule()
    def deliver(self) -> None:
        process = self._process()
        arrived, process.under_way = process.under_way, []
        for token in arrived:
            self.roster.token(token)

    @precondition(lambda self: self.process is not None)
    @rule(by_itself=st.booleans())
    def die(self, by_itself: bool) -> None:
        """What was under way arrives first: the kernel keeps it. What it never read is lost."""
        self.deliver()
        self.accidents |= by_itself
        self.process = None
        self.roster.detach("the process ended" if by_itself else None)

    @invariant()
    def outputs_have_no_gap_and_no_repetition(self) -> None:
        for uid, client in self.clients.items():
            assert client.tokens == [100 * uid + at for at in range(len(client.tokens))]

    @invariant()
    def only_who_may_be_deadly_is_convicted(self) -> None:
        for uid, client in self.clients.items():
            if client.ended and client.ended != ["length"]:
                assert client.ended[0].startswith("this request makes the model fail: ")
                assert uid in self.deadly or self.accidents

    def _submit(self, length: int, deadly_at: int | None) -> int:
        uid = len(self.clients) + 1
        self.clients[uid], self.lengths[uid] = Client(), length
        if deadly_at is not None and deadly_at < length:
            self.deadly[uid] = deadly_at
        request = Submit(uid=uid, prompt=[uid], max_tokens=length, seed=0)
        self.roster.submit(request, self.clients[uid])
        return uid

    def _process(self) -> Process:
        assert self.process is not None
        return self.process

    def teardown(self) -> None:
        """From anywhere, a healthy process brings every stream to its end."""
        if self.process is None:
            self.start()
        for uid in self.clients:
            self.roster.resume(uid)
        for _ in range(40 * (len(self.clients) + 1)):
            self.step()
            self.deliver()
        for uid, client in self.clients.items():
            assert client.ended or uid in self.cancelled, f"stream {uid} never ended"
            if client.ended == ["length"]:
                assert len(client.tokens) == self.lengths[uid]
            if uid not in self.deadly and not self.accidents:
                assert uid in self.cancelled or client.ended == ["length"]
        assert len(self.roster) == 0
        assert not self.roster.investigating


TestRosters = Rosters.TestCase


def test_who_runs_on_until_its_withdrawal_is_read_may_be_the_cause_and_nobody_else_is() -> None:
    roster, process, clients = Roster(), Process(), {uid: Client() for uid in (1, 2, 3)}
    roster.attach(process)
    for uid, client in clients.items():
        roster.submit(Submit(uid=uid, prompt=[uid], max_tokens=9, seed=0), client)
    process.read()
    process.rows.clear()
    roster.suspect("the step failed", [1, 2, 3])
    process.read()
    first, second = process.rows  # the first group: streams 1 and 2, in their second stays
    for at in range(CLEARING_TOKENS):  # the other still reads its prompt
        roster.token(Token(first, at, 100 + at, None))
    assert clients[1].tokens == [100, 101]
    roster.suspect("the step failed", [first, second])
    assert [client.ended for client in clients.values()] == [[], [], []]
    assert roster.convicted == 0
