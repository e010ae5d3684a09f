"""Runs the gated session of the action: pytest, within a time limit, without the step's rights."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gates.evidence import VERDICT_FILE
from gates.github import commands_stopped, without_ours
from gates.stages import STAGES

#: Seconds that a session has to stop its engines after it was interrupted.
GRACE: Final = 30.0


class LateError(Exception):
    """The session did not come to an end in its time."""


class InputError(ValueError):
    """An input that cannot be served: which, what was given, what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A gate as it was asked for.

    Attributes:
        stage: whose door is judged.
        flags: flag sets, as `--phase5-flags` takes them.
        config: the configuration with the rollout's state in it.
        report: folder of the report.
        evidence: further evidence.
        tests: what pytest collects besides the packaged suite; nothing: what it finds itself.
        model: of every engine; empty: what tests or configuration say.
        prometheus: where live evidence is read; empty: nowhere.
        from_off: judge as if every flag stood at off: a dry run.
        seconds: the longest that the session may take.

    Raises:
        InputError: an input that is not allowed, such as an unknown stage.
    """

    stage: str
    flags: str
    config: Path
    report: Path
    evidence: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    model: str = ""
    prometheus: str = ""
    from_off: bool = False
    seconds: float

    def __post_init__(self) -> None:
        if self.stage not in STAGES[1:]:
            raise InputError(f"stage {self.stage!r}; allowed: {', '.join(STAGES[1:])}")
        for path in self.tests:
            if path.startswith("-"):
                raise InputError(f"tests {path!r}; allowed: paths")

    def command(self) -> list[str]:
        """Every value is one argument behind its `=`, so that none becomes another option."""
        return [sys.executable, "-P", "-m", "pytest", *self._options(), *self.tests]

    def _options(self) -> Iterator[str]:
        yield f"--phase5-gate={self.stage}"
        yield f"--phase5-flags={self.flags}"
        yield f"--phase5-config={self.config}"
        yield f"--phase5-report={self.report}"
        yield from (f"--phase5-evidence={path}" for path in self.evidence)
        if self.model:
            yield f"--phase5-model={self.model}"
        if self.prometheus:
            yield f"--phase5-prometheus={self.prometheus}"
        if self.from_off:
            yield "--phase5-from=off"


def run(asked: Asked) -> tuple[int, str | None]:
    """Run it; the exit status, and the text of the verdict that it wrote, if it did.

    Raises:
        LateError: it took too long, and was ended.
        OSError: it cannot be started, or what it wrote cannot be read.
    """
    verdict = asked.report / VERDICT_FILE
    verdict.unlink(missing_ok=True)  # a session that is refused leaves what an earlier one wrote
    with commands_stopped():
        sys.stdout.flush()
        status = _ended(asked)
    return status, verdict.read_text(encoding="utf-8") if verdict.exists() else None


def _ended(asked: Asked) -> int:
    """A session of its own, so that what it started ends with it."""
    process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
        asked.command(), env=without_ours(os.environ), start_new_session=True
    )
    try:
        return process.wait(asked.seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        raise LateError(f"the session took longer than {asked.seconds:g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
