"""An embedded Granian server on a socket that we bind.

Granian binds with SO_REUSEPORT, so a second engine on a port in use would start and take
a share of the requests; and it does not tell the port that it was given for 0. Sockets
bound here make the first an error and the second known.
"""

import socket
from typing import Any

from granian._granian import SocketHolder
from granian.server.embed import Server

from engine.server.sockets import BACKLOG


class OnSocket(Server):
    """An embedded server on a socket that is already bound; it closes the socket at its end."""

    def __init__(self, sock: socket.socket, app: Any, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._bound = sock

    def _init_shared_socket(self) -> None:
        # Its own stub says that a holder takes nothing; it takes (fd, unix socket?, backlog).
        holder: Any = SocketHolder
        shared: Any = holder(self._bound.detach(), False, BACKLOG)  # noqa: FBT003 - no keywords
        self._ssp, self._shd, self._sfd = None, shared, shared.get_fd()
