"""Runs `phase5` in children of a process that has all of it loaded, and kills them when told.

    python killing.py

Each line of standard input is `{"arguments": [...], "seconds": S}`: a child runs that command and
is killed by SIGKILL after S seconds, if it lives so long. The answer is how long it lived, and its
exit status, negative for a signal. So the kills fall on the work and not on the loading.
"""

import json
import os
import select
import signal
import sys
import time
from importlib import import_module

from pytest_phase5.main import main

#: What the commands load when they are called.
LOADED = (
    "anyio._backends._asyncio",
    "gates.file_store",
    "gates.promote_cli",
    "gates.rollback_store",
    "httpcore._backends.auto",
    "pytest_phase5.cli",
)


def run(arguments: list[str], seconds: float) -> dict[str, float]:
    """One child."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        work(arguments)
    ended = os.pidfd_open(child)
    try:
        if not select.select([ended], [], [], seconds)[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(ended)
    return {"seconds": time.monotonic() - began, "status": os.waitstatus_to_exitcode(status)}


def work(arguments: list[str]) -> None:
    """What the child does; never returns."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.argv = ["phase5", *arguments]
    try:
        main()
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else 1)
    finally:
        os._exit(70)  # it neither ended nor was killed


if __name__ == "__main__":
    for module in LOADED:
        import_module(module)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(**json.loads(line))) + "\n")
        sys.stdout.flush()
