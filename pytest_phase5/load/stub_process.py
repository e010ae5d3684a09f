"""The calibrated stub in a process of its own, and what it says that it did."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class StubError(RuntimeError):
    """The stub did not start. The message says what it said."""


@dataclass(frozen=True, slots=True)
class StubProcess:
    """A stub that runs."""

    port: int
    log: Path
    scheme: str
    process: "subprocess.Popen[str]"

    def url(self, state: str = "up") -> str:
        """Its base URL; in the state `down` it says that it is not ready."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{state}"

    def seen(self) -> dict[str, dict[str, float]]:
        """Its own times, by key; see `stub`."""
        rows: dict[str, dict[str, float]] = {}
        for line in self.log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows.setdefault(row.pop("key"), {}).update(row)
        return rows


@contextmanager
def running_stub(log: Path, **options: float | Path) -> Iterator[StubProcess]:
    """Start a stub; it ends with the block, or with this process.

    Args:
        log: file for its times, made here.
        options: those of `stub`'s command line: `ttft`, `gap`, `stall_at`, `stall`,
            and `cert` and `key` for TLS.

    Raises:
        StubError: when it does not start.
    """
    log.touch()
    said = log.with_suffix(".said")
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    with (
        said.open("w", encoding="utf-8") as errors,
        subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "pytest_phase5.load.stub", str(log), *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("ready "):
                why = said.read_text(encoding="utf-8").strip() or repr(line)
                raise StubError(f"the calibrated stub did not start: {why[-500:]}")
            scheme = "https" if "cert" in options else "http"
            yield StubProcess(int(line.split()[1]), log, scheme, process)
        finally:
            process.kill()
            process.wait()  # on Ctrl-C leaving the block would not
