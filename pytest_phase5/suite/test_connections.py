"""Connections that the engine holds for as many streams, over HTTP/2 and over HTTP/1.1."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gates.samples import Outcome
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import measured
from pytest_phase5.recording import Evidence

if TYPE_CHECKING:
    from pytest_phase5.load.running import ProfileResult


@pytest.mark.slo("connection_overhead")
@pytest.mark.load("connections")
@pytest.mark.flag_set("http2_transport", model="tiny")
def test_fifty_streams_share_connections(
    mlx_engine: Engine, evidence: Evidence, load: "Callable[[], ProfileResult]"
) -> None:
    """Both protocols on one engine, whose flag opens the second port."""
    for part in load().parts:
        wrong = [s.error for s in measured(part.samples) if s.outcome is not Outcome.OK]
        evidence.check(f"{part.part.name}: every request was answered", not wrong, f"{wrong[:1]}")
    assert mlx_engine.status()["ready"]
    assert all(check.ok for check in evidence.checks), evidence.checks
