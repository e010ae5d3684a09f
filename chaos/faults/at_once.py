"""Requests of which none is answered before all have come: as much at once as a server can see."""

import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

from chaos.errors import FaultError

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of them got."""

    status: int
    body: Mapping[str, Any]


def ask_at_once(url: str, body: Mapping[str, Any], clients: int) -> list[Answer]:
    """POST the same JSON on so many connections, the last byte of each behind all the rest.

    Raises:
        FaultError: a connection was refused or cut, or an answer is not whole.
    """
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()
    address = (parts.hostname or "", parts.port or 80)
    try:
        with ExitStack() as doors:
            opened = [
                doors.enter_context(socket.create_connection(address, timeout=_CONNECT_SECONDS))
                for _ in range(clients)
            ]
            for door in opened:
                door.sendall(head + content[:-1])
            for door in opened:
                door.sendall(content[-1:])
            return [_answer(door) for door in opened]
    except (OSError, HTTPException, ValueError) as error:
        raise FaultError(f"{clients} times POST {url}: {error!r}") from None


def _answer(door: socket.socket) -> Answer:
    door.settimeout(_ANSWER_SECONDS)
    with HTTPResponse(door, method="POST") as response:
        response.begin()
        return Answer(response.status, json.loads(response.read()))
