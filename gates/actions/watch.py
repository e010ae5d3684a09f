"""The backstop of the guard: one look at the rollout from a workflow, with the right to push."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from gates.actions.pushing import pushing
from gates.exits import DONE, ERROR
from gates.github import Level, add_summary, annotate, get_input, plain

#: Seconds for one look.
_SECONDS: Final = 240.0

_HOLD, _ROLLBACK = 10, 20


def watch() -> int:
    """Look once; 0 when nothing is to be done or a rollback was begun, else 1."""
    config = Path(get_input("config", "config/runtime.yaml"))
    command = ["-P", "-m", "pytest_phase5.cli", "watch", "--once", "--config", str(config)]
    try:
        with pushing(get_input("token"), os.environ):
            done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
                [sys.executable, *command], capture_output=True, text=True, check=False,
                timeout=_SECONDS,
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        annotate(Level.ERROR, str(error), title="phase5: the guard's backstop broke")
        return ERROR
    said = " ".join(done.stdout.split()) or " ".join(done.stderr.split())
    words = {DONE: "nothing to do", _HOLD: "somebody must look", _ROLLBACK: "rollback"}
    word = words.get(done.returncode, f"ended with {done.returncode}")
    add_summary(f"## phase5 watch: {word}\n\n{plain(said)}")
    if done.returncode != DONE:
        annotate(Level.ERROR, said, title=f"phase5 watch: {word}")
    return DONE if done.returncode in {DONE, _ROLLBACK} else ERROR
