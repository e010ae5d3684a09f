"""Rounds of all arms of all comparisons, one after the other, in an order that is drawn."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from random import Random
from typing import Final

from engine.runtime.models import ModelFiles
from engine.server.text import TextCodec
from pytest_phase5.bench.arms import ARMS, OFF, orders, taking_part
from pytest_phase5.bench.asking import Asker, Round, at_rest
from pytest_phase5.bench.cells import OVERLOADED, Cell
from pytest_phase5.bench.identity import Identity, identical
from pytest_phase5.bench.prompts import Asked, Sizes, asked
from pytest_phase5.bench.servers import Server, patience, started

#: Prompts of each kind that are compared with mlx-lm's own answers.
_EACH: Final = 4
_EACH_SLOW: Final = 2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to measure."""

    model: ModelFiles
    cells: Sequence[Cell]
    arms: Sequence[str] = ARMS
    rounds: int = 5
    seed: int = 0
    seconds: float = inf  #: after which no further round begins
    patient: bool = False  #: our engines shed nobody whose first token would be late


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A comparison that was carried out."""

    cell: Cell
    rounds: Sequence[Round]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All of it, with how each server was started and whether its answers are mlx-lm's."""

    cells: Sequence[Compared]
    options: Mapping[str, str]
    environment: Mapping[str, Mapping[str, str]]
    identities: Sequence[Identity]
    engine_config: str = ""  #: of our engines, where it is not the packaged one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What all comparisons of a run share."""

    order: Order
    servers: Mapping[str, Server]
    rest_mib: Mapping[str, float]
    folder: Path
    sizes: Sizes
    random: Random
    say: Say
    deadline: float  #: on the monotonic clock

    def asker(self, cell: Cell, folder: str) -> Asker:
        """Asks rounds of a comparison."""
        return Asker(cell, self.servers, self.rest_mib, self.folder / folder, self.order.seed)

    def asked(self, cell: Cell, count: int, later: int = 0) -> Asked:
        """Requests of its workload; another `later` gives others."""
        seed = seed_of(self.order.seed, cell) + later
        return asked(cell.workload, self.sizes, count, seed, cell.prompt)


def carry_out(order: Order, folder: Path, say: Say) -> Outcome:
    """Start the servers, see that they answer alike, and measure.

    Raises:
        EngineError: a server does not start, or does not answer at all.
    """
    streams = max(cell.streams for cell in order.cells)
    wanted = [arm for arm in order.arms if any(arm in _arms(order, c) for c in order.cells)]
    codec, deadline = TextCodec(order.model.path), time.monotonic() + order.seconds
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for arm in wanted:
            say(f"starting {arm}")
            servers[arm] = stack.enter_context(
                started(arm, order.model, folder, streams=streams, patient=order.patient)
            )
        identities = identical(order.model, servers, _EACH_SLOW if order.patient else _EACH)
        for one in identities:
            say(one.told)
        session = _Session(
            order=order,
            servers=servers,
            rest_mib=at_rest(servers),
            folder=folder / "runs",
            sizes=Sizes.of(lambda text: len(codec.encode(text))),
            random=Random(order.seed),  # noqa: S311 - an order that can be had again, no secret
            say=say,
            deadline=deadline,
        )
        return Outcome(
            cells=[_compare(session, cell) for cell in order.cells],
            options={arm: server.options for arm, server in servers.items()},
            environment={arm: server.environment for arm, server in servers.items()},
            identities=identities,
            engine_config=patience(order.model) if order.patient else "",
        )


def _arms(order: Order, cell: Cell) -> list[str]:
    """An open loop has any number of streams: there the wide peer takes part, too."""
    able = taking_part(cell.streams) if cell.closed else ARMS
    return [arm for arm in able if arm in order.arms]


def _compare(session: _Session, cell: Cell) -> Compared:
    if not cell.closed:
        cell = _overloaded(session, cell)
        session.say(f"{cell.name}: {cell.rate:.1f} requests a second arrive")
    arms, rounds = _arms(session.order, cell), session.order.rounds
    source = session.asked(cell, cell.warm_up + rounds * cell.requests)
    _warm_up(session, cell, source[: cell.warm_up], arms)
    asker, found = session.asker(cell, _name(cell)), list[Round]()
    for number, drawn in enumerate(orders(arms, rounds, session.random)):
        if time.monotonic() > session.deadline:
            session.say(f"{cell.name}: the time is over after {number} of {rounds} rounds")
            break
        # No two rounds ask the same; within a round every arm is asked the same.
        begin = cell.warm_up + number * cell.requests
        share = source[begin : begin + cell.requests]
        found += [asker.ask(arm, share, number, place) for place, arm in enumerate(drawn)]
        session.say(f"{cell.name}, round {number + 1} of {rounds}: {_told(found, number)}")
    return Compared(cell=cell, rounds=found)


def _warm_up(session: _Session, cell: Cell, share: Asked, arms: Sequence[str]) -> None:
    """The same for all, in a closed loop; it does not count."""
    asker = session.asker(replace(cell, rate=None), f"{_name(cell)}-warm-up")
    for arm in arms:
        asker.ask(arm, share, 0, 0)


def _overloaded(session: _Session, cell: Cell) -> Cell:
    """At twice the rate that our engine without flags, or else the first server, gets done."""
    arm = OFF if OFF in session.servers else next(iter(session.servers))
    source = session.asked(cell, 2 * cell.requests, later=1)
    _warm_up(session, replace(cell, workload=f"{cell.workload}-capacity"), source, [arm])
    asker = session.asker(cell, f"{_name(cell)}-capacity")
    done = asker.ask(arm, source[cell.requests :], 0, 0)
    rate = OVERLOADED * done.figures.measures["requests_per_second"]
    return replace(cell, rate=rate, requests=max(cell.requests, round(rate * cell.arriving)))


def seed_of(seed: int, cell: Cell) -> int:
    """Of the requests of a comparison: what another one asked would be known already."""
    return ((seed * 10_000 + cell.prompt) * 10_000 + cell.streams) * 10


def _told(rounds: Sequence[Round], number: int) -> str:
    own = [one for one in rounds if one.number == number]
    return ", ".join(f"{one.arm} {_rate(one)}" for one in own)


def _rate(one: Round) -> str:
    rate = one.figures.measures.get("requests_per_second")
    said = "nothing" if rate is None else f"{rate:.1f}/s"
    return said if one.figures.state == "whole" else f"{said} ({one.figures.reason})"


def _name(cell: Cell) -> str:
    return f"{cell.workload}-{cell.streams}-{cell.prompt}"
