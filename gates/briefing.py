"""What a person needs at once, for each flag: what serves, what acted, what to run now. Pure.

A page, an alert and `phase5 status` open with the same lines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import PurePosixPath
from typing import Final

from engine.core.flags import FLAGS
from gates.brief_rules import Level, step_of
from gates.scene import Scene

RUNBOOKS: Final = PurePosixPath("docs/phase5/runbooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """One flag.

    Attributes:
        flag: its name.
        level: how soon somebody has to look.
        headline: what is the matter, in a few words.
        serves: the stage, and the shares that engines serve.
        acted: the last change: what, who, when, why.
        confirmed: engines that serve what the store says.
        unconfirmed: engines that do not, or do not answer, each with the reason.
        stays: the other flags that serve streams, with their share.
        command: what to run next.
        runbook: the page, from the root of the repository.
        rests: nothing serves it, and nothing is to serve it.
    """

    flag: str
    level: Level
    headline: str
    serves: str
    acted: str
    confirmed: tuple[str, ...]
    unconfirmed: Mapping[str, str]
    stays: tuple[str, ...]
    command: str
    runbook: str
    rests: bool


def briefs(scene: Scene) -> list[Brief]:
    """Every flag, those first that cannot wait."""
    found = [_brief(scene, flag) for flag in FLAGS]
    return sorted(found, key=lambda brief: -brief.level)


def _brief(scene: Scene, flag: str) -> Brief:
    unconfirmed = scene.unconfirmed(flag)
    step = step_of(scene, flag)
    return Brief(
        flag=flag,
        level=step.level,
        headline=step.headline,
        serves=_serves(scene, flag),
        acted=_acted(scene, flag),
        confirmed=tuple(url for url in scene.engines if url not in unconfirmed),
        unconfirmed=unconfirmed,
        stays=tuple(_staying(scene, flag)),
        command=step.command,
        runbook=str(RUNBOOKS / step.page),
        rests=not scene.share(flag),
    )


def _serves(scene: Scene, flag: str) -> str:
    standing = scene.standing(flag)
    stage = "stage unknown" if standing is None else f"{standing.stage}, {standing.percentage:g} %"
    shares = sorted({view.flags[flag].effective for view in scene.views()})
    if not shares:
        engines = "engines unknown" if scene.engines else "no engine is known"
    else:
        engines = f"engines serve {' to '.join(f'{share:g}' for share in _ends(shares))} %"
    return f"{stage}; {engines}"


def _ends(shares: list[float]) -> list[float]:
    return shares if len(shares) == 1 else [shares[0], shares[-1]]


def _acted(scene: Scene, flag: str) -> str:
    if scene.last is None:
        return f"unknown: {scene.damage or scene.trouble or 'no history was read'}"
    record = scene.last.get(flag)
    if record is None:
        return "nothing yet"
    at = record.at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
    cause = f" ({record.cause})" if record.cause else ""
    doubt = f"; the history is in doubt: {scene.damage}" if scene.damage else ""
    return f"{record.event}{cause} by {record.who}, {at}: {record.reason or 'no reason'}{doubt}"


def _staying(scene: Scene, flag: str) -> Iterator[str]:
    for other in FLAGS:
        share = scene.share(other)
        if other != flag and share:
            yield f"{other} {share:g} %"
