"""The runtime process, with requests in it that it cannot stand.

Started in place of `engine.runtime.worker`. What a request does, when it draws the output
token at `POSITION`, is written in its seed.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

POSITION: Final = 3

#: Seeds of requests that the process cannot stand.
RAISES, CRASHES, EXITS, HANGS = 666, 667, 668, 669


class PoisonError(RuntimeError):
    pass


def _raise() -> NoReturn:
    raise PoisonError


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    while True:
        time.sleep(1)


EFFECTS: Final[dict[int, Callable[[], object]]] = {
    RAISES: _raise,
    CRASHES: _crash,
    EXITS: lambda: os._exit(7),
    HANGS: _hang,
}


def main() -> int:
    from engine.runtime.light import leave_out_transformers

    leave_out_transformers()
    from engine.runtime import batch

    stock = batch.choose

    def choose(logits: Any, inputs: Any, rows: Sequence[Any]) -> Any:
        for row in rows:
            if row.position == POSITION and row.seed in EFFECTS:
                EFFECTS[row.seed]()
        return stock(logits, inputs, rows)

    batch.choose = choose
    from engine.runtime import worker

    return worker.main()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
