"""Lets the tests of this folder import their helpers: importlib mode leaves sys.path alone."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.models import ModelFiles, resolve_model

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "unit" / "gates"))  # told_engine

from ears import Play, Scene, play_scene, poisoned  # see above

#: The story takes as long as a quarter of all others, so it is told where time is no matter.
collect_ignore = [] if os.environ.get("PHASE5_FULL") else ["test_rollout_story.py"]


@pytest.fixture(scope="session")
def tiny() -> ModelFiles:
    return resolve_model("tiny")


@pytest.fixture
def play(tiny: ModelFiles) -> Play:
    """Run a scene on `tiny`."""
    poison = poisoned(tiny)

    def run(scene: Scene, *, poisoned: bool = False, **options: Any) -> None:
        asyncio.run(play_scene(tiny, scene, spawn=poison if poisoned else None, **options))

    return run
