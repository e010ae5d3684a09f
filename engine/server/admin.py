"""Who may administer the engine, and what they may do."""

import hmac
import ipaddress
import logging
import os
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.config import ConfigError
from engine.server.documents import Draining, Reloaded
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.reply import json
from engine.server.sockets import ListenError

log = logging.getLogger("engine.server.admin")

TOKEN_VARIABLE: Final = "PHASE5_ADMIN_TOKEN"  # noqa: S105 - a name, not a secret
#: Requests that carry these were passed on, or made by a web page: the address on the other
#: side of the socket does not say who asks.
_NOT_LOCAL: Final = ("forwarded", "x-forwarded-for", "via", "origin")


def authorise(request: Request) -> None:
    """Let an administrator through.

    With a token set, only its bearer; without one, only loopback, and not through a proxy
    or a browser.

    Raises:
        ApiError: 401 or 403.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise ApiError(
                status=401,
                message="admin needs the bearer token of this engine",
                headers={"www-authenticate": "Bearer"},
            )
    elif not _is_local(request):
        raise ApiError(
            status=403,
            message=f"admin answers only on loopback while {TOKEN_VARIABLE} is not set",
        )


async def reload(request: Request) -> Response:
    """`POST /admin/reload`: read the configuration again.

    Raises:
        ApiError: 400, the new configuration cannot serve.
    """
    authorise(request)
    engine: Engine = request.app.state.engine
    try:
        waiting = await engine.reloads.reload("request")
    except (ConfigError, ListenError) as error:
        raise ApiError(status=400, message=str(error), code="invalid_configuration") from error
    generation = engine.settings.config.generation
    return json(Reloaded(reloaded=True, generation=generation, needs_restart=waiting))


async def drain(request: Request) -> Response:
    """`POST /admin/drain`: take no new request; live streams finish."""
    authorise(request)
    engine: Engine = request.app.state.engine
    engine.stop_taking()
    log.info("draining by request")
    live = engine.registry.counts().live
    return json(Draining(draining=True, streams_in_flight=live))


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _NOT_LOCAL):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
