"""What ends a run from outside, as one file descriptor that can be waited on."""

import os
import signal
import threading
from typing import Final

#: What the pipe carries when standard input ended; other bytes are signals.
_PARENT_GONE: Final = 0


class Stops:
    """Hears SIGINT, SIGTERM and, where asked, the end of standard input."""

    def __init__(self, *, standard_input: bool) -> None:
        self.heard, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        signal.set_wakeup_fd(self._tell)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)  # the descriptor tells of it
        if standard_input:
            # A thread, since not every kind of standard input can be polled.
            threading.Thread(target=self._await_parent, daemon=True).start()

    def reason(self) -> str:
        """What was heard first; to be asked when `heard` is readable."""
        byte = os.read(self.heard, 1)[0]
        return "the parent process is gone" if byte == _PARENT_GONE else signal.Signals(byte).name

    def _await_parent(self) -> None:
        while os.read(0, 1024):
            pass
        os.write(self._tell, bytes([_PARENT_GONE]))
