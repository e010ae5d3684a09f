from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_phase5.load.stub_process import StubProcess, running_stub


@pytest.fixture(scope="session")
def shared_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    """One for all tests that neither stop it nor count what it has seen."""
    with running_stub(tmp_path_factory.mktemp("stub") / "stub.jsonl") as process:
        yield process


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    """The calibrated stub with a log of its own."""
    with running_stub(tmp_path / "stub.jsonl") as process:
        yield process
