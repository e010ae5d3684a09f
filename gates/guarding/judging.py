"""From the ledgers to sentences, and to the verdict that justifies them on disk."""

import platform
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gates.engine_views import EngineView
from gates.evidence import VERDICT_FILE
from gates.guarding.folder import VERDICTS
from gates.guarding.ledgers import Ledgers
from gates.guarding.sight import Sentence, breaches, sentences
from gates.guarding.standings import Shown, Soak, shown, soaks
from gates.judge import Request, judge
from gates.ledger_file import LEDGER_FOLDER
from gates.live_judge import each_together
from gates.reader import read_folder
from gates.stages import Policy, Transition
from gates.standing import candidate
from gates.verdict import Decision, Subject, Verdict, write_verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the ledgers say now."""

    sentences: tuple[Sentence, ...]
    complaints: Mapping[str, str]  #: broken, and not by a flag: by flag and criterion
    shown: tuple[Shown, ...]  #: how every live criterion stands
    soaks: tuple[Soak, ...]


@dataclass(frozen=True, slots=True)
class Justified:
    """A verdict on disk."""

    verdict: Verdict
    sha256: str
    path: Path


def judged(policy: Policy, ledgers: Ledgers, now: datetime) -> Judgement:
    """Judge every critical live criterion on every open ledger, and tell how all of them stand."""
    folds = ledgers.folds
    every = each_together(policy.live, folds, now)
    armed = {criterion: every[criterion] for criterion in policy.armed}
    complaints = {
        f"{'+'.join(sorted(finding.flags)) or 'all'}:{name}": finding.reason
        for name, finding in breaches(armed)
    }
    return Judgement(
        sentences(armed, folds),
        complaints,
        tuple(shown(every, folds)),
        tuple(soaks(folds)),
    )


def justified(
    folder: Path,
    policy: Policy,
    ledgers: Ledgers,
    engines: Iterable[EngineView],
    now: datetime,
) -> Justified:
    """Write the verdict on all flags that are watched, beside copies of their ledgers.

    The question is whether each may stay where it is. `phase5 gate verify` answers it again.

    Raises:
        OSError: it cannot be written.
    """
    verdicts = folder / VERDICTS
    verdicts.mkdir(parents=True, exist_ok=True)
    place = verdicts / f"{now:%Y%m%dT%H%M%S}Z-{uuid.uuid4().hex[:8]}"
    partial = place.with_suffix(".partial")
    (partial / LEDGER_FOLDER).mkdir(parents=True)
    for flag in ledgers.watched:
        path = ledgers.path(flag)
        shutil.copyfile(path, partial / LEDGER_FOLDER / path.name)
    verdict = judge(policy, read_folder(partial), _request(ledgers, tuple(engines), now))
    sha256 = write_verdict(partial / VERDICT_FILE, verdict)
    partial.rename(place)
    return Justified(verdict, sha256, place / VERDICT_FILE)


def disagreements(found: Justified, convicted: Iterable[str]) -> tuple[str, ...]:
    """The flags that were convicted while they were watched, and not by the files."""
    decisions = found.verdict.flags
    return tuple(f for f in convicted if decisions.get(f) is not Decision.ROLLBACK)


def candidate_of(ledgers: Ledgers, flag: str, engines: Iterable[EngineView]) -> str:
    """What a flag ran: by its ledger, else by what its engines say; empty when it is not known."""
    if flag in ledgers.watched:
        header = ledgers.watched[flag].header
        return candidate(header.commit, header.config_sha256)
    found = {candidate(view.commit, view.config_sha256) for view in engines}
    return found.pop() if len(found) == 1 else ""


def _request(ledgers: Ledgers, engines: tuple[EngineView, ...], now: datetime) -> Request:
    headers = {flag: each.header for flag, each in ledgers.watched.items()}
    youngest = max(headers.values(), key=lambda header: (header.epoch, header.flag))
    versions = {view.engine_version for view in engines}
    return Request(
        stage=youngest.stage,
        transitions={flag: Transition(h.stage, h.stage) for flag, h in headers.items()},
        now=now,
        subject=Subject(
            commit=youngest.commit,
            config_sha256=youngest.config_sha256,
            engine_version=versions.pop() if len(versions) == 1 else "unknown",
            epochs={flag: header.epoch for flag, header in headers.items()},
            models={view.model: view.model_sha256 for view in engines},
        ),
        environment={
            "machine": min((view.machine for view in engines), default=""),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    )
