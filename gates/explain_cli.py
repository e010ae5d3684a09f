"""`phase5 gate explain`: shows the chain from a verdict to the samples."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from engine.config import ConfigError, load_config, packaged, read_yaml
from gates.cli import DONE, USAGE, refuse
from gates.evidence import VERDICT_FILE
from gates.explain import Demand, explanation
from gates.folder import request_for
from gates.policy import policy_beside, policy_file
from gates.reader import read_folder
from gates.tables import console
from gates.text import grouped_digits
from gates.verdict import from_json

_COLOURS: Final = {"pass": "green", "fail": "red", "invalid": "red"}
_COMMENT: Final = re.compile(r"(?:^|\s)#\s*(.*)$")
_NUMBERS: Final = ("limit", "margin", "min_samples")


def explain(
    criterion: str, folder: Path, *, config: Path | None = None, as_json: bool = False
) -> int:
    """Show how a criterion came to its outcome, as of the folder's verdict, else as of now."""
    try:
        policy = policy_beside(config)
        configuration = load_config(config or packaged("runtime.yaml"))
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    if criterion not in policy.criteria:
        message = f"unknown criterion {criterion!r}; allowed: {', '.join(policy.criteria)}"
        return refuse(message, USAGE, as_json=as_json)
    evidence = read_folder(folder)
    request = request_for(folder, evidence, configuration, _moment(folder))
    demand = demand_of(policy_file(config), criterion)
    document = explanation(policy, evidence, request, criterion, demand)
    if as_json:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
    else:
        show(document, console())
    return DONE


def demand_of(path: Path, criterion: str) -> Demand:
    """The line of a criterion's number in a policy file, and the comment behind it."""
    document = read_yaml(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = document.data["criteria"][criterion]
    key = next((name for name in _NUMBERS if name in keys), "kind")
    number = document.line(("criteria", criterion, key))
    text = lines[number - 1].strip()
    comment = _COMMENT.search(text)
    return Demand(
        file=path.name,
        line=number,
        text=_COMMENT.sub("", text).strip(),
        reason=comment.group(1).strip() if comment else "",
    )


def show(document: dict[str, Any], out: Console) -> None:
    """The chain as a tree and tables."""
    outcome = document["outcome"]
    colour = _COLOURS.get(outcome, "yellow")
    demand = document["demand"]
    tree = Tree(f"[bold]{document['criterion']}[/]: [{colour}]{outcome}[/]")
    tree.add(escape(document["reason"]))
    why = f": {demand['reason']}" if demand["reason"] else ""
    tree.add(escape(f"{demand['file']}:{demand['line']}: {demand['text']}{why}"))
    doors = [f"{flag} {step}" for flag, step in document["required_by"].items()]
    tree.add(escape(f"required by: {', '.join(doors) or 'no judged door'}"))
    if document["stretch"] is not None:
        tree.add(f"stretch goal: {document['stretch']} (never required)")
    findings = tree.add("findings, as of " + document["judged_as_of"])
    for found in document["findings"]:
        findings.add(escape(f"{found['outcome']}: {found['reason']}"))
    items = tree.add("planned items")
    for item in document["items"]:
        items.add(escape(f"{item['id']}: {item['problem'] or 'passed'}"))
    out.print(tree)
    out.print(_files(document["evidence"]))


def _files(evidence: list[dict[str, Any]]) -> Table:
    table = Table("file", "item", "flags", "rows", "line", "what", title="evidence")
    for file in evidence:
        arms = " against ".join(file["arms"][arm] for arm in sorted(file["arms"], reverse=True))
        counts = ", ".join(f"{grouped_digits(n)} {what}" for what, n in file["counts"].items())
        first, *others = file["lines"] or [{"line": "", "what": "nothing to look at first"}]
        place = file["file"] or file["measurement"]
        table.add_row(*map(escape, (place, file["item"], arms, counts, *_line(first))))
        for line in others:
            table.add_row("", "", "", "", *map(escape, _line(line)))
        if file["more_lines"]:
            table.add_row("", "", "", "", "", f"and {file['more_lines']} more")
    return table


def _line(line: dict[str, Any]) -> tuple[str, str]:
    return str(line["line"]), line["what"]


def _moment(folder: Path) -> datetime:
    """The time of the folder's verdict, else now."""
    try:
        verdict = from_json((folder / VERDICT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return datetime.now(UTC)
    return datetime.fromisoformat(verdict.created)
