"""Where the tests behind a criterion stand: file and line, for annotations."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gates.attempts import Kind, read_attempts
from gates.evidence import EvidenceError


@dataclass(frozen=True, slots=True)
class Place:
    """A test function; `file` is relative to the checkout."""

    file: str
    line: int


def places(attempts: Path, root: Path) -> Mapping[str, Place]:
    """The first test of each criterion, as far as it stands below a folder.

    A file that cannot be read gives no place: the annotation then stands without one.
    """
    try:
        rows = read_attempts(attempts)
    except EvidenceError:
        return {}
    found: dict[str, Place] = {}
    for row in rows:
        for criterion in row.criteria if row.kind is Kind.PLANNED and row.item else ():
            place = None if criterion in found else place_of(row.item or "", root)
            if place is not None:
                found[criterion] = place
    return found


def place_of(item: str, root: Path) -> Place | None:
    """Where the function of a node id begins, at its first decorator; None when it is not there."""
    name, _, inside = item.partition("::")
    path = (root / name).resolve()
    if not inside or not path.is_relative_to(root.resolve()) or not path.is_file():
        return None
    *_, function = inside.partition("[")[0].split("::")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    lines = (_first_line(node) for node in _functions(tree) if node.name == function)
    line = next(lines, None)
    return None if line is None else Place(path.relative_to(root.resolve()).as_posix(), line)


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
