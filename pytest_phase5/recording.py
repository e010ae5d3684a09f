"""What a test brought: samples and checks with their provenance, one file for each attempt.

A test only records; whether a criterion holds is for the judge. Evidence is written at the
end of the call phase, also when the test failed, was skipped or xfailed inside.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_phase5.stash import POOL, RUN, SETTINGS, WORKER_INPUT, worker_input

if TYPE_CHECKING:
    from gates.evidence import Check
    from gates.journal import Journal
    from gates.samples import Sample
    from gates.usage import Usage
    from pytest_phase5.engines import Engine
    from pytest_phase5.load.running import ProfileResult
    from pytest_phase5.pool import EnginePool

LOGS_DIR: Final = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Facts of one session that every row and file carries."""

    id: str
    folder: Path  #: where evidence and logs go
    workers: int  #: pytest workers on this machine
    worker: str  #: this one, `main` without pytest-xdist


@dataclass(slots=True)
class _Part:
    """Samples of one pair of engines."""

    treatment: "Engine"
    control: "Engine | None"
    samples: "list[Sample]" = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    usage: "tuple[Usage, ...]" = ()
    journals: "list[Journal]" = field(default_factory=list)
    profile: str = ""
    time_scale: float = 1.0


@dataclass(slots=True)
class Evidence:
    """What the `evidence` fixture gives to a test."""

    parts: list[_Part] = field(default_factory=list)
    checks: "list[Check]" = field(default_factory=list)

    def record(self, result: Any, *, treatment: "Engine", control: "Engine | None" = None) -> None:
        """Keep samples of engines.

        Args:
            result: samples, or a load result with `samples`, `valid` and `invalid_reason`.
            treatment: the engine that served the samples of arm `treatment`.
            control: the engine that served those of arm `control`, in a comparison.

        Raises:
            ValueError: for samples of an arm without an engine.
        """
        samples = tuple(getattr(result, "samples", result))
        arms = {"treatment"} | ({"control"} if control is not None else set())
        strange = sorted({sample.arm for sample in samples} - arms)
        if strange:
            raise ValueError(f"samples of arm {strange[0]!r}; allowed: {', '.join(sorted(arms))}")
        part = self._part(treatment, control)
        part.samples += _renumbered(samples, part.samples)
        if not getattr(result, "valid", True):
            part.reasons.append(result.invalid_reason or "the load run says that it is not valid")

    def record_profile(self, result: "ProfileResult") -> None:
        """Keep the samples of a load profile, without its warm-ups, and what was read beside.

        Each part stays a measurement of its own: two runs have no clock in common.
        """
        from pytest_phase5.load.building import measured

        for part in result.parts:
            kept = _Part(part.engine, None, list(measured(part.samples)), list(part.reasons))
            kept.usage, kept.profile = part.usage, result.profile.name
            kept.time_scale = result.setting.time_scale
            self.parts.append(kept)

    def record_journal(
        self, journal: "Journal", *, treatment: "Engine", control: "Engine | None" = None
    ) -> None:
        """Keep what a chaos experiment on engines reports of itself."""
        self._part(treatment, control).journals.append(journal)

    def check(self, name: str, ok: bool, detail: str = "") -> None:
        """Keep the answer to a yes-or-no demand, such as `no orphan process`."""
        from gates.evidence import Check

        self.checks.append(Check(name=name, ok=bool(ok), detail=detail))

    def serves(self, treatment: "Engine", control: "Engine | None" = None) -> None:
        """Name the engines that checks are about, where no samples are recorded."""
        self._part(treatment, control)

    def _part(self, treatment: "Engine", control: "Engine | None") -> _Part:
        for part in self.parts:
            same = part.treatment is treatment and part.control is control
            if same and not part.profile:
                return part
        self.parts.append(_Part(treatment, control))
        return self.parts[-1]


EVIDENCE: pytest.StashKey[Evidence] = pytest.StashKey()
ATTEMPT: pytest.StashKey[int] = pytest.StashKey()


def run_of(request: pytest.FixtureRequest) -> Run:
    """The session's run; without a gate it is made when a fixture first needs it.

    A session without a gate keeps to a temporary folder: the report folder holds the
    evidence of the last verdict.
    """
    stash = request.config.stash
    if RUN not in stash:
        from pytest_phase5.per_test import attend_tests

        attend_tests(request.config)
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        stash[RUN] = new_run(request.config, factory.mktemp("phase5"))
    return stash[RUN]


def new_run(config: pytest.Config, folder: Path) -> Run:
    """A run that writes to a folder; a worker of pytest-xdist shares its controller's id."""
    given = worker_input(config) or {}
    handed = given.get(WORKER_INPUT, {})
    return Run(
        id=handed.get("run") or uuid.uuid4().hex,
        folder=folder,
        workers=given.get("workercount", 1),
        worker=given.get("workerid", "main"),
    )


def pool_of(request: pytest.FixtureRequest) -> "EnginePool":
    """The session's engines, made when a fixture first needs them."""
    from pytest_phase5.pool import EnginePool

    config = request.config
    if POOL not in config.stash:
        run = run_of(request)
        config.stash[POOL] = EnginePool(
            config.stash[SETTINGS], config.hook, run.folder / LOGS_DIR, run.worker
        )
    return config.stash[POOL]


def evidence_of(item: pytest.Item) -> Evidence:
    """The evidence of an item's present attempt."""
    item.stash.setdefault(ATTEMPT, 1)  # nobody counts before the first test of ours is set up
    return item.stash.setdefault(EVIDENCE, Evidence())


def begin_attempt(item: pytest.Item) -> None:
    """Count an attempt and start it with no evidence, however the last one ended."""
    item.stash[ATTEMPT] = item.stash.get(ATTEMPT, 0) + 1
    if EVIDENCE in item.stash:
        del item.stash[EVIDENCE]


def write_evidence(item: pytest.Item, criteria: Iterable[str]) -> list[Path]:
    """Write what an attempt recorded: one file for each pair of engines."""
    from gates.evidence import EVIDENCE_DIR, Measurement, write_measurement

    evidence = item.stash.get(EVIDENCE, None)
    if evidence is None or not (evidence.parts or evidence.checks):
        return []
    run = item.config.stash[RUN]
    common: dict[str, Any] = {
        "run": run.id,
        "item": item.nodeid,
        "attempt": item.stash.get(ATTEMPT, 1),
        "criteria": tuple(dict.fromkeys(criteria)),
        "machine": machine(),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "workers": run.workers,
    }
    measurements = [
        Measurement(
            **common,
            arms=_arms(part),
            samples=tuple(part.samples),
            usage=part.usage,
            journals=tuple(part.journals),
            profile=part.profile,
            time_scale=part.time_scale,
            # Checks belong to the test, so one file carries them.
            checks=tuple(evidence.checks) if part is evidence.parts[0] else (),
            valid=not part.reasons,
            invalid_reason="; ".join(part.reasons),
        )
        for part in evidence.parts
    ] or [Measurement(**common, arms={}, checks=tuple(evidence.checks))]
    folder = run.folder / EVIDENCE_DIR
    return [write_measurement(folder, measurement) for measurement in measurements]


def machine() -> str:
    """The class of this machine, as its engines tell theirs."""
    from engine.server.machine import machine_class

    return machine_class()


def _renumbered(samples: "Iterable[Sample]", before: "list[Sample]") -> "Iterator[Sample]":
    """A second run of one test counts on: no two requests share a number, nor runs a block."""
    index = 1 + max((sample.index for sample in before), default=-1)
    block = 1 + max((sample.block for sample in before), default=-1)
    for sample in samples:
        yield replace(sample, index=sample.index + index, block=sample.block + block)


def _arms(part: _Part) -> dict[str, Any]:
    arms = {"treatment": part.treatment.identity}
    if part.control is not None:
        arms["control"] = part.control.identity
    return arms
