"""Locust's processes, from outside: started together, ended together.

Each holds one end of a pipe for as long as it lives, so the end of that pipe says that all
are gone, whoever started whom. Each also ends when its standard input does.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Seconds for stopped processes to write what there is; a second more than they take for
#: themselves before they end the hard way.
GRACE: Final = 6.0
OUTPUT: Final = "output.log"


class Tree:
    """A Locust process and its forks, in a process group of their own."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.alive, ends_with_them = os.pipe()
        with (folder / OUTPUT).open("wb") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - a list, without a shell
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                pass_fds=(ends_with_them,),
                start_new_session=True,
            )
        os.close(ends_with_them)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End whatever is left of it."""
        self.stop()
        if not self.ended(GRACE):
            self.kill()
        self._popen.wait()
        os.close(self.alive)

    def stop(self) -> None:
        """Let all processes write what there is, and end."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def kill(self) -> None:
        """End all processes now."""
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # they were faster

    def ended(self, seconds: float) -> bool:
        """Whether all processes are gone, or go within so many seconds."""
        return bool(select.select([self.alive], [], [], seconds)[0])

    def status(self) -> int | None:
        """The exit status of the first process, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self) -> int:
        """The exit status of the first process."""
        return self._popen.wait()
