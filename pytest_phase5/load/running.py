"""Carries out the parts of a profile: runs, readings beside them, and both sets of books."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from engine.core.flags import flag_set_name, parse_flag_set
from gates.samples import Sample
from gates.usage import Usage
from pytest_phase5.engines import Engine, EngineError
from pytest_phase5.load.building import Setting, check_sendable, count_plans, plans_of
from pytest_phase5.load.checks import GaveWay, read_report
from pytest_phase5.load.counts import EngineCounts, client_counts, differences, engine_counts
from pytest_phase5.load.driver import PLAN_FILE, REPORT_FILE, read_run, run_plan
from pytest_phase5.load.joining import Run, joined
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.profiles import GOOD_TTFT, Part, Profile, ProfileError, Steps
from pytest_phase5.load.progress import Progress
from pytest_phase5.load.resources import Watch
from pytest_phase5.load.subjects import front_end_of

#: Seconds that an engine may take to notice that its last client has left.
SETTLE: Final = 10.0
_GLANCE: Final = 0.05

#: Gives a running engine with some flags for the length of a block.
EngineFor = Callable[[str], AbstractContextManager[Engine]]
OnProgress = Callable[[Part, Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """What one part brought, its warm-up included (block 0 of `samples`)."""

    part: Part
    engine: Engine
    driver: str
    samples: tuple[Sample, ...] = ()
    usage: tuple[Usage, ...] = ()
    reasons: tuple[str, ...] = ()  #: why it is not valid
    complete: bool = True
    started: str = ""
    connections: int | None = None  #: that clients opened
    stopped_at: int | None = None  #: the block (step) in which the load was too much
    stop_reason: str = ""
    stopped_by: GaveWay | None = None  #: for whom
    late: tuple[int, ...] = ()  #: blocks (steps) in which the generator was late
    counted: EngineCounts | None = None  #: by the engine, during this part

    @property
    def valid(self) -> bool:
        """Whether it may be judged."""
        return not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """What a profile brought."""

    profile: Profile
    setting: Setting
    parts: tuple[PartResult, ...]
    skipped: tuple[str, ...] = ()  #: parts that could not run here, and why

    @property
    def complete(self) -> bool:
        """Whether every part ran to its end."""
        whole = len(self.parts) + len(self.skipped) == len(self.profile.parts)
        return whole and all(part.complete for part in self.parts)

    @property
    def valid(self) -> bool:
        """Whether every part may be judged."""
        return bool(self.parts) and all(part.valid for part in self.parts)


@dataclass(slots=True, kw_only=True)
class Runner:
    """Runs profiles, each part in a folder of its own.

    `flags` are those of the engines, `fixed` says that there is only one engine, which
    somebody else started.
    """

    engine_for: EngineFor
    folder: Path
    flags: str = "off"
    fixed: bool = False
    on_progress: OnProgress | None = None

    def run(self, profile: Profile, setting: Setting) -> ProfileResult:
        """Run the parts in order. On Ctrl-C what there is comes back, incomplete.

        Raises:
            ProfileError: a part cannot be built or sent, or every part needs another engine.
            EngineError: an engine does not start, serve or stop as it must.
        """
        check_sendable(profile, setting)
        parts: list[PartResult] = []
        skipped: list[str] = []
        for flags, group in _by_engine(profile, self.flags):
            if self.fixed and flags != self.flags:
                skipped += [f"{part.name}: needs an engine with flags {flags}" for part in group]
                continue
            with self.engine_for(flags) as engine:
                for part in group:
                    if all(done.complete for done in parts):
                        parts.append(self._part(part, engine, setting))
            if not parts[-1].complete:
                break
        if not parts:
            raise ProfileError(f"{profile.name}: {'; '.join(skipped)}")
        return ProfileResult(
            profile=profile, setting=setting, parts=tuple(parts), skipped=tuple(skipped)
        )

    def _part(self, part: Part, engine: Engine, setting: Setting) -> PartResult:
        driver = part.driver or setting.driver
        url = engine.h2_url if driver == "http2" else engine.url
        if url is None:
            raise ProfileError(f"{engine.url} has no port for HTTP/2; allowed: one that has")
        setting = replace(setting, driver=driver, url=url)
        plans, of = plans_of(part, setting), count_plans(part, setting)
        before = engine_counts(engine.metrics())
        # Steps go on until something gives way, be it the generator: their own checks tell.
        judged = part.timed and not (setting.rehearses or isinstance(part.load, Steps))
        self_check = GOOD_TTFT if judged else None
        runs: list[Run] = []
        with Watch(engine.url, front_end_of(engine)) as watch:
            for number, plan in enumerate(plans):
                shown = (
                    part if of == 1 else replace(part, name=f"{part.name}, {number + 1} of {of}")
                )
                folder = self.folder / file_name(part.name) / str(number)
                runs.append(self._plan(shown, plan, folder, self_check))
                if not runs[-1].result.complete:
                    break
        samples = joined(runs)
        last = runs[-1].result
        reasons = [run.result.invalid_reason for run in runs if not run.result.valid]
        after = self._settled(engine, before, samples)
        return PartResult(
            part=part,
            engine=engine,
            driver=driver,
            samples=samples,
            usage=watch.usage(runs[0].origin, samples),
            reasons=(*reasons, *_disagreements(after, samples)),
            complete=last.complete,
            started=runs[0].result.started,
            connections=last.connections if len(runs) == 1 else None,
            stopped_at=last.stopped_at,
            stop_reason=last.stop_reason,
            stopped_by=last.stopped_by,
            late=last.late,
            counted=after,
        )

    def _plan(self, part: Part, plan: Plan, folder: Path, self_check: float | None) -> Run:
        def progress(now: Progress) -> None:
            if self.on_progress is not None:
                self.on_progress(part, now)

        try:
            result = run_plan(plan, folder, on_progress=progress, self_check=self_check)
        except KeyboardInterrupt:
            if not (folder / PLAN_FILE).exists():
                raise
            result = replace(read_run(folder), complete=False)
        report = folder / REPORT_FILE
        return Run(result, read_report(report).origin if report.exists() else time.monotonic())

    def _settled(
        self, engine: Engine, before: EngineCounts, samples: Sequence[Sample]
    ) -> EngineCounts | None:
        """What the engine counted, once it has noticed every end; None if it does not say."""
        client = client_counts(samples)
        deadline = time.monotonic() + SETTLE
        try:
            while True:
                counted = engine_counts(engine.metrics()).since(before)
                open_still = counted.in_flight or any(differences(counted, client))
                if not open_still or time.monotonic() > deadline:
                    return counted
                time.sleep(_GLANCE)
        except EngineError:
            return None


def file_name(text: str) -> str:
    """A name as that of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _by_engine(profile: Profile, asked: str) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """The parts in order, those that follow each other on one engine together."""
    wanted = flag_set_name(parse_flag_set(asked) | set(profile.needs))
    for flags, parts in groupby(profile.parts, key=lambda part: part.flags or wanted):
        yield flags, tuple(parts)


def _disagreements(counted: EngineCounts | None, samples: Sequence[Sample]) -> Iterator[str]:
    if counted is None:
        yield "the engine did not answer after the run"
        return
    found = list(differences(counted, client_counts(samples)))
    if found:
        yield f"{'; '.join(found)} (is anybody else using this engine?)"
    if counted.restarts:
        yield f"{counted.restarts} restarts of the runtime during the run"
