"""What the benchmarks measure: an engine as a process, and the adapter alone in this one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from engine.config import RuntimeConfig
from engine.runtime.blas import THREADS_VARIABLE
from engine.runtime.cores import keep_to_core
from engine.runtime.light import leave_out_transformers

if TYPE_CHECKING:  # mlx must see the right BLAS, which only a child process has
    from engine.runtime.adapter import Adapter


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


def load_adapter(folder: Path, **options: Any) -> "Adapter":
    """The adapter over a model, set up and kept to cores as the runtime's process does."""
    leave_out_transformers()
    from engine.runtime.serving import load

    keep_to_core(int(os.environ.get(THREADS_VARIABLE, "0")))
    config = RuntimeConfig()
    return load(
        folder,
        max_rows=config.max_rows,
        prefill_chunk=config.prefill_chunk,
        prefill_rows=config.prefill_rows,
        prefix_bytes=0,
        **options,
    )
