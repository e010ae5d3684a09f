"""The console script. A rollback goes a short way, since engines must not wait for our loading.

Beside 75 streams on two cores the full command line takes 2 s to load, this a tenth. What is not a
plain `phase5 rollback`, such as `--help` or a mistake, is left to `pytest_phase5.cli`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytest_phase5.ours import foreign_packages

#: Options of a rollback with a value, and whether they may be given several times.
_VALUES: Final = {"--flag": True, "--engine": True, "--reason": False, "--config": False}
_SWITCHES: Final = frozenset({"--json", "--dry-run"})

#: What was given for each option that was given.
Given = dict[str, list[str]]


def main() -> None:
    """Run what the command line asks for."""
    name, *arguments = sys.argv[1:] or [""]
    given = plain(arguments) if name == "rollback" and not foreign_packages() else None
    status = None if given is None else _rollback(given)
    if status is not None:
        raise SystemExit(status)
    from pytest_phase5.cli import main as full

    full()


def plain(arguments: Sequence[str]) -> Given | None:
    """The options of a plain rollback; None for what only the full parser understands."""
    given: Given = {}
    rest = iter(arguments)
    for name in rest:
        if name in _SWITCHES:
            given[name] = []
            continue
        value = next(rest, "-")
        again = name in given and not _VALUES.get(name)
        if name not in _VALUES or value.startswith("-") or again:
            return None
        given.setdefault(name, []).append(value)
    return given


def _rollback(given: Given) -> int | None:
    """The exit status; None when a value is not allowed, which the full parser then says."""
    from gates.fleet import base_url, config_in_use, flag_names
    from gates.rollback_cli import Order, rollback

    config = given.get("--config")
    try:
        order = Order(
            config=config_in_use(Path(config[0]) if config else None),
            flags=flag_names(given.get("--flag", [])),
            engines=tuple(base_url(url) for url in given.get("--engine", [])),
            reason=given.get("--reason", [""])[0],
            dry_run="--dry-run" in given,
        )
    except ValueError:
        return None
    return rollback(order, as_json="--json" in given)
