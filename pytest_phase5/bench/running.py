"""Rounds of all arms of all comparisons, one after the other, in an order that is drawn."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

from engine.runtime.models import ModelFiles
from engine.server.text import TextCodec
from pytest_phase5.bench.arms import ARMS, OFF, orders, taking_part
from pytest_phase5.bench.asking import Asker, Round, at_rest
from pytest_phase5.bench.cells import FAST_BOUND, OVERLOADED, Cell
from pytest_phase5.bench.identity import Identity, identical
from pytest_phase5.bench.prompts import Sizes, asked
from pytest_phase5.bench.servers import Server, started

#: Seconds of arrivals in a round of `overload`: enough for a queue to grow long.
_OVERLOAD_SECONDS: Final = 0.4

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to measure."""

    model: ModelFiles
    cells: Sequence[Cell]
    arms: Sequence[str] = ARMS
    rounds: int = 5
    seed: int = 0


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


def carry_out(order: Order, folder: Path, say: Say) -> Outcome:
    """Start the servers, see that they answer alike, and measure.

    Raises:
        EngineError: a server does not start, or does not answer at all.
    """
    streams = max(cell.streams for cell in order.cells)
    wanted = [arm for arm in order.arms if any(arm in _arms(order, c) for c in order.cells)]
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for arm in wanted:
            say(f"starting {arm}")
            servers[arm] = stack.enter_context(started(arm, order.model, folder, streams=streams))
        identities = identical(order.model, servers)
        for one in identities:
            say(one.told)
        rest, random = at_rest(servers), Random(order.seed)  # noqa: S311 - an order, no secret
        compared = [
            _compare(order, cell, servers, rest, folder / _name(cell), random, say)
            for cell in order.cells
        ]
        return Outcome(
            cells=compared,
            options={arm: server.options for arm, server in servers.items()},
            environment={arm: server.environment for arm, server in servers.items()},
            identities=identities,
        )


def _arms(order: Order, cell: Cell) -> list[str]:
    """An open loop has any number of streams: there the wide peer takes part, too."""
    able = taking_part(cell.streams) if cell.closed else ARMS
    return [arm for arm in able if arm in order.arms]


def _compare(  # noqa: PLR0917 - the parts of one comparison
    order: Order,
    cell: Cell,
    servers: Mapping[str, Server],
    rest: Mapping[str, float],
    folder: Path,
    random: Random,
    say: Say,
) -> Compared:
    arms = _arms(order, cell)
    sizes = Sizes.of(lambda text: len(TextCodec(order.model.path).encode(text)))
    if not cell.closed:
        cell = _overloaded(order, cell, servers, rest, folder / "capacity", sizes)
        say(f"{cell.name}: {cell.rate:.0f} requests a second, twice what is done without flags")
    count = cell.warm_up + order.rounds * cell.requests
    source = asked(cell.workload, sizes, count, order.seed, cell.prompt)
    asker = Asker(cell, servers, rest, folder, order.seed)
    warm = replace(asker, cell=replace(cell, rate=None))
    for arm in arms:
        warm.ask(arm, source[: cell.warm_up], -1, 0)
    rounds: list[Round] = []
    for number, arms_in_order in enumerate(orders(arms, order.rounds, random)):
        begin = cell.warm_up + number * cell.requests
        share = source[begin : begin + cell.requests]
        for place, arm in enumerate(arms_in_order):
            rounds.append(asker.ask(arm, share, number, place))
        say(f"{cell.name}, round {number + 1} of {order.rounds}: {_told(rounds, number)}")
    return Compared(cell=cell, rounds=rounds)


def _overloaded(  # noqa: PLR0917 - the parts of one comparison
    order: Order,
    cell: Cell,
    servers: Mapping[str, Server],
    rest: Mapping[str, float],
    folder: Path,
    sizes: Sizes,
) -> Cell:
    """The rate that is twice what our engine without flags, or else the first server, gets done."""
    arm = OFF if OFF in servers else next(iter(servers))
    asker = Asker(cell, servers, rest, folder, order.seed)
    source = asked(cell.workload, sizes, 2 * cell.requests, order.seed + 1, cell.prompt)
    asker.ask(arm, source[: cell.requests], -2, 0)
    done = asker.ask(arm, source[cell.requests :], -1, 0)
    rate = OVERLOADED * done.figures.measures["requests_per_second"]
    seconds = _OVERLOAD_SECONDS * FAST_BOUND if cell.bound <= FAST_BOUND else cell.bound / 4
    return replace(cell, rate=rate, requests=max(cell.requests, round(rate * seconds)))


def _told(rounds: Sequence[Round], number: int) -> str:
    own = [one for one in rounds if one.number == number]
    return ", ".join(f"{one.arm} {_rate(one)}" for one in own)


def _rate(one: Round) -> str:
    rate = one.figures.measures.get("requests_per_second")
    said = "nothing" if rate is None else f"{rate:.1f}/s"
    return said if one.figures.state == "whole" else f"{said} ({one.figures.reason})"


def _name(cell: Cell) -> str:
    return f"{cell.workload}-{cell.streams}-{cell.prompt}"


