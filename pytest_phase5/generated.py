"""Files that are made from the configuration: whether they are current, and writing them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from gates.durable import write_file


def differing(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """The names of those that are missing, cannot be read, or hold another text."""
    return [name for name, text in texts.items() if _text(folder / name) != text]


def put(folder: Path, texts: Mapping[str, str], names: Iterable[str]) -> list[Path]:
    """Write those of these names, each whole or not at all; their paths.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        write_file(folder / name, texts[name].encode())
        paths.append(folder / name)
    return paths


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
