"""What is done for each test, in a session of which any test is ours.

A plugin of its own: a suite that uses nothing of ours pays for no hook at each of its tests.
"""

from collections.abc import Generator
from typing import Final

import pytest

from pytest_phase5.fixtures import wanted_specs
from pytest_phase5.markers import slos
from pytest_phase5.recording import EVIDENCE, begin_attempt, evidence_of, write_evidence
from pytest_phase5.stash import POOL, SETTINGS

_NAME: Final = "phase5-per-test"


def attend_tests(config: pytest.Config) -> None:
    """Take part in every test from now on; asked again, this changes nothing."""
    if not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(PerTest(), _NAME)


class PerTest:
    """Counts attempts, writes what they brought, holds it against bounds, stops engines."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Count the attempt."""
        begin_attempt(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Write evidence inside the call phase, so that a broken bound fails as any test does."""
        try:
            yield
        finally:
            if EVIDENCE in item.stash:
                write_evidence(item, [mark.criterion for mark in slos(item)])
        bounded = [mark for mark in slos(item) if mark.max is not None or mark.min is not None]
        if bounded:
            from pytest_phase5.bounds import check_bounds
            from pytest_phase5.doors import policy_of

            criteria = policy_of(item.config.stash[SETTINGS]).criteria
            pairs = [(criteria[mark.criterion], mark) for mark in bounded]
            check_bounds(pairs, evidence_of(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, None, None]:
        """Stop engines with the last test that used them: how they stop is part of that test."""
        try:
            yield
        finally:
            _settle_engines(item, nextitem)


def _settle_engines(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    pool = item.config.stash.get(POOL, None)
    if pool is None:
        return
    from pytest_phase5.engines import EngineError

    try:
        pool.settle(wanted_specs(nextitem))
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
