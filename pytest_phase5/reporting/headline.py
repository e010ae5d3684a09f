"""What a verdict says in a few lines: the word, what must be known beside it, what to do. Pure.

The terminal, `summary.md` and the page share it.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from engine.core.flags import FLAGS
from gates.shown import Shown, in_the_way, shown, worst_first
from gates.verdict import Decision, Verdict

#: What stands where a folder has no verdict, or one that nobody can read.
NO_VERDICT: Final = "no verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagLine:
    """One flag, its step, what becomes of it, and what to run."""

    name: str
    step: str
    decision: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The top of every form of the report.

    Attributes:
        word: `promote`, `hold`, `rollback` or `no verdict`.
        subject: which flags take which step.
        warnings: what makes the verdict worth less than its word; loud.
        reasons: why it is no promotion, the worst first; of a promotion none.
        flags: each flag.
        rows: the criteria, the worst first.
        commands: what to run next, in order.
    """

    word: str
    subject: str
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    flags: tuple[FlagLine, ...] = ()
    rows: tuple[Shown, ...] = ()
    commands: tuple[str, ...] = ()


def headline(
    verdict: Verdict,
    folder: str,
    *,
    now: datetime | None = None,
    differences: tuple[str, ...] = (),
) -> Headline:
    """The headline of a verdict.

    Args:
        verdict: what was decided.
        folder: where it lies, as commands shall name it.
        now: when it is read; None right after it was made.
        differences: where a recomputation came to something else.
    """
    expired = now is not None and now >= datetime.fromisoformat(verdict.expires)
    usable = not (verdict.dry_run or expired or differences)
    flags = tuple(_flag_lines(verdict, folder, usable=usable))
    urgent = sorted(flags, key=lambda line: line.decision != Decision.ROLLBACK)
    commands = [line.command for line in urgent if line.command]
    if differences:
        commands = [f"phase5 gate judge {shlex.quote(folder)}"]
    elif not usable and verdict.verdict is not Decision.ROLLBACK:
        commands = [_again(verdict, folder)]
    elif not commands:
        commands = list(_explaining(verdict, folder)) or [_again(verdict, folder)]
    return Headline(
        word=str(verdict.verdict),
        subject=steps(verdict),
        warnings=tuple(_warnings(verdict, differences, expired=expired)),
        reasons=tuple(" ".join(row.reason.split()) for row in in_the_way(verdict)),
        flags=flags,
        rows=tuple(shown(row) for row in worst_first(verdict)),
        commands=tuple(dict.fromkeys(commands)),
    )


def absent(problem: str, folder: str) -> Headline:
    """The headline of a folder without a verdict that can be read."""
    return Headline(
        word=NO_VERDICT,
        subject="nothing was decided here",
        warnings=(problem,),
        commands=(f"phase5 gate judge {shlex.quote(folder)}",),
    )


def steps(verdict: Verdict) -> str:
    """The steps that a verdict is about: together where all flags take the same."""
    each = _each(verdict)
    same = {(step["from"], step["to"]) for step in each.values()}
    if len(same) == 1:
        ((origin, target),) = same
        return f"{origin} -> {target} ({', '.join(sorted(each))})"
    return "; ".join(f"{f} {s['from']} -> {s['to']}" for f, s in sorted(each.items())) or "no flag"


def _each(verdict: Verdict) -> Mapping[str, Mapping[str, str]]:
    each: Mapping[str, Mapping[str, str]] = verdict.transition.get("each", {})
    return each


def _flag_lines(verdict: Verdict, folder: str, *, usable: bool) -> Iterator[FlagLine]:
    each = _each(verdict)
    for flag in (name for name in FLAGS if name in verdict.flags):
        decision, step = verdict.flags[flag], each.get(flag, {"from": "?", "to": "?"})
        command = ""
        if decision is Decision.ROLLBACK and not verdict.dry_run:
            command = f"phase5 rollback --flag {flag}"
        elif decision is Decision.PROMOTE and usable:
            file = shlex.quote(f"{folder}/verdict.json")
            command = f"phase5 promote --flag {flag} --verdict {file}"
        yield FlagLine(
            name=flag,
            step=f"{step['from']} -> {step['to']}",
            decision=str(decision),
            command=command,
        )


def _warnings(verdict: Verdict, differences: tuple[str, ...], *, expired: bool) -> Iterator[str]:
    if differences:
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        yield f"Differs from its evidence: do not act on it. {differences[0]}{more}"
    if expired:
        yield f"Expired at {verdict.expires}: it can no longer promote."
    if verdict.dry_run:
        yield "Dry run: this verdict can never promote."


def _explaining(verdict: Verdict, folder: str) -> Iterator[str]:
    for row in in_the_way(verdict)[:1]:
        yield f"phase5 gate explain {shlex.quote(row.id)} {shlex.quote(folder)}"


def _again(verdict: Verdict, folder: str) -> str:
    """A gate that can promote, into the furthest stage that was judged."""
    stage = next((step["to"] for step in _each(verdict).values()), "canary")
    return f"python -m pytest --phase5-gate={stage} --phase5-report={shlex.quote(folder)}"
