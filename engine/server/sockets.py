"""Sockets that listen, and connections that are cut.

Those that listen are bound before anything else is started: a port in use is known at once.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from errno import EMFILE
from pathlib import Path
from typing import Final

#: A client that does not read holds up its stream after this much (the kernel doubles it).
SEND_BUFFER_BYTES: Final = 32 * 1024
#: Connections that may wait for `accept`.
BACKLOG: Final = 1024

#: A connection: its client's address and port, and the port of ours that it came to.
Key = tuple[str, str, str]


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


def cut(connection: Key) -> int:
    """Close a connection, given by its client's address and port and by our port.

    The server that reads and writes it owns it and has no call for this, so it is found among
    the descriptors of this process. What is not sent yet is thrown away, and the client sees a
    reset. The count of sockets that were closed: 0 when the client was faster.

    Raises:
        OSError: no descriptor is left to look with.
    """
    found = 0
    for sock in _connections():
        with sock, suppress(OSError):  # it may have ended meanwhile
            if _ends(sock) == connection:
                # Without it the kernel would keep what the client does not take.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
                found += 1
    return found


def open_connections() -> set[Key]:
    """Every TCP connection of this process. Costs some 50 us for each descriptor.

    Raises:
        OSError: no descriptor is left to look with.
    """
    found = set()
    for sock in _connections():
        with sock, suppress(OSError):  # it listens, or it ended meanwhile
            found.add(_ends(sock))
    return found


def _connections() -> Iterator[socket.socket]:
    """A duplicate of every TCP socket of this process: a descriptor itself may change hands."""
    for entry in list(Path("/dev/fd").iterdir()):
        sock = _duplicate(int(entry.name))
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            yield sock
        elif sock is not None:
            sock.close()


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        copy = os.dup(descriptor)
    except OSError as error:
        if error.errno == EMFILE:
            raise  # whatever it is, it is open
        return None  # closed since it was listed
    try:
        return socket.socket(fileno=copy)
    except OSError:  # a file or a pipe
        os.close(copy)
        return None


def _ends(sock: socket.socket) -> Key:
    client, here = sock.getpeername(), sock.getsockname()
    return str(client[0]), str(client[1]), str(here[1])
