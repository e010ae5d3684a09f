"""The models that can be served: built-in names, folders, and ids on the Hugging Face hub.

Light on purpose: the front end resolves its model here and must never import mlx, so
conversion runs in a process of its own.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger("engine.models")

#: Raised by one whenever a recipe changes, so that models of an older recipe are not reused.
_RECIPE: Final = 1

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

#: Everything of a model folder that changes an answer.
_MATTERS: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "*.safetensors",
)
_NEEDED: Final = ("config.json", "tokenizer.json", "*.safetensors")


class ModelError(ValueError):
    """A model cannot be had. The message is one line that names it and what is allowed."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk, ready to serve.

    Attributes:
        name: as it was asked for.
        path: the folder that holds it.
        sha256: over every file that changes an answer.
        builtin: whether it is one of ours.
    """

    name: str
    path: Path
    sha256: str
    builtin: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A built-in model as `phase5 models list` shows it; `sha256` is None until it is built."""

    name: str
    path: Path
    cached: bool
    sha256: str | None


def resolve_model(name: str) -> ModelFiles:
    """The files of a model: a built-in name, a folder, or `org/name` on the Hugging Face hub.

    A built-in model is built on first use, with a line on standard error. Blocks meanwhile.

    Raises:
        ModelError: it is none of these, incomplete, or cannot be fetched.
    """
    if name in _BUILDERS:
        return _files(name, _built(name), builtin=True)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _files(name, _complete(folder.resolve()), builtin=False)
    if _HUB_ID.fullmatch(name):
        return _files(name, _complete(_from_hub(name)), builtin=False)
    raise ModelError(
        f"model {name!r}: no such model; allowed: {', '.join(_BUILDERS)}, an existing folder, "
        "or a Hugging Face id org/name"
    )


def list_models() -> list[Listed]:
    """Every built-in model, and whether it is built already."""
    return [_listed(name) for name in _BUILDERS]


def cache_folder() -> Path:
    """Where models are kept: `PHASE5_CACHE`, else `phase5` in the user's cache folder."""
    if given := os.environ.get("PHASE5_CACHE"):
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "phase5"


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be a model; patterns for files of any name."""
    return [pattern for pattern in _NEEDED if not any(folder.glob(pattern))]


def _listed(name: str) -> Listed:
    path = _place(name)
    cached = path.is_dir() and not missing_files(path)
    return Listed(name, path, cached, _digest(path) if cached else None)


def _files(name: str, path: Path, *, builtin: bool) -> ModelFiles:
    return ModelFiles(name=name, path=path, sha256=_digest(path), builtin=builtin)


def _complete(folder: Path) -> Path:
    if missing := missing_files(folder):
        raise ModelError(
            f"model folder {folder}: {', '.join(missing)} missing; "
            f"a model folder holds {', '.join(_NEEDED)}"
        )
    return folder


# Building


def _place(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-{_RECIPE}"


def _built(name: str) -> Path:
    place = _place(name)
    if not missing_files(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent / f".{name}.lock"):
            # Another process may have built it while this one waited for the lock.
            if missing_files(place):
                _build(name, place)
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename or place})"
        raise ModelError(f"model {name!r} cannot be built: {reason}") from error
    return place


def _build(name: str, place: Path) -> None:
    """Build beside `place`, then rename: nobody ever sees half a model. Needs the lock."""
    for leftover in place.parent.glob(f".{place.name}.*.part"):  # of a process that was killed
        shutil.rmtree(leftover)
    shutil.rmtree(place, ignore_errors=True)
    started = time.monotonic()
    with _part(place) as part:
        _BUILDERS[name](part)
        _complete(part)
        # Temporary files are private; a cache may serve several users.
        for path in (part, *part.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        part.rename(place)
    _progress(f"model {name} is ready after {time.monotonic() - started:.1f} s in {place}")


@contextmanager
def _part(place: Path) -> Iterator[Path]:
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone after the rename


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. The system frees the lock of a process that dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _progress(text: str) -> None:
    sys.stderr.write(f"phase5: {text}\n")
    sys.stderr.flush()


def _build_tiny(folder: Path) -> None:
    from engine.runtime.tiny import build

    build(folder)


def _build_smollm2(folder: Path) -> None:
    from engine.runtime.smollm2 import FetchError, build

    try:
        build(folder, _progress)
    except FetchError as error:
        raise ModelError(str(error)) from error


#: Built-in models, the default first. A builder fills an empty folder.
_BUILDERS: Final[dict[str, Callable[[Path], None]]] = {
    "smollm2-135m": _build_smollm2,
    "tiny": _build_tiny,
}


def _from_hub(name: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    _progress(f"looking for model {name} on the Hugging Face hub")
    try:
        return Path(snapshot_download(name, allow_patterns=[*_MATTERS, "*.json"]))
    except (OSError, httpx.HTTPError, HFValidationError) as error:  # the hub's own are OSErrors
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model {name!r}: no such folder, and the Hugging Face hub did not give it: "
            f"{first_line}"
        ) from error


# The digest


def _digest(folder: Path) -> str:
    """Over names and contents. Kept in the cache folder: hashing 500 MB takes a second or two."""
    files = sorted(file for pattern in _MATTERS for file in folder.glob(pattern))
    stamp = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    note = cache_folder() / "digests" / f"{key}.json"
    known = _noted(note, stamp)
    if known is None:
        known = _hash(files)
        _keep(note, {"stamp": stamp, "sha256": known})
    return known


def _hash(files: list[Path]) -> str:
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _noted(note: Path, stamp: object) -> str | None:
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        return str(kept["sha256"]) if kept["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: it is worth no more than the time to hash again


def _keep(note: Path, document: dict[str, object]) -> None:
    part = note.with_suffix(f".{os.getpid()}.part")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(note)
    except OSError as error:
        log.warning("cannot keep the digest of a model in %s: %s", note, error.strerror)
