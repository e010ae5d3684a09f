"""The Starlette application over one engine; both ports serve it."""

import logging
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine.runtime.interface import ReplicaState
from engine.server import admin
from engine.server.api import GenerateRoute
from engine.server.connections import Watched
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.requests import ChatRequest, CompletionRequest
from engine.server.responses import ChatShape, CompletionShape
from engine.server.status import status

log = logging.getLogger("engine.server.app")

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def create_app(engine: Engine) -> Starlette:
    """The application: every route of this engine."""
    chat = GenerateRoute(engine, ChatRequest, ChatShape)
    completions = GenerateRoute(engine, CompletionRequest, CompletionShape)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/status", _status),
            Route("/livez", _livez),
            Route("/readyz", _readyz),
            Route("/metrics", _metrics),
            Route("/admin/reload", admin.reload, methods=["POST"]),
            Route("/admin/drain", admin.drain, methods=["POST"]),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
    )
    app.state.engine = engine
    app.add_middleware(Watched, connections=engine.connections)
    return app


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _models(request: Request) -> Response:
    model = _engine(request).model
    card = {"id": model.name, "object": "model", "created": 0, "owned_by": "phase5"}
    return JSONResponse({"object": "list", "data": [card]})


async def _status(request: Request) -> Response:
    return JSONResponse(status(_engine(request)))


async def _livez(request: Request) -> Response:
    """Dead once no replica will ever serve again: only a restart of the engine helps."""
    states = [replica.state for replica in _engine(request).runtime.replicas()]
    live = any(state is not ReplicaState.FAILED for state in states)
    return JSONResponse({"live": live}, status_code=200 if live else 503)


async def _readyz(request: Request) -> Response:
    ready = _engine(request).ready
    return JSONResponse({"ready": ready}, status_code=200 if ready else 503)


async def _metrics(request: Request) -> Response:
    return Response(_engine(request).metrics.scrape(), media_type=_PROMETHEUS)


async def _api_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return Response(error.body(), error.status, error.all_headers(), "application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and methods, in the form of every other error."""
    if not isinstance(error, HTTPException):
        raise error
    said = f"{request.method} {request.url.path}: {error.detail}"
    headers = dict(error.headers or {})
    return await _api_error(
        request, ApiError(status=error.status_code, message=said, headers=headers)
    )
