"""The modules of the packages: all of them in a list, and each in full for mkdocstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

from reference_tables import code, first, table

ROOT = Path(__file__).resolve().parents[2]


def modules(package: str) -> str:
    """Each module of a package with the first lines of its docstring."""
    rows = [(code(name), first(docstring(path))) for name, path in found(package)]
    return table(("module", "what it is"), rows)


def api(package: str) -> str:
    """What mkdocstrings makes pages of: the modules that stand in a package, not below it."""
    names = [name for name, _ in found(package) if name.count(".") == package.count(".") + 1]
    return "\n\n".join(f"::: {name}" for name in names)


def found(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package and those below it, by name; what `phase5 init` copies is none."""
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "project" not in parts and parts[-1] != "__main__":
            yield ".".join(part for part in parts if part != "__init__"), path


def docstring(path: Path) -> str | None:
    """Of a module, without importing it."""
    return ast.get_docstring(ast.parse(path.read_text("utf-8")))
