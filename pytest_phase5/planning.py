"""What a gated session has to run: the packaged suite, and every item that is about us.

The plan is made before any other plugin takes items away, so that what `-k`, `-m`, `--lf` or
`--deselect` removes is known by name.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_phase5.doors import demanded
from pytest_phase5.markers import marked, slos
from pytest_phase5.options import SUITE_INI
from pytest_phase5.stash import PLAN, SETTINGS, WORKER_INPUT, worker_input

#: Where the packaged suite stands.
SUITE: Final = Path(__file__).resolve().parent / "suite"

#: A module that mentions a marker of ours: what it would have planned is missing when it
#: skips itself.
_MENTIONS_US: Final = re.compile(r"\bmark\s*\.\s*(slo|flag_set|chaos|load)\b")


def add_suite(config: pytest.Config) -> None:
    """Have the packaged suite collected, whatever else was named.

    The folder is named and not its files: a file outside the root folder that is named itself
    has a node id without its name.
    """
    if config.getini(SUITE_INI):
        config.args.append(str(SUITE))


@dataclass(slots=True, eq=False)  # pluggy keeps plugins in sets
class Plan:
    """The items of one process: what must run, and what was taken away from it."""

    config: pytest.Config
    named: tuple[Path, ...]
    demanded: frozenset[str]  #: what the doors ask for: the suite brings no more than that
    unmarked: int = 0
    skipped_files: list[str] = field(default_factory=list)
    _planned: list[pytest.Item] = field(default_factory=list)

    def take(self, items: list[pytest.Item]) -> None:
        """Keep the items of the gate, deselect the others, and remember what was kept."""
        kept = [item for item in items if self._wanted(item)]
        others = [item for item in items if not self._wanted(item)]
        if others:
            self.config.hook.pytest_deselected(items=others)
        self.unmarked = len(others)
        items[:] = kept
        self._planned = kept

    def rows(self, items: Iterable[pytest.Item]) -> Iterator[dict[str, Any]]:
        """Rows of the attempts file: each planned item, then each that is not in `items`."""
        left = {id(item) for item in items}
        for item in self._planned:
            yield self._row("planned", item.nodeid, item)
        for item in self._planned:
            if id(item) not in left:
                yield self._row("deselected", item.nodeid, item)
        for name in self.skipped_files:
            yield {"kind": "planned", "item": name}
            yield {"kind": "deselected", "item": name, "reason": "--lf left the file out"}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """`--lf` leaves whole files out before they become items."""
        report = yield
        skips = self.config.pluginmanager.has_plugin("lfplugin-collskip")
        empty = isinstance(collector, pytest.File) and report.passed and not report.result
        if skips and empty and mentions_us(collector.path):
            self.skipped_files.append(collector.nodeid)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """Collect the suite's files also where the user's `python_files` are named otherwise."""
        found = yield
        if not found and file_path.parent == SUITE and file_path.match("test_*.py"):
            return [pytest.Module.from_parent(parent, path=file_path)]
        return found

    def _wanted(self, item: pytest.Item) -> bool:
        if SUITE in item.path.parents:
            return any(mark.criterion in self.demanded for mark in slos(item))
        return marked(item, gating=True) or any(
            path == item.path or path in item.path.parents for path in self.named
        )

    def _row(self, kind: str, name: str, item: pytest.Item) -> dict[str, Any]:
        reason = {"reason": "taken away by an option or a plugin"} if kind == "deselected" else {}
        return {
            "kind": kind,
            "item": name,
            "criteria": tuple(dict.fromkeys(mark.criterion for mark in slos(item))),
            **reason,
        }


def begin_plan(config: pytest.Config) -> None:
    """Plan in this process: the only one, or a worker of pytest-xdist."""
    named = _named_paths(config)
    add_suite(config)
    plan = config.stash[PLAN] = Plan(config, named, demanded(config, config.stash[SETTINGS]))
    config.pluginmanager.register(plan, "phase5-plan")


def send_plan(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """From a worker to its controller, before the controller hears that collection is over."""
    given = worker_input(config)
    if given is not None:
        rows = list(config.stash[PLAN].rows(items))
        document = {"unmarked": config.stash[PLAN].unmarked, "rows": rows}
        path = Path(given[WORKER_INPUT]["mailbox"], given["workerid"])
        path.write_text(json.dumps(document), encoding="utf-8")


def mentions_us(path: Path) -> bool:
    """Whether a module uses a marker of ours, going by its text; the suite always counts."""
    if SUITE in path.parents:
        return True
    try:
        return bool(_MENTIONS_US.search(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return True  # not readable: it may well have been about us


def _named_paths(config: pytest.Config) -> tuple[Path, ...]:
    """Paths that the user named on the command line, as far as they exist."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return ()
    base = config.invocation_params.dir
    paths = (base / argument.partition("::")[0] for argument in config.args)
    return tuple(path.resolve() for path in paths if path.exists())
