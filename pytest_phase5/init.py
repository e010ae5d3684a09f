"""`phase5 init`: a configuration, a workflow and a first SLO test for a project.

Nothing that exists is overwritten. All files are written beside their places first and then
linked into them, so that a reader never sees half a file, and a folder that cannot take one
of them gets none.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import packaged

#: Defaults that a project starts from; the packaged copy keeps serving where there is none.
_CONFIGURATION: Final = ("runtime.yaml", "gates.yaml")

#: Files that go to the same place in the project.
_PROJECT: Final = Path(__file__).resolve().parent / "project"


class InitError(OSError):
    """A folder that cannot take the files. The message names the path and the reason."""


@dataclass(frozen=True, slots=True)
class InitFile:
    """What became of one file: written, or kept because it stood already."""

    path: Path
    written: bool


def init(folder: Path) -> list[InitFile]:
    """Write what is missing into a project's folder, which is made when it does not exist.

    Raises:
        InitError: when one of the files cannot be written; then none is.
    """
    files = {folder / name: content for name, content in sorted(_contents().items())}
    missing = {path: content for path, content in files.items() if not os.path.lexists(path)}
    written = _write_all(missing)
    return [InitFile(path, written=path in written) for path in files]


def _contents() -> dict[Path, bytes]:
    """Every file by its place in the project."""
    defaults = {Path("config", name): packaged(name) for name in _CONFIGURATION}
    project = {
        path.relative_to(_PROJECT): path
        for path in _PROJECT.rglob("*")
        if path.suffix in {".yml", ".py"}
    }
    return {
        place: source.read_bytes()
        for place, source in (defaults | project).items()
        if source.exists()
    }


def _write_all(files: Mapping[Path, bytes]) -> set[Path]:
    """Write all or none; returns those that nobody else wrote in the meantime."""
    with ExitStack() as leftovers:
        partial = {path: _write_beside(path, content, leftovers) for path, content in files.items()}
        with ExitStack() as undo:
            written = {path for path in files if _put_in_place(partial[path], path, undo)}
            undo.pop_all()
        return written


def _write_beside(path: Path, content: bytes, leftovers: ExitStack) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        for parent in reversed(path.parents):
            if not parent.is_dir():
                parent.mkdir()
                leftovers.callback(_remove_if_empty, parent)
        leftovers.callback(beside.unlink, missing_ok=True)
        beside.write_bytes(content)
    except OSError as error:
        raise _refusal(path, error) from error
    return beside


def _put_in_place(beside: Path, path: Path, undo: ExitStack) -> bool:
    try:
        path.hardlink_to(beside)  # unlike a rename, never replaces
    except FileExistsError:
        return False
    except OSError as error:
        raise _refusal(path, error) from error
    undo.callback(path.unlink)
    return True


def _refusal(path: Path, error: OSError) -> InitError:
    return InitError(f"{path}: cannot be written: {error.filename}: {error.strerror}")


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
