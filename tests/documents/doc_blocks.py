"""The fenced code blocks of the documentation, with the marks that stand before them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

#: Languages whose blocks are run. The others are only shown.
RUN: Final = ("bash", "console", "python", "yaml", "json", "toml")
SHOWN: Final = ("text", "ini", "promql")

#: Fewer characters than this are no reason.
SHORTEST_REASON: Final = 10

_FENCE: Final = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_MARK: Final = re.compile(r"<!-- (not run|exits): ((?:(?!-->).)+) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block: where it stands, what it is, and what its mark says."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None = None
    exits: int = 0

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether a test has to run it."""
        return self.language in RUN and self.not_run is None


def pages() -> list[Path]:
    """Every page that people read."""
    top = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")]
    return [*(path for path in top if path.exists()), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(text: str, page: str = "page") -> Iterator[Block]:
    """The blocks of a page, in its order. A fence that is never closed takes the rest with it."""
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        line = before.count("\n") + 1
        mark = _MARK.search(before)
        kind, value = mark.groups() if mark else (None, "")
        yield Block(
            page=page,
            line=line,
            language=found["language"].strip(),
            text=dedent(found["text"]),
            not_run=" ".join(value.split()) if kind == "not run" else None,
            exits=int(value) if kind == "exits" else 0,
        )


def blocks(*languages: str) -> list[Block]:
    """The blocks of every page, of some languages."""
    return [
        block
        for path in pages()
        for block in blocks_of(path.read_text("utf-8"), str(path.relative_to(ROOT)))
        if not languages or block.language in languages
    ]


def bare(text: str) -> str:
    """A page without its blocks, line for line."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
