"""The fields of a verdict from its schema, and the criteria from the shipped policy."""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from reference_tables import code, table

from engine.config import packaged
from gates.policy import load_policy
from gates.stages import STAGES
from gates.verdict import schema_path

Node = Mapping[str, Any]


def verdict() -> str:
    """Every field, from the outermost inwards; `[]` is each of a list, `NAME` each of a map."""
    schema = json.loads(schema_path().read_text("utf-8"))
    rows = [
        (code(path), kind(node), "yes" if required else "no", node.get("description", ""))
        for path, node, required in fields(schema, schema, "")
    ]
    return table(("field", "type", "always there", "meaning"), rows)


def fields(root: Node, node: Node, path: str) -> Iterator[tuple[str, Node, bool]]:
    """The fields below a node, each with whether it has to be there."""
    for name, given in node.get("properties", {}).items():
        below = resolved(root, given)
        yield f"{path}{name}", {**below, **given}, name in node.get("required", ())
        yield from inside(root, below, f"{path}{name}")


def inside(root: Node, node: Node, path: str) -> Iterator[tuple[str, Node, bool]]:
    """What stands in a list, in a map of any names, or in an object."""
    for choice in (node, *(resolved(root, each) for each in node.get("anyOf", ()))):
        if isinstance(choice.get("items"), Mapping):
            yield from fields(root, resolved(root, choice["items"]), f"{path}[].")
        if isinstance(choice.get("additionalProperties"), Mapping):
            each = resolved(root, choice["additionalProperties"])
            yield from fields(root, each, f"{path}.NAME.")
        yield from fields(root, choice, f"{path}.")


def resolved(root: Node, node: Node) -> Node:
    """The definition that a node points to, or the node."""
    found: Any = node
    if "$ref" in node:
        found = root
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
    return {**found, **{key: value for key, value in node.items() if key != "$ref"}}


def kind(node: Node) -> str:
    """The type in words."""
    if "const" in node:
        return code(node["const"])
    if "enum" in node:
        return ", ".join(code(json.dumps(value).strip('"')) for value in node["enum"])
    if "anyOf" in node:
        return " or ".join(kind(each) for each in node["anyOf"])
    given = node.get("type", "any")
    return " or ".join(given) if isinstance(given, list) else str(given)


def criteria() -> str:
    """Each shipped criterion: what it demands, of which evidence, and at which doors."""
    policy = load_policy(packaged("gates.yaml"))
    rows = [
        (
            code(each.id),
            each.kind.value,
            each.measure.value,
            each.source,
            ", ".join(doors(each.id, policy.stages)) or "your own",
            "yes" if each.critical else "no",
        )
        for each in policy.criteria.values()
    ]
    return table(("criterion", "kind", "measure", "evidence", "doors", "rolls back"), rows)


def doors(criterion: str, stages: Mapping[str, Any]) -> Iterator[str]:
    """The doors that ask for a criterion."""
    for before, name in pairwise(STAGES):
        leave = stages[before].leave if before in stages else ()
        if criterion in (*leave, *stages[name].enter):
            yield f"into {name}"
