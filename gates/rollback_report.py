"""What a rollback reached, in words and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gates.asking import EngineError
from gates.braking import Confirmed

if TYPE_CHECKING:  # it loads most of the package
    from gates.rollback_store import Written

NOBODY: Final = "no engine is known: name each with --engine URL, or in rollout.engines"

Outcomes = Mapping[str, Confirmed | EngineError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was reached.

    Attributes:
        flags: those that were rolled back.
        outcomes: by URL of an engine, its confirmation or why there is none.
        written: what became of the store.
        left: engines that did not take the store's new state, and why.
        doubt: why there may be other engines; empty when there may not.
    """

    flags: tuple[str, ...]
    outcomes: Outcomes
    written: "Written"
    left: Mapping[str, str]
    doubt: str

    @property
    def confirmed(self) -> bool:
        """Every engine said that it is at 0 %."""
        return last_confirmed(self.outcomes) is not None


def last_confirmed(outcomes: Outcomes) -> float | None:
    """Seconds until every engine had confirmed; None while one has not, or where none is known."""
    times = [answer.seconds for answer in outcomes.values() if isinstance(answer, Confirmed)]
    return max(times) if times and len(times) == len(outcomes) else None


def document(done: Done) -> dict[str, Any]:
    """What was reached, as JSON has it."""
    written = done.written
    return {
        "confirmed": done.confirmed,
        "seconds": last_confirmed(done.outcomes),
        "flags": list(done.flags),
        "engines": {
            url: {**_outcome(outcome), "left_behind": done.left.get(url)}
            for url, outcome in done.outcomes.items()
        },
        "store": {
            "where": written.where,
            "generation": written.after.generation if written.after else None,
            "flags": {f: {"from": a, "to": b} for f, (a, b) in written.flags.items()},
            "error": written.trouble or None,
            "unrecorded": written.unrecorded or None,
        },
        "doubt": done.doubt or None,
    }


def engine_lines(outcomes: Outcomes, flags: tuple[str, ...]) -> Iterator[str]:
    """What the engines said, and when the last one had."""
    for url, outcome in outcomes.items():
        if isinstance(outcome, Confirmed):
            yield f"{url}  0 % after {outcome.seconds:.2f} s"
        else:
            yield f"{url}  NOT CONFIRMED: {outcome.reason}"
    seconds = last_confirmed(outcomes)
    missing = [url for url, outcome in outcomes.items() if isinstance(outcome, EngineError)]
    if seconds is not None:
        yield f"every engine at 0 % after {seconds:.2f} s: {', '.join(flags)}"
    elif not outcomes:
        yield f"NOT CONFIRMED: {NOBODY}"
    else:
        yield f"NOT CONFIRMED by: {', '.join(missing)}"
        yield "run it again, or leave it to the guard: what confirmed stays at 0 %"


def store_lines(done: Done) -> Iterator[str]:
    """What became of the store and the history."""
    written = done.written
    for flag, (origin, target) in written.flags.items():
        yield f"{flag}: {origin} -> {target}"
    if written.after is not None:
        yield f"store {written.where}: generation {written.after.generation}"
    if written.unrecorded:
        yield f"HISTORY NOT WRITTEN: {written.unrecorded}"
    if written.trouble:
        yield f"STORE NOT WRITTEN: {written.trouble}; brakes hold all the same"
    for url, reason in done.left.items():
        yield f"{url}  does not have the store's new state, the guard brings it: {reason}"
    if done.doubt:
        yield f"{done.doubt}; engines from --engine and from what was known last"


def _outcome(outcome: Confirmed | EngineError) -> dict[str, Any]:
    if isinstance(outcome, EngineError):
        return {"confirmed": False, "seconds": None, "brakes": {}, "error": outcome.reason}
    return {
        "confirmed": True,
        "seconds": outcome.seconds,
        "brakes": dict(outcome.brakes),
        "error": None,
    }
