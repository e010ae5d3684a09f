"""A configuration's text with other rollout state in it, and all else as the operator left it.

Only the pieces that change, a flag or a top-level key, are cut out and go through ruamel.yaml,
which keeps their comments, order and indentation; every other line stays byte for byte. A text
that cannot be cut, such as one in braces, goes through it as a whole. Either way the result is
read back: it must say what the old text said, but for the changes.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

#: The key under which the flags stand.
ROLLOUT: Final = "phase4_rollout"

#: libyaml's where it is built in: it reads the same, ten times as fast.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: Lines are never folded: a folded line would be a change that nobody asked for.
_WIDTH: Final = 1 << 20


class RewriteError(ValueError):
    """A text into which the change cannot be written without changing anything else."""


def rewritten(text: str, flags: Mapping[str, Mapping[str, Any]], top: Mapping[str, Any]) -> str:
    """The text with other values.

    Args:
        text: a valid configuration.
        flags: by flag, keys of `phase4_rollout.FLAG` with their new values: text, numbers,
            booleans, None, or lists of text.
        top: top-level keys with their new values.

    Raises:
        RewriteError: the text does not let itself be changed so, as with aliases that would
            change another flag too.
    """
    wanted = _wanted(_loaded(text), flags, top)
    for attempt in (_by_pieces, _as_a_whole):
        try:
            new = attempt(text, flags, top)
            if _loaded(new) == wanted:
                return new
        except (YAMLError, yaml.YAMLError, _NoPieceError):
            continue
    names = ", ".join([*flags, *top])
    raise RewriteError(
        f"cannot write {names} without changing other keys; allowed: mappings without aliases"
    )


class _NoPieceError(ValueError):
    """The text cannot be cut there."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The lines of one key and its value: from `first` up to, but not including, `after`."""

    first: int
    after: int
    column: int
    node: yaml.Node  #: the value


def _loaded(text: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    return data


def _wanted(
    data: dict[str, Any], flags: Mapping[str, Mapping[str, Any]], top: Mapping[str, Any]
) -> dict[str, Any]:
    rollout = dict(data.get(ROLLOUT) or {})
    for name, values in flags.items():
        rollout[name] = {**(rollout.get(name) or {}), **values}
    return {**data, **({ROLLOUT: rollout} if flags else {}), **top}


def _by_pieces(text: str, flags: Mapping[str, Mapping[str, Any]], top: Mapping[str, Any]) -> str:
    for name, values in flags.items():
        text = _edited(text, (ROLLOUT, name), values)
    for key, value in reversed(list(top.items())):  # each new one goes directly behind the flags
        text = _edited(text, (key,), value)
    return text


def _as_a_whole(text: str, flags: Mapping[str, Mapping[str, Any]], top: Mapping[str, Any]) -> str:
    def edit(document: CommentedMap) -> None:
        for name, values in flags.items():
            _set(_section(document, ROLLOUT), name, values)
        for key, value in top.items():
            _set(document, key, value)

    return _through_ruamel(text, edit)


def _edited(text: str, path: tuple[str, ...], value: Any) -> str:
    """The text with one piece edited, or with a new one behind its siblings."""
    lines = text.splitlines(keepends=True)
    pieces = _siblings(text, lines, path)
    if path[-1] in pieces:
        piece = pieces[path[-1]]
        old = "".join(_dedented(lines[piece.first : piece.after], piece.column))
        new = _through_ruamel(old, lambda fragment: _set(fragment, path[-1], value))
    else:
        piece = _behind(pieces)
        fresh = CommentedMap()
        _set(fresh, path[-1], value)
        new = _dumped(YAML(), fresh)
    ending = "\r\n" if lines[0].endswith("\r\n") else "\n"
    put = [f"{' ' * piece.column}{line}{ending}" for line in new.splitlines()]
    before = lines[: piece.first]
    if before and not before[-1].endswith("\n"):
        before[-1] += ending
    return "".join([*before, *put, *lines[piece.after :]])


def _siblings(text: str, lines: list[str], path: tuple[str, ...]) -> dict[str, _Piece]:
    """The pieces among which the last key of a path stands, or would stand."""
    node = yaml.compose(text, Loader=_Loader)
    if node is None:
        raise _NoPieceError
    pieces = _pieces(_Piece(0, _end_of_document(lines), 0, node), lines)
    for key in path[:-1]:
        if key not in pieces:
            raise _NoPieceError
        pieces = _pieces(pieces[key], lines)
    return pieces


def _pieces(place: _Piece, lines: list[str]) -> dict[str, _Piece]:
    """Where each key of a mapping stands.

    Blank lines behind it, and comments that are not indented under it, are no part of it.

    Raises:
        _NoPieceError: not a mapping with one key a line.
    """
    node = place.node
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        raise _NoPieceError
    starts = [(key, key.start_mark.column, value) for key, value in node.value]
    bounds = [*(key.start_mark.line for key, _, _ in starts), place.after]
    return {
        key.value: _Piece(first, _trimmed(lines, first, after, column), column, value)
        for (key, column, value), (first, after) in zip(starts, pairwise(bounds), strict=True)
    }


def _behind(pieces: Mapping[str, _Piece]) -> _Piece:
    """An empty place behind the flags, or behind the last one."""
    last = pieces.get(ROLLOUT, [*pieces.values()][-1])
    return _Piece(last.after, last.after, last.column, last.node)


def _trimmed(lines: list[str], first: int, after: int, column: int) -> int:
    while after > first + 1 and _apart(lines[after - 1], column):
        after -= 1
    return after


def _apart(line: str, column: int) -> bool:
    """Blank, or a comment that is not indented under a key at this column."""
    bare = line.lstrip()
    return not bare or (bare.startswith("#") and len(line) - len(bare) <= column)


def _end_of_document(lines: list[str]) -> int:
    """Behind the last line: the mark `...` ends a document too."""
    marks = (n for n, line in enumerate(lines) if line.split() == ["..."] and line[0] == ".")
    return next(marks, len(lines))


def _dedented(lines: Iterable[str], column: int) -> Iterable[str]:
    for line in lines:
        if line[:column].strip():
            raise _NoPieceError
        yield line[column:].rstrip("\r\n") + "\n"


def _through_ruamel(text: str, edit: Callable[[CommentedMap], None]) -> str:
    parser = YAML()
    parser.preserve_quotes = True
    mapping, sequence, offset = _indents(text)
    parser.indent(mapping=mapping, sequence=sequence, offset=offset)
    document = parser.load(text)
    edit(document)
    return _dumped(parser, document)


def _dumped(parser: YAML, document: CommentedMap) -> str:
    parser.width = _WIDTH
    parser.representer.add_representer(type(None), _null)
    out = io.StringIO()
    parser.dump(document, out)
    return out.getvalue()


def _null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _set(mapping: CommentedMap, key: str, value: Any) -> None:
    """Set a value; a mapping and a list change in place, so that comments in them stay."""
    if isinstance(value, Mapping):
        section = _section(mapping, key)
        for inner, given in value.items():
            _set(section, inner, given)
    elif isinstance(value, list):
        mapping[key] = _sequence(mapping.get(key), value)
    else:
        mapping[key] = _scalar(value)


def _section(mapping: CommentedMap, key: str) -> CommentedMap:
    if not isinstance(mapping.get(key), CommentedMap):
        mapping[key] = CommentedMap()
    section: CommentedMap = mapping[key]
    return section


def _sequence(given: Any, values: list[str]) -> CommentedSeq:
    if isinstance(given, CommentedSeq) and not given.fa.flow_style() and values:
        for index in reversed([n for n, old in enumerate(given) if old not in values]):
            del given[index]
        given.extend(_scalar(value) for value in values if value not in given)
        return given
    fresh = CommentedSeq(map(_scalar, values))
    fresh.fa.set_flow_style()
    return fresh


def _scalar(value: Any) -> Any:
    """Text in quotes, whatever it looks like: YAML 1.1 and 1.2 differ in what is no text."""
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _indents(text: str) -> tuple[int, int, int]:
    """Of mappings, of the items of sequences, and of their dashes: those of the first of each."""
    mapping, sequence, offset = 2, 4, 2
    found: set[type] = set()
    for parent, node in _walk(yaml.compose(text, Loader=_Loader)):
        if type(node) in found or node.flow_style or not node.value:
            continue
        found.add(type(node))
        if isinstance(node, yaml.MappingNode):
            mapping = node.start_mark.column - parent
        else:
            offset = node.start_mark.column - parent
            sequence = offset + 2
    return mapping, sequence, offset


def _walk(node: yaml.Node | None) -> Iterable[tuple[int, yaml.CollectionNode]]:
    """Collections inside a mapping, each with the column of the key that it belongs to."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if isinstance(value, yaml.CollectionNode):
            yield key.start_mark.column, value
        yield from _walk(value)
