"""Carries out an experiment: baseline, fault, recovery, and everything put back.

All decisions are in `judging`. Here each thing that is begun is pushed on a stack that undoes
it, whatever happens; what came of undoing it is part of the journal.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from chaos.books import Books
from chaos.checks import LEAST_CAUGHT
from chaos.crowds import others_of
from chaos.errors import FaultError
from chaos.experiment import Clients, Experiment, Spans
from chaos.faults import Breakage, make_fault
from chaos.grounds import base_of, prepare
from chaos.holdings import Holdings, grown, holdings
from chaos.journal import Account
from chaos.judging import Told, judge, recovery
from chaos.observing import Look
from chaos.record import BASELINE, ENDED, HEALED, INJECTED, READY, Effect, Record
from chaos.stage import Ground, Stage, Subject
from chaos.windows import unsteady
from gates.evidence import Running

#: A generator is there in a second; a busy machine takes its time.
_FLOWS_SECONDS: Final = 30.0

#: How often a baseline is taken: the machine may be busy with something else for a while.
_BASELINES: Final = 3

#: Streams of the crowd that have ended by themselves have left nothing after this.
_SETTLE_SECONDS: Final = 10.0

#: What flows of a rate are planned for; they are stopped when the run is over.
_LONGEST_SECONDS: Final = 900.0

#: The engine's log is read so far from its end: a run writes a few lines.
_LOG_CHARACTERS: Final = 200_000

#: Ends of requests that speak of no trouble.
_FINE: Final = ("ok", "cancelled")

Say = Callable[[str], None]


def run(
    experiment: Experiment,
    stage: Stage,
    *,
    full: bool = False,
    seed: int = 0,
    flags: str | None = None,
    compare: bool = False,
    say: Say = lambda _: None,
) -> Account:
    """Carry out an experiment; with `compare` on a control as well, where that means something.

    A run that is cut short by Ctrl-C is undone first and then has an account as well.

    Raises:
        ChaosError: it cannot be carried out as asked.
    """
    asked = replace(experiment, flags=flags or experiment.flags)
    account = _Run(asked, stage, full=full, seed=seed, say=say).account()
    wanted = compare and experiment.compares and asked.flags != "off"
    if not wanted or account.told.interrupted:
        return account
    say("the same with the flags off")
    control = _Run(replace(asked, flags="off"), stage, full=full, seed=seed, say=say).account()
    return replace(account, control=control)


@dataclass(slots=True)
class _Run:
    """One arm of a run, as it goes."""

    experiment: Experiment
    stage: Stage
    full: bool
    seed: int
    say: Say
    books: Books = field(default_factory=Books)
    _started: int = 0
    _leaks: tuple[str, ...] = ()
    _interrupted: str = ""
    _requested: Mapping[str, Any] = field(default_factory=dict)
    _read_back: Mapping[str, Any] = field(default_factory=dict)
    _looks: tuple[Look, ...] = ()
    _log: str = ""
    _fault: Breakage | None = None
    _engine: Subject | None = None

    @property
    def spans(self) -> Spans:
        """Those of the form that was asked for."""
        return self.experiment.full if self.full else self.experiment.short

    def account(self) -> Account:
        """Do it, and say what came of it."""
        started = _now()
        try:
            with ExitStack() as undo:
                self._carry_out(undo)
        except KeyboardInterrupt as error:
            self._interrupted = str(error) or "interrupted"
        except FaultError as error:
            self.books.invalid.append(str(error))
        record = self._record()
        effect = self._effect(record)
        told = Told(
            interrupted=self._interrupted,
            invalid=tuple(self.books.invalid),
            leaks=self._leaks,
            steps=tuple(self.books.steps),
            rollbacks=tuple(self.books.rollbacks),
        )
        engine = self._engine
        return Account(
            experiment=self.experiment,
            form="full" if self.full else "short",
            seed=self.seed,
            started=started,
            ended=_now(),
            engine={"flags": engine.flag_set, "model": engine.model} if engine else {},
            record=record,
            effect=effect,
            told=told,
            judgement=judge(self.experiment, record, effect, told),
            requested=self._requested,
            read_back=self._read_back,
        )

    def _carry_out(self, undo: ExitStack) -> None:
        self.say(f"engine with flags {self.experiment.flags}")
        ground = prepare(
            self.experiment,
            self.stage,
            full=self.full,
            seed=self.seed,
            books=self.books,
            undo=undo,
        )
        self._engine = ground.engine
        undo.callback(self._look_back, ground)
        if not self._baseline(ground, undo):
            return  # nothing is broken that was not whole; `judging` says so
        held = self._settled(ground)
        flows = self._flows(ground, undo)
        crowd = self._crowd(ground, undo)
        self._break(ground, undo)
        self._watch(ground, crowd)
        for name, running in flows.items():
            self.books.take(name, running.stop)
        while recovery(self.experiment, self._record()) is None and self._may_recover():
            self._watch_on(ground, undo)
        left = self._settled(ground)
        if held is not None and left is not None:
            self._leaks = tuple(grown(held, left))

    # The phases.

    def _baseline(self, ground: Ground, undo: ExitStack) -> bool:
        """Wait for service to be steady; nothing has been broken, so it may take some tries."""
        for _ in range(_BASELINES):
            self.say(f"baseline for {self.spans.before:g} s")
            flows = self._start_all(ground, undo, self.spans.before)
            self.books.mark(BASELINE)
            found = {name: self.books.take(name, running.wait) for name, running in flows.items()}
            self.books.mark(READY)
            if not any(list(unsteady(each, self.experiment.steady)) for each in found.values()):
                return True
        return False

    def _flows(self, ground: Ground, undo: ExitStack) -> dict[str, Running]:
        """Traffic that meets the fault, every flow of it under way."""
        flows = self._start_all(ground, undo, _LONGEST_SECONDS)
        ground.observer.first(
            lambda _: all(running.sent() for running in flows.values()),
            _FLOWS_SECONDS,
            "every flow sends",
        )
        return flows

    def _crowd(self, ground: Ground, undo: ExitStack) -> Running | None:
        """Streams that the fault is to catch, each behind so many tokens."""
        crowd = self.experiment.crowd
        if crowd is None:
            return None
        flow = crowd.clients.flow
        others = others_of(ground.observer.looks, self.experiment.clients)
        running = self._start(ground, crowd.clients, 0.0)
        undo.callback(self.books.rollback, f"stop {flow.name}", running.stop)
        ground.observer.first(
            lambda look: others.exceeded(look, crowd.at_token),
            _FLOWS_SECONDS,
            f"{LEAST_CAUGHT} or more of {flow.streams} streams are at token {crowd.at_token}",
        )
        return running

    def _break(self, ground: Ground, undo: ExitStack) -> None:
        fault = self._fault = make_fault(self.experiment.fault, ground)
        self._requested = {**fault.requested, **self._laid_over()}
        undo.callback(self.books.rollback, "heal", fault.heal)
        self.say(f"fault: {self.experiment.fault.kind}")
        self.books.mark(INJECTED)
        self._read_back = self.books.step("inject", fault.inject)
        self.books.step("hold", lambda: fault.hold(self.spans.hold))
        self.books.step("heal", fault.heal)
        self.books.mark(HEALED)

    def _watch(self, ground: Ground, crowd: Running | None) -> None:
        """Until the engine says that it is well, and some time beyond; no longer than allowed."""
        self.say("healed; watching the recovery")
        if crowd is not None and self.experiment.crowd is not None:
            self.books.take(self.experiment.crowd.clients.flow.name, crowd.wait)
        try:
            self._await_quiet(ground)
        except FaultError as error:  # the windows show whether service came back
            self.books.missed("watch", time.monotonic(), error)
        self.books.mark(ENDED)

    def _may_recover(self) -> bool:
        """Whether service that comes back now would be back in time."""
        return time.monotonic() - self.books.marks[HEALED] < self.experiment.recover_seconds

    def _watch_on(self, ground: Ground, undo: ExitStack) -> None:
        """See more requests to their end: what turned some away may do so for a while yet."""
        self.say(f"service is not back yet; watching for {self.spans.after:g} s more")
        for name, running in self._start_all(ground, undo, self.spans.after).items():
            self.books.take(name, running.wait)
        self.books.mark(ENDED)

    def _await_quiet(self, ground: Ground) -> None:
        """Until nobody was turned away or failed for as long as recovery is watched."""
        since, known = time.monotonic(), -1.0

        def quiet(look: Look) -> bool:
            nonlocal since, known
            refused = look.total("phase5_requests_total") - sum(
                look.total("phase5_requests_total", outcome=fine) for fine in _FINE
            )
            if not look.serving or refused != known:
                since, known = look.at, refused
            return look.at - since >= self.spans.after

        limit = self.experiment.recover_seconds + self.spans.after
        ground.observer.first(quiet, limit, "the engine serves again")

    def _settled(self, ground: Ground) -> Holdings | None:
        """What the engine holds once no stream is open; None where that cannot be seen."""
        if ground.engine.pid is None:
            return None
        with suppress(FaultError):  # then that is what it holds
            ground.observer.first(
                lambda look: not look.error and look.status.get("streams_in_flight") == 0,
                _SETTLE_SECONDS,
                "no stream is open",
            )
        return holdings(ground.engine.pid)

    def _look_back(self, ground: Ground) -> None:
        self._looks = ground.observer.looks
        log = ground.engine.log
        if log is not None and log.exists():
            self._log = log.read_text("utf-8", "replace")[-_LOG_CHARACTERS:]

    # Traffic.

    def _start_all(self, ground: Ground, undo: ExitStack, seconds: float) -> dict[str, Running]:
        flows: dict[str, Running] = {}
        for clients in self.experiment.clients:
            name = clients.flow.name
            running = flows[name] = self._start(ground, clients, seconds)
            undo.callback(self.books.rollback, f"stop {name}", running.stop)
        return flows

    def _start(self, ground: Ground, clients: Clients, seconds: float) -> Running:
        proxy = ground.proxies.get(clients.flow.name)
        url = proxy.url() if proxy else base_of(ground.engine, clients)
        self._started += 1  # no two flows of a run ask the same
        return self.stage.traffic.start(
            clients.flow,
            url=url,
            model=ground.engine.model,
            seconds=seconds,
            seed=self.seed + self._started,
        )

    def _laid_over(self) -> dict[str, Any]:
        config = self.experiment.config
        return {"configuration": dict(config)} if config else {}

    def _record(self) -> Record:
        return Record(
            begun=self.books.begun,
            marks=dict(self.books.marks),
            samples={name: tuple(found) for name, found in self.books.samples.items()},
            looks=self._looks,
            log=self._log,
        )

    def _effect(self, record: Record) -> Effect:
        if self._fault is None or ENDED not in record.marks:
            return Effect(why="it was never carried through")
        return self._fault.effect(record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
