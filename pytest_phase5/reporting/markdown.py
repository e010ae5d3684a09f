"""A headline as Markdown, for step summaries and for reading as it is. Pure."""

from collections.abc import Iterator
from typing import Final

from gates.github import plain
from pytest_phase5.reporting.headline import Headline

_HEAD: Final = (
    *("criterion", "outcome", "measured", "interval", "limit", "n", "needs", "source"),
    *("stretch", "reason"),
)


def markdown(head: Headline) -> Iterator[str]:
    """The lines of `summary.md`."""
    yield f"# Gate: {head.word}: {head.subject}"  # words, flags and stages are ours
    yield ""
    for warning in head.warnings:
        yield f"**{plain(warning)}**"
        yield ""
    if head.rows:
        yield "| " + " | ".join(_HEAD) + " |"
        yield "|" + " --- |" * len(_HEAD)
        for t in head.rows:
            cells = (t.id, t.outcome, *(value for _, value in t.facts()), t.stretch, t.reason)
            yield "| " + " | ".join(map(plain, cells)) + " |"
        yield ""
    for flag in head.flags:
        yield f"- `{flag.name}`, {flag.step}: **{flag.decision}**"
    yield ""
    yield "Next:"
    yield ""
    yield from (f"    {command}" for command in head.commands)
