"""What people see of a gate in GitHub: the step's summary, and notes at lines. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gates.actions.outcome import Outcome
from gates.actions.places import Place
from gates.criteria import Outcome as Found
from gates.github import Level, plain
from gates.shown import in_the_way, shown, worst_first
from gates.verdict import CriterionRow, Verdict

_HEAD: Final = ("criterion", "outcome", "measured", "interval", "limit", "n", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One annotation."""

    level: Level
    title: str
    message: str
    file: str = ""
    line: int | None = None


def summary(outcome: Outcome, environment: Mapping[str, str]) -> Iterator[str]:
    """The lines of the step's summary."""
    yield f"## phase5 gate: {outcome.verdict}"
    yield ""
    yield plain(outcome.reason)
    yield ""
    if outcome.judged is not None:
        yield from _verdict(outcome.judged)
        yield f"Verdict `{outcome.digest}`."
    yield from _links(environment)


def notes(verdict: Verdict, places: Mapping[str, Place]) -> Iterator[Note]:
    """A note for each criterion that is not met, the worst first."""
    for row in in_the_way(verdict):
        place = places.get(row.id)
        yield Note(
            level=Level.ERROR if row.outcome is Found.FAIL else Level.WARNING,
            title=f"{row.id}: {row.outcome}",
            message=row.reason,
            file=place.file if place else "",
            line=place.line if place else None,
        )


def _verdict(verdict: Verdict) -> Iterator[str]:
    if verdict.dry_run:
        yield "Dry run: this verdict can never promote."
        yield ""
    yield "| " + " | ".join(_HEAD) + " |"
    yield "|" + " --- |" * len(_HEAD)
    for row in worst_first(verdict):
        yield "| " + " | ".join(_cells(row)) + " |"
    yield ""
    yield "| flag | step | verdict |"
    yield "| --- | --- | --- |"
    for flag, step in sorted(verdict.transition["each"].items()):
        decision = verdict.flags[flag]
        yield f"| {plain(flag)} | {step['from']} → {step['to']} | **{decision}** |"
    yield ""
    subject, machine = verdict.subject, verdict.environment.get("machine", "unknown")
    models = ", ".join(f"{name} {sha256[:12]}" for name, sha256 in sorted(subject.models.items()))
    yield plain(
        f"Engine {subject.engine_version}, commit {subject.commit}, machine class {machine}, "
        f"models: {models or 'none'}; valid until {verdict.expires}."
    )
    yield ""


def _cells(row: CriterionRow) -> tuple[str, ...]:
    told = shown(row)
    texts = (told.id, told.outcome, told.estimate, told.interval, told.limit, told.n, told.reason)
    return tuple(plain(text) for text in texts)


def _links(environment: Mapping[str, str]) -> Iterator[str]:
    """To this run, with its artifacts, and to the commit; only what GitHub told."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA")
    server, repository, run, commit = (environment.get(name, "") for name in names)
    if server and repository and run:
        base = f"{server}/{repository}"
        yield f"[Run and artifacts]({base}/actions/runs/{run})"
        if commit:
            yield f"· [commit {commit[:12]}]({base}/commit/{commit})"
