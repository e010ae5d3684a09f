"""What stands in a finished dashboard: its queries as a server gets them, and their metrics."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import promql_parser as promql

#: What a histogram's families add to its name.
_PARTS: Final = ("_bucket", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, and where it stands."""

    board: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.expr}"


def asked(text: str) -> Iterator[Asked]:
    """The queries of a dashboard's panels and marks, with variables in them."""
    document: dict[str, Any] = json.loads(text)
    for panel in document["panels"]:
        for target in panel.get("targets", ()):
            yield Asked(document["title"], panel["title"], target["expr"])
    for mark in document["annotations"]["list"]:
        yield Asked(document["title"], mark["name"], mark["expr"])


def filled(expr: str, values: Mapping[str, str]) -> str:
    """A query with values for its variables.

    Raises:
        ValueError: it has one that has no value.
    """
    for name, value in sorted(values.items(), key=lambda item: -len(item[0])):
        expr = expr.replace(f"${name}", value)
    if "$" in expr:
        raise ValueError(f"a variable of {expr!r} has no value; known: {', '.join(values)}")
    return expr


def metrics(expr: str) -> set[str]:
    """The metrics that a query without variables selects.

    Raises:
        ValueError: it is no PromQL.
    """
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql.VectorSelector) and node.name:
            found.add(node.name)
        return True

    promql.walk(promql.parse(expr), visit)
    return found


def families(names: Iterable[str]) -> set[str]:
    """The names under which metrics are registered: a histogram's parts belong to one."""
    return {_family(name) for name in names}


def _family(name: str) -> str:
    end = next((part for part in _PARTS if name.endswith(part)), "")
    return name.removesuffix(end)
