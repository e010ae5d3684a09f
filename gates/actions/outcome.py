"""What a gated session came to, as a workflow needs it. Pure.

pytest's exit status and the verdict's file must agree. Whatever does not fit is `none`, which
moves nothing and is not green: the gate itself broke.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, combinations
from typing import Final

from engine.core.flags import FLAGS, flag_set_name
from gates.evidence import EvidenceError
from gates.shown import in_the_way
from gates.stages import OFF, STAGES
from gates.standing import Standing
from gates.verdict import Decision, Verdict, digest, from_json

#: The word for "there is no verdict".
NONE: Final = "none"

#: A stage that is chosen by where the flags stand.
AUTO: Final = "auto"

#: All flag sets, without the flags that stand elsewhere.
EVERY: Final = "every"

#: How pytest ends under a gate that does not promote: tests failed, was stopped or could not
#: collect, no tests. 3 and 4 are its own errors and wrong usage; a signal is negative.
_NOT_PROMOTED: Final = frozenset({1, 2, 5})

_HOUR: Final = 3600

#: Characters of a reason that travel on; all of it stands in the verdict.
_REASON: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outputs of the action.

    Attributes:
        verdict: `promote`, `hold`, `rollback` or `none`.
        reason: one line.
        digest: SHA-256 of the verdict's text; empty for `none`.
        to: the furthest stage that a flag is promoted to; empty for any other verdict.
        guilty: the flags to roll back, in their order.
        judged: the verdict itself, where there is one.
    """

    verdict: str
    reason: str
    digest: str = ""
    to: str = ""
    guilty: tuple[str, ...] = ()
    judged: Verdict | None = None


def broken(reason: str) -> Outcome:
    """The outcome of a gate that did not come to a verdict."""
    return Outcome(verdict=NONE, reason=" ".join(reason.split())[:_REASON])


def concluded(status: int, text: str | None) -> Outcome:
    """What an exit status of pytest and the text of `verdict.json` come to together."""
    if text is None:
        return broken(f"pytest ended with {status} and left no verdict")
    try:
        verdict = from_json(text)
    except EvidenceError as error:
        return broken(str(error))
    fitting = {0} if verdict.verdict is Decision.PROMOTE else _NOT_PROMOTED
    if status not in fitting:
        return broken(f"pytest ended with {status}, the verdict says {verdict.verdict}")
    return Outcome(
        verdict=verdict.verdict.value,
        reason=_reason(verdict)[:_REASON],
        digest=digest(text),
        to=_furthest(verdict),
        guilty=_flags(verdict, Decision.ROLLBACK),
        judged=verdict,
    )


def stage_in_turn(standings: Mapping[str, Standing], now: datetime) -> tuple[str, str]:
    """The stage whose door an hourly run judges, and the flag sets for it.

    Of the stages with flags each has its turn, with all combinations of its flags and no others:
    a flag that stands before the door is not taken along. Both texts are empty when no flag is on
    its way.
    """
    standing: dict[str, list[str]] = {}
    for flag in FLAGS:
        if flag in standings:
            standing.setdefault(standings[flag].stage, []).append(flag)
    stages = [stage for stage in STAGES[1:-1] if stage in standing]
    if not stages:
        return "", ""
    stage = stages[int(now.timestamp() // _HOUR) % len(stages)]
    flags = standing[stage]
    sets = chain.from_iterable(combinations(flags, size) for size in range(len(flags) + 1))
    return stage, ",".join(flag_set_name(members) for members in sets)


def _reason(verdict: Verdict) -> str:
    """Why, in the words of the criterion that decided; what is promoted, if it is."""
    if verdict.verdict is Decision.PROMOTE:
        steps = verdict.transition["each"]
        moves = (f"{f} {steps[f]['from']} -> {steps[f]['to']}" for f in _promoted(verdict))
        return ", ".join(moves)
    reasons = [row.reason for row in in_the_way(verdict)]
    return " ".join((reasons or ["no criterion is demanded, so nothing was shown"])[0].split())


def _promoted(verdict: Verdict) -> Sequence[str]:
    return _flags(verdict, Decision.PROMOTE)


def _flags(verdict: Verdict, decision: Decision) -> tuple[str, ...]:
    return tuple(flag for flag in FLAGS if verdict.flags.get(flag) is decision)


def _furthest(verdict: Verdict) -> str:
    if verdict.verdict is not Decision.PROMOTE:
        return ""
    targets = [verdict.transition["each"][flag]["to"] for flag in _promoted(verdict)]
    return max(targets, key=STAGES.index, default=OFF)
