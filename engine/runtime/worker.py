"""The runtime process: `python -P -m engine.runtime.worker`, started by the supervisor.

It is reached over an inherited socket, or dials in over TLS (`dialling`). A Ray actor calls
`serve` in a process that Ray started.

The main thread owns the model and everything of mlx (`serving`). A second thread reads
messages into the inbox and ends the process when the front end is gone; it runs before mlx
is even imported, so that no orphan remains at any time.
"""

import argparse
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final

from engine.runtime.blas import THREADS_VARIABLE
from engine.runtime.cores import keep_to_core
from engine.runtime.framing import FrameError, to_runtime
from engine.runtime.light import leave_out_transformers

if TYPE_CHECKING:  # mlx takes a second and a half to import; see above
    from engine.runtime.serving import Inbox

log = logging.getLogger("engine.runtime.worker")

_READ_BYTES: Final = 64 * 1024
_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h

EXIT_OK: Final = 0
EXIT_CANNOT_START: Final = 1
EXIT_ORPHAN: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model until told to stop, or until the front end is gone."""
    options = _parse(arguments)
    _reset_signals()
    _die_with(options.parent)
    _log_to_stderr()
    if options.replicas == 1:  # several would have to agree on who takes which
        keep_to_core(int(os.environ.get(THREADS_VARIABLE, "0")))
    link = _dial() if options.fd is None else socket.socket(fileno=options.fd)
    return EXIT_CANNOT_START if link is None else _serve(options, link)


def serve(link: socket.socket, arguments: Sequence[str]) -> int:
    """Serve `worker_options` over a connection, in a process that somebody else looks after."""
    return _serve(_parse(arguments), link)


def _dial() -> socket.socket | None:
    from engine.runtime.dialling import Invitation, dial

    try:
        return dial(Invitation.accept(os.environ))
    except OSError as error:
        log.error("cannot reach the front end: %s", error)  # noqa: TRY400  # one line
        return None


def _serve(options: argparse.Namespace, link: socket.socket) -> int:
    inbox: Inbox = SimpleQueue()
    Thread(target=_read, args=(link, inbox), name="reader", daemon=True).start()
    leave_out_transformers()
    from engine.runtime.serving import Worker, load

    try:
        adapter = load(
            options.model,
            max_rows=options.max_rows,
            prefill_chunk=options.prefill_chunk,
            prefill_rows=options.prefill_rows,
            prefix_bytes=options.prefix_bytes,
            kv_bytes=options.kv_bytes,
            replicas=options.replicas,
            draft_tokens=options.draft_tokens,
            draft_folder=options.draft_model,
        )
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor reports this line
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.error("cannot load the model in %s: %s", options.model, reason)  # noqa: TRY400  # as above
        return EXIT_CANNOT_START
    Worker(adapter, inbox, link, options.epoch).run()
    return EXIT_OK


def _read(link: socket.socket, inbox: "Inbox") -> None:
    """Fill the inbox. End of file means that the front end is gone: then so are we, at once."""
    decoder = to_runtime()
    try:
        while data := link.recv(_READ_BYTES):
            for message in decoder.feed(data):
                inbox.put(message)
    except (FrameError, OSError) as error:
        log.error("the connection to the front end broke: %s", error)  # noqa: TRY400  # one line
    os._exit(EXIT_ORPHAN)


def _reset_signals() -> None:
    """Ctrl-C reaches the whole terminal; the front end drains first and then stops us."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _die_with(parent: int) -> None:
    """Have the kernel kill us when the parent dies (Linux); the reader does so elsewhere."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the call above
        os._exit(EXIT_ORPHAN)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        # The level comes first: the front end reads it, and adds the time.
        format="%(levelname)s runtime[%(process)d] %(message)s",
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine.runtime.worker")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--fd", type=int)  # without it the process dials in
    parser.add_argument("--parent", type=int)  # only a process of our own has one
    for name in ("epoch", "max-rows", "prefill-chunk", "prefill-rows"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--prefix-bytes", type=int, required=True)
    parser.add_argument("--kv-bytes", type=int)  # none: a share of what is free
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--draft-tokens", type=int, default=0)
    parser.add_argument("--draft-model", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
