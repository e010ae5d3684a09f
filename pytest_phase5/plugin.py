"""The pytest plugin: light to import, and inert until a marker, fixture or option asks for it.

Every suite of an environment imports what is imported here, so records of these modules are named
tuples: a dataclass with slots takes 0.6 ms to make, a named tuple 0.1.
"""

from collections.abc import Generator

import pytest

from pytest_phase5 import hooks
from pytest_phase5.checking import Refusals, check_items
from pytest_phase5.fixtures import (
    engine_pair,
    engine_spec,
    engines,
    evidence,
    faults,
    load,
    mlx_engine,
    parametrize_engines,
)
from pytest_phase5.markers import register_markers
from pytest_phase5.options import add_options, read_settings
from pytest_phase5.ours import check_ours
from pytest_phase5.stash import PLAN, SETTINGS, stop_engines, worker_input

__all__ = ["engine_pair", "engine_spec", "engines", "evidence", "faults", "load", "mlx_engine"]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks of `pytest_phase5.hooks`."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and take part in the session when a gate was asked for."""
    register_markers(config)
    if worker_input(config) is None:
        config.pluginmanager.register(Refusals(), "phase5-refusals")
    settings = config.stash[SETTINGS] = read_settings(config)
    if settings.gate is not None and _runs_tests(config):
        check_ours(pytest.UsageError)
        from pytest_phase5.per_test import attend_tests
        from pytest_phase5.session import begin_gate

        attend_tests(config)
        begin_gate(config, settings)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each flag set that it asks for."""
    parametrize_engines(metafunc, metafunc.config.stash[SETTINGS])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Check every marker before any other plugin takes items away."""
    if check_items(config, items):
        from pytest_phase5.per_test import attend_tests

        attend_tests(config)
    plan = config.stash.get(PLAN, None)
    if plan is not None:
        plan.take(items)
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before a worker of pytest-xdist says that its collection is over."""
    if PLAN in session.config.stash:
        from pytest_phase5.planning import send_plan

        send_plan(session.config, session.items)


def pytest_unconfigure(config: pytest.Config) -> None:
    """After Ctrl-C: the engines of the test that was cut."""
    stop_engines(config)


def _runs_tests(config: pytest.Config) -> bool:
    """Whether this call runs tests, and does not only show or list something."""
    shows = ("help", "version", "collectonly", "markers", "showfixtures", "show_fixtures_per_test")
    return not any(config.getoption(name, default=False) for name in shows)
