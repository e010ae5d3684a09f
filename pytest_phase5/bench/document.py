"""The result of a run as one JSON document."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine import __version__
from engine.runtime.models import ModelFiles
from pytest_phase5.bench.asking import Round
from pytest_phase5.bench.pairing import COMPARED, ratios, rows
from pytest_phase5.bench.running import Compared, Outcome
from pytest_phase5.recording import machine

SCHEMA: Final = "phase5.bench/1"
#: What decides how fast a model computes and how fast a server answers.
_PACKAGES: Final = ("mlx", "mlx-lm", "numpy", "granian", "uvloop", "aiohttp")


def document(
    model: ModelFiles,
    seed: int,
    rounds: int,
    outcome: Outcome | None,
    limit: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """All that a run found, and where."""
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "model": {"name": model.name, "sha256": model.sha256},
        "seed": seed,
        "rounds": rounds,
        "arms": dict(outcome.options) if outcome else {},
        "engine_config": outcome.engine_config if outcome else "",
        "environment": _environment(outcome) if outcome else {},
        "identical": {one.arm: {"same": one.same, "of": one.of} for one in outcome.identities}
        if outcome
        else {},
        "cells": [_cell(one) for one in outcome.cells] if outcome else [],
        "limit": list(limit),
    }


def versions() -> dict[str, str]:
    """Of Python, of ourselves, and of the packages that count."""
    found = {"python": platform.python_version(), "pytest-phase5": __version__}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def sound(document_: Mapping[str, Any]) -> bool:
    """Whether every server answered as mlx-lm does, and no round's work was unequal."""
    alike = all(one["same"] == one["of"] for one in document_["identical"].values())
    states = [row["states"] for cell in document_["cells"] for row in cell["rows"].values()]
    return alike and not any(state in {"unequal", "invalid"} for one in states for state in one)


def _environment(outcome: Outcome) -> dict[str, Any]:
    """What was set for the processes that compute, without the folders of this machine."""
    return {
        arm: {name: value.rpartition("/")[2] for name, value in those.items()}
        for arm, those in outcome.environment.items()
    }


def _cell(compared: Compared) -> dict[str, Any]:
    cell = compared.cell
    return {
        "name": cell.name,
        "workload": cell.workload,
        "streams": cell.streams,
        "prompt": cell.prompt,
        "requests": cell.requests,
        "rate": None if cell.rate is None else round(cell.rate, 1),
        "rows": rows(compared.rounds),
        "ratios": [ratio.row() for ratio in ratios(compared.rounds)],
        "rounds": [_round(one) for one in compared.rounds],
    }


def _round(one: Round) -> dict[str, Any]:
    """A round in short: what its row and ratios can be checked against."""
    return {
        "number": one.number,
        "place": one.place,
        "arm": one.arm,
        "state": one.figures.state,
        "outcomes": dict(one.figures.outcomes),
        "seconds": round(one.figures.seconds, 3),
        "idle_cpu_seconds": round(one.idle_cpu_seconds, 3),
        "measures": {
            name: round(value, 3)
            for name, value in one.measures.items()
            if name.split(":")[0] in COMPARED
        },
    }
