"""What docstrings have to say, by the source: errors by their names, sizes by their units."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Constructors, which the docstring of their class speaks for.
MAKERS: Final = frozenset({"__init__", "__post_init__"})

#: Errors that a caller may have to deal with; a failed assertion is a fault of the code itself.
OURS: Final = re.compile(r"(?!AssertionError)[A-Z]\w*Error")

#: Last words of names that stand for a time or a size.
SIZES: Final = re.compile(
    r"(?:^|_)(?:timeout|interval|age|delay|patience|duration|elapsed|waited|lag|deadline|lease|size"
    r"|length|memory|budget|period|window|soak|latency|ttft|poll|grace|cooldown|pause|gap|expires)$"
)
UNITS: Final = re.compile(
    r"second|\bms\b|minute|hour|byte|MiB|token|row|observation|clock|monotonic|share|ISO|character",
    re.IGNORECASE,
)
NUMBERS: Final = frozenset({"float", "int", "float | None", "int | None"})


#: Arrays, and how a docstring gives their shape: dimensions in brackets, or the word.
ARRAYS: Final = re.compile(r"mx\.array|NDArray|np\.ndarray")
SHAPES: Final = re.compile(r"\(\w+(?:, ?\w+)*,?\)|shape")

#: Modules whose method somebody else published: their docstring says who and when.
METHODS: Final = (
    *(f"gates/{name}.py" for name in ("dispersion", "eprocess", "mixture", "paired")),
    *(f"gates/{name}.py" for name in ("statistics", "trends")),
    *(f"engine/core/{name}.py" for name in ("breaker", "lookup", "pid", "radix")),
    *(f"engine/core/{name}.py" for name in ("speculation", "tdigest")),
    *(f"engine/runtime/{name}.py" for name in ("sampling", "verifying")),
    "pytest_phase5/bench/ratios.py",
)
SOURCES: Final = re.compile(r"[A-Z]\w+[^.;]*\b(?:1[89]|20)\d\d\b")


def public(tree: ast.AST, where: str = "", owner: str = "") -> Iterator[tuple[str, ast.AST, str]]:
    """Every public class and function: its name, itself, and what its docstring and owner say."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name not in MAKERS:
            continue
        name, own = f"{where}{node.name}", ast.get_docstring(node) or ""
        yield name, node, own + (owner if node.name in MAKERS else "")
        if isinstance(node, ast.ClassDef):
            yield from public(node, f"{name}.", own)


def bare(path: Path) -> Iterator[str]:
    """Public names without a docstring; an overload has that of what it is an overload of."""
    tree = ast.parse(path.read_text("utf-8"))
    if not ast.get_docstring(tree):
        yield f"{path}"
    for name, node, text in public(tree):
        if not text and name.rpartition(".")[2] not in MAKERS and not overload(node):
            yield f"{path}: {name}"


def overload(node: ast.AST) -> bool:
    """Whether it is one of several signatures."""
    return "overload" in map(ast.unparse, getattr(node, "decorator_list", ()))


def untold_errors(path: Path) -> Iterator[str]:
    """Functions that raise an error which their docstring does not name."""
    for name, node, text in public(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, Function):
            for error in sorted({error for error in raised(node.body) if error not in text}):
                yield f"{path}: {name} raises {error}"


def raised(body: Iterable[ast.AST], caught: Sequence[str] = ()) -> Iterator[str]:
    """The errors that statements make and raise, without those that they catch themselves."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = ast.unparse(node.exc.func).rpartition(".")[2]
            if OURS.fullmatch(error) and not {error, "Exception"} & {*caught}:
                yield error
        tried = isinstance(node, ast.Try)
        names = [name for each in getattr(node, "handlers", ()) for name in handled(each)]
        yield from raised(getattr(node, "body", ()), [*caught, *names] if tried else caught)
        for name in ("handlers", "orelse", "finalbody", "cases"):
            yield from raised(getattr(node, name, ()), caught)


def handled(handler: ast.ExceptHandler) -> Iterator[str]:
    """The names that an `except` takes."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    yield from (ast.unparse(kind).rpartition(".")[2] for kind in kinds if kind is not None)


def without_unit(path: Path) -> Iterator[str]:
    """Numbers whose name stands for a time or a size, and whose unit nothing says."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    for name, node, said in public(ast.parse(text)):
        for given, line in numbers(node):
            near = " ".join(lines[max(0, line - 2) : line])
            if SIZES.search(given) and not UNITS.search(f"{said} {given} {comments(near)}"):
                yield f"{path}:{line}: {name}: {given}"


def comments(text: str) -> str:
    """What stands behind hashes."""
    return " ".join(part for part in text.split("#")[1:])


def numbers(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The fields of a class, or the parameters of a function, that are numbers; with their line."""
    if isinstance(node, ast.ClassDef):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) in NUMBERS:
                yield ast.unparse(field.target), field.lineno
    elif isinstance(node, Function):
        for parameter in (*node.args.args, *node.args.kwonlyargs):
            if parameter.annotation and ast.unparse(parameter.annotation) in NUMBERS:
                yield parameter.arg, parameter.lineno


def without_shape(path: Path) -> Iterator[str]:
    """Functions that take or return arrays whose shape nobody is told."""
    for name, node, text in public(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, Function):
            continue
        hints = [each.annotation for each in ast.walk(node.args) if isinstance(each, ast.arg)]
        arrays = [
            hint for hint in (*hints, node.returns) if hint and ARRAYS.search(ast.unparse(hint))
        ]
        if arrays and not SHAPES.search(text):
            yield f"{path}: {name} has arrays of no shape"


def without_source(path: Path) -> Iterator[str]:
    """A module that follows a published method and does not say whose."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    if not SOURCES.search(text.replace("\n", " ")):
        yield f"{path}: names no source of its method"
