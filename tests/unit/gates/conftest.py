"""Lets the tests of this folder import `gate_builders`: importlib mode leaves sys.path alone."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# No deadline: how long an example takes says nothing on a machine with neighbours.
settings.register_profile("gates", deadline=None)
settings.load_profile("gates")
