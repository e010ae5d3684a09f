"""Lets the tests here import their helpers, and those of the gates' tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "unit" / "gates")]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator["Hub"]:  # type: ignore[name-defined] # noqa: F821 - needs the path above
    """A repository with a remote, its fleet of one engine, and act to run its workflows."""
    from hub import opened

    with opened(tmp_path) as found:
        yield found
