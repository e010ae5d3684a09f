"""What pytest planned, and what became of it.

An item passed when each phase of its one attempt passed. Everything else (skipped, xfailed,
rerun, deselected, never reached) is not a pass, whatever pytest's exit status says.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gates.attempts import Attempt, Kind
from gates.evidence import Measurement

PHASES: Final = ("setup", "call", "teardown")

#: Exit statuses of a session that ran to its end: all passed, or some failed.
COMPLETE: Final = frozenset({0, 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One planned item: why it did not pass, empty when it did."""

    id: str
    criteria: frozenset[str]
    attempt: int | None = None  #: the number of its one attempt
    problem: str = ""
    failed: bool = False  #: a phase failed, as against: there is no final pass
    skipped: bool = False  #: skipped, and nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run of pytest: its items, and what went wrong with the run as a whole."""

    run: str
    stage: str | None
    flags: tuple[str, ...]
    dry_run: bool
    workers: int
    items: tuple[Item, ...]
    problems: tuple[str, ...]
    requires: tuple[str, ...] = ()  #: criteria that add-ons require beside those of the door
    objections: tuple[Attempt, ...] = ()

    def about(self, criterion: str) -> tuple[Item, ...]:
        """The items that declared a criterion."""
        return tuple(item for item in self.items if criterion in item.criteria)

    def item(self, name: str) -> Item | None:
        """A planned item by its id."""
        return next((item for item in self.items if item.id == name), None)


def session_of(attempts: Iterable[Attempt]) -> Session:
    """Read a session out of its rows."""
    rows = tuple(attempts)
    head = next((row for row in rows if row.kind is Kind.SESSION), None)
    return Session(
        run=head.run if head else "",
        stage=head.stage if head else None,
        flags=head.flags if head else (),
        dry_run=head is None or head.origin != "store",
        workers=(head.workers or 1) if head else 1,
        items=tuple(_items(rows)),
        problems=tuple(dict.fromkeys(_problems(rows))),
        requires=head.criteria if head else (),
        objections=tuple(row for row in rows if row.kind is Kind.OBJECTION),
    )


def _items(rows: tuple[Attempt, ...]) -> Iterator[Item]:
    """Every planned item once; one that an option took away counts as planned."""
    criteria: dict[str, frozenset[str]] = {}
    for row in rows:
        if row.kind in (Kind.PLANNED, Kind.DESELECTED) and row.item:
            criteria[row.item] = criteria.get(row.item, frozenset()) | frozenset(row.criteria)
    for name in sorted(criteria):
        own = [row for row in rows if row.item == name]
        yield _item(name, criteria[name], own)


def _item(name: str, criteria: frozenset[str], rows: list[Attempt]) -> Item:
    phases = [row for row in rows if row.kind is Kind.PHASE]
    outcomes = {row.outcome for row in phases}
    attempts = {row.attempt for row in phases}
    return Item(
        id=name,
        criteria=criteria,
        attempt=next(iter(attempts)) if len(attempts) == 1 else None,
        problem=_problem(rows, phases),
        failed="failed" in outcomes,
        skipped="skipped" in outcomes and outcomes <= {"passed", "skipped"},
    )


def _problem(rows: list[Attempt], phases: list[Attempt]) -> str:
    if any(row.kind is Kind.DESELECTED for row in rows):
        return "deselected"
    if not phases:
        return "never ran"
    attempts = sorted({row.attempt or 0 for row in phases})
    if attempts != [1]:
        return f"has attempts {', '.join(map(str, attempts))}; only a first and only one counts"
    bad = next((row for row in phases if row.outcome != "passed"), None)
    if bad is not None:
        reason = f": {bad.reason}" if bad.reason else ""
        return f"{bad.outcome or 'no outcome'} in {bad.phase}{reason}"
    seen = sorted(str(row.phase) for row in phases)
    if seen != sorted(PHASES):
        return f"phases {', '.join(seen)}; expected each of {', '.join(PHASES)} once"
    return ""


def _problems(rows: tuple[Attempt, ...]) -> Iterator[str]:
    yield from _frame(rows)
    for row in rows:
        if row.kind is Kind.COLLECT_ERROR:
            yield f"collection error in {row.item}{_because(row)}"
        elif row.kind is Kind.WORKER_CRASH:
            yield f"worker crashed: {row.item or row.worker}{_because(row)}"
    planned = {row.item for row in rows if row.kind is Kind.PLANNED}
    strangers = {str(row.item) for row in rows if row.kind is Kind.PHASE} - planned
    for name in sorted(strangers):
        yield f"{name} ran without being planned"


def _frame(rows: tuple[Attempt, ...]) -> Iterator[str]:
    """One session, first row to last, and only one run."""
    heads = sum(row.kind is Kind.SESSION for row in rows)
    ends = [row for row in rows if row.kind is Kind.END]
    if heads != 1 or rows[0].kind is not Kind.SESSION:
        yield f"{heads} session rows; expected one, and first"
    if len(ends) != 1:
        yield f"{len(ends)} end rows; expected one: the session was killed or ran twice"
    elif ends[0].exit_status not in COMPLETE:
        yield f"the session was interrupted: pytest's exit status was {ends[0].exit_status}"
    elif any(row.kind is not Kind.OBJECTION for row in rows[rows.index(ends[0]) + 1 :]):
        yield "rows after the end row"
    runs = sorted({row.run for row in rows})
    if len(runs) > 1:
        yield f"rows of several runs: {', '.join(runs)}"


def _because(row: Attempt) -> str:
    return f": {row.reason}" if row.reason else ""


def beside(measurement: Measurement, session: Session) -> Measurement:
    """A measurement shared the machine with every worker of its session."""
    if measurement.run != session.run:
        return measurement
    return replace(measurement, workers=max(measurement.workers, session.workers))
