"""What holds for every test."""

import os
import signal
import sys
from pathlib import Path

from hypothesis import settings

# Helpers of the tests of the documentation, and what makes its reference: importlib mode leaves
# sys.path alone.
sys.path.append(str(Path(__file__).parent / "documents"))
sys.path.append(str(Path(__file__).parents[1] / "docs" / "hooks"))

# A job in the background of a script ignores Ctrl-C, and whatever it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline for each example would be an assertion on wall-clock time.
settings.register_profile("scaled", deadline=None)
settings.register_profile("full", deadline=None, max_examples=1_000)
settings.load_profile("full" if os.environ.get("PHASE5_FULL") else "scaled")
