"""What the benchmarks measure: an engine as a process."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Started:
    """A running engine: where it answers, what it reads, and its front end."""

    urls: list[str]
    config: Path
    front: psutil.Process

    @property
    def runtime(self) -> psutil.Process:
        """The process of the model."""
        (runtime,) = self.front.children()
        return runtime


@contextmanager
def started(yaml: str, *options: str, model: str = "tiny", ports: int = 1) -> Iterator[Started]:
    """An engine with this runtime.yaml, once it answers on so many ports; ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "runtime.yaml"
        config.write_text(yaml)
        command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", f"--model={model}"]
        with subprocess.Popen(
            [*command, "--port=0", f"--config={config}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                urls = [process.stdout.readline().split()[1] for _ in range(ports)]
                yield Started(urls, config, psutil.Process(process.pid))
            finally:
                process.terminate()
