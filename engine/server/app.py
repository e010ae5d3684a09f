"""The Starlette application over one engine; both ports serve it.

`_served` is the one list of routes: the application, the OpenAPI document and `/v1/status`
are made from it.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.server import admin, administering, operations, views
from engine.server.api import GenerateRoute
from engine.server.connections import Connections
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.keys import Keys
from engine.server.logs import where
from engine.server.openapi import Limits, Operation, document
from engine.server.parameters import ChatRequest, CompletionRequest
from engine.server.responses import ChatShape, TextShape
from engine.server.streams import ClientGone

log = logging.getLogger("engine.server.app")

Endpoint = ASGIApp | Callable[[Request], Awaitable[Response]]


class Application:
    """Every route of this engine, each behind its table of connections.

    The routes that stream are found here and not by Starlette: its layers would take part in
    each event of each answer.

    Attributes:
        rest: whatever else is asked, and every answer that is an error of routing.
    """

    def __init__(
        self, connections: Connections, streaming: Mapping[str, ASGIApp], rest: Starlette
    ) -> None:
        self._connections = connections
        self._streaming = streaming
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.rest(scope, receive, send)
            return
        app: ASGIApp = self.rest
        if scope["method"] == "POST":
            app = self._streaming.get(scope["path"], app)
        await self._connections.through(app, scope, receive, send)


def create_app(engine: Engine, keys: Keys) -> Application:
    """The application: every route of this engine, guarded by its keys."""
    served = _served(engine, keys)
    streaming = {what.path: Faults(app) for what, app in served if isinstance(app, GenerateRoute)}
    return Application(engine.connections, streaming, _starlette(engine, keys, served))


def _starlette(
    engine: Engine, keys: Keys, served: Sequence[tuple[Operation, Endpoint]]
) -> Starlette:
    app = Starlette(
        routes=[Route(what.path, endpoint, methods=[what.method]) for what, endpoint in served],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
    )
    # Unknown is unknown: a redirect to the path without its last slash is not in the document.
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.state.keys = keys
    app.state.routes = [what.route for what, _ in served]
    app.state.openapi = document([what for what, _ in served], _schemes(keys), _limits(engine))
    app.add_middleware(Faults)
    return app


def _served(engine: Engine, keys: Keys) -> list[tuple[Operation, Endpoint]]:
    """What is served, and by what."""
    return [
        (operations.CHAT, GenerateRoute(engine, keys, ChatRequest, ChatShape)),
        (operations.COMPLETIONS, GenerateRoute(engine, keys, CompletionRequest, TextShape)),
        (operations.MODELS, views.models),
        (operations.STATUS, views.status),
        (operations.LIVEZ, views.livez),
        (operations.READYZ, views.readyz),
        (operations.METRICS, views.metrics),
        (operations.OPENAPI, views.openapi),
        (operations.RELOAD, admin.reload),
        (operations.ROLLBACK, administering.rollback),
        (operations.ROLLOUT, administering.rollout),
        (operations.LEASE, administering.lease),
        (operations.DRAIN, admin.drain),
    ]


def _limits(engine: Engine) -> Limits:
    codec = engine.codec
    return Limits(
        model=engine.model.name,
        context_length=codec.context_length,
        vocab_size=codec.vocab_size,
    )


def _schemes(keys: Keys) -> frozenset[str]:
    told = {"api_key": keys.guard, "admin": bool(os.environ.get(admin.TOKEN_VARIABLE))}
    return frozenset(name for name, there in told.items() if there)


class Faults:
    """Turns every fault that is left into the error object, and logs where it was.

    Starlette's own handler hands a fault on to the server, which would log its message.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        def watched(message: Message) -> Awaitable[None]:  # one coroutine less for each event
            nonlocal begun
            begun = True
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the border: everything becomes an answer
            log.error("%s: %s", scope.get("path"), where(error))  # noqa: TRY400 - no message
            if not begun:
                fault = ApiError(status=500, message="internal error", code="internal")
                await _response(fault)(scope, receive, send)


def _response(error: ApiError) -> Response:
    return Response(error.body(), error.status, error.all_headers(), "application/json")


async def _api_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return _response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, in the form of every other error."""
    if not isinstance(error, HTTPException):
        raise error
    said = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers or {})
    return _response(ApiError(status=error.status_code, message=said, headers=headers))
