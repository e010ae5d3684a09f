"""Listening sockets, bound before anything else is started: a port in use is known at once."""

import socket
import sys
from typing import Final

#: A client that does not read holds up its stream after this much (the kernel doubles it).
SEND_BUFFER_BYTES: Final = 32 * 1024
#: Connections that may wait for `accept`.
BACKLOG: Final = 1024


class ListenError(OSError):
    """An address that cannot be listened on. The message says which and why."""


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        ListenError: the address is in use, not ours, or not an address.
    """
    sock = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
        if sys.platform != "win32":
            # After a restart the old port may still be in TIME_WAIT; this does not share it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # Accepted connections inherit it. Without it a token waits for the client to
        # acknowledge the one before: 40 ms of every TTFT, since the role chunk goes first.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - no keyword there
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = error.strerror or str(error)
        raise ListenError(
            f"cannot listen on {host} port {port}: {reason}; "
            "give an address of this machine and a free port, or port 0 for any"
        ) from error
    return sock
