"""Checks on collected items, before anything runs: one line, and exit status 4.

A worker of pytest-xdist that raised would only look like a crash, so there the message
travels to the controller as a collection report, and the controller raises.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from pytest_phase5.fixtures import SPEC_FIXTURE
from pytest_phase5.markers import Slo, marked, mistakes, slos
from pytest_phase5.options import Settings
from pytest_phase5.ours import foreign_packages
from pytest_phase5.stash import SETTINGS, worker_input

#: Attribute of a collection report that carries a usage error to the controller.
_CARRIED: Final = "phase5_usage_error"

#: Marks that choose the sample until it is green, or that call red green.
_SOFTENING: Final = ("flaky", "xfail")


def check_items(config: pytest.Config, items: list[pytest.Item]) -> bool:
    """Check the marks of ours on every item.

    Returns:
        Whether any item has a mark of ours, or an engine.

    Raises:
        pytest.UsageError: for the first mistake; one line that says how many follow.
    """
    settings = config.stash[SETTINGS]
    ours = [item for item in items if marked(item, gating=settings.gate is not None)]
    if not ours and not any(SPEC_FIXTURE in getattr(i, "fixturenames", ()) for i in items):
        return False
    foreign = foreign_packages()
    if foreign:
        _refuse(config, items, str(foreign[0]))
        return True
    found = list(_all_mistakes(settings, ours))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        _refuse(config, items, found[0] + more)
    return True


class Refusals:
    """A plugin of every process but a worker: raises what a worker refused."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Raise before anybody shows the report.

        Raises:
            pytest.UsageError: when the report carries one.
        """
        message: str | None = getattr(report, _CARRIED, None)
        if message is not None:
            raise pytest.UsageError(message)


def _all_mistakes(settings: Settings, items: list[pytest.Item]) -> Iterator[str]:
    gating = settings.gate is not None
    wrong = list(mistakes(items, gating=gating))
    yield from wrong
    judged = [item for item in items if any(item.iter_markers("slo"))]
    if wrong or not judged:
        return
    if gating:
        yield from _softened(item for item in judged)
    yield from _outside_policy(settings, judged)


def _softened(items: Iterator[pytest.Item]) -> Iterator[str]:
    for item in items:
        for name in _SOFTENING:
            if item.get_closest_marker(name):
                yield f"{item.nodeid}: mark {name} on an slo test; allowed under a gate: none"
        if _reruns(item):
            yield f"{item.nodeid}: reruns of an slo test; allowed under a gate: none"


def _reruns(item: pytest.Item) -> bool:
    """Whether pytest-rerunfailures would repeat failures: its options, where it is in use."""
    asked = (item.config.getoption(name, None) for name in ("reruns", "force_reruns"))
    return any(asked)


def _outside_policy(settings: Settings, items: list[pytest.Item]) -> Iterator[str]:
    from pytest_phase5.doors import policy_of

    policy = policy_of(settings)
    for item in items:
        for mark in slos(item):
            if mark.criterion not in policy.criteria:
                known = ", ".join(sorted(policy.criteria))
                yield f"{item.nodeid}: unknown criterion {mark.criterion!r}; allowed: {known}"
            else:
                yield from _bound_mistakes(settings, item, mark)


def _bound_mistakes(settings: Settings, item: pytest.Item, mark: Slo) -> Iterator[str]:
    if mark.max is None and mark.min is None:
        return
    from pytest_phase5.bounds import bound_mistake
    from pytest_phase5.doors import policy_of

    problem = bound_mistake(policy_of(settings).criteria[mark.criterion], mark)
    if problem:
        yield f"{item.nodeid}: {problem}"


def _refuse(config: pytest.Config, items: list[pytest.Item], message: str) -> None:
    if worker_input(config) is None:
        raise pytest.UsageError(message)
    items.clear()
    report = pytest.CollectReport("", "failed", message, [])
    setattr(report, _CARRIED, message)
    config.hook.pytest_collectreport(report=report)
