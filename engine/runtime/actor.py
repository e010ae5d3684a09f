"""The runtime inside a Ray actor: the same worker, in a process that Ray started.

Ray sees one long call. The actor ends with its connection to the front end, whether Ray
notices the front end's death or not.
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import engine
from engine.runtime.dialling import Invitation, dial

#: Lines of the log that are kept to explain the end.
_TAIL_LINES: Final = 20


class Host:
    """The actor's class. Made into an actor by `ray_backend`, so ray is not needed to import it."""

    def about(self) -> tuple[int, str, str]:
        """Process id, host name and version of the engine that is installed here."""
        return os.getpid(), socket.gethostname(), f"{engine.__version__} in {_installed()}"

    def run(self, invitation: Invitation, arguments: Sequence[str]) -> str:
        """Serve until told to stop; returns the last lines of the log.

        Args:
            invitation: where to dial.
            arguments: `worker_options`.
        """
        from engine.runtime.worker import serve  # the front end imports this module as well

        lines = _Lines()
        log = logging.getLogger("engine.runtime")
        log.setLevel(logging.INFO)
        log.addHandler(lines)
        try:
            link = dial(invitation)
        except OSError as error:
            return f"cannot reach the front end: {error}"
        # The link stays open: its end would end this process before Ray has the answer.
        status = serve(link, arguments)
        return " | ".join([*lines.kept, f"status {status}"])


class _Lines(logging.Handler):
    """Keeps the last lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[str] = deque(maxlen=_TAIL_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.kept.append(f"{record.levelname} {record.getMessage()}")


def _installed() -> Path:
    return Path(engine.__file__).resolve().parent
