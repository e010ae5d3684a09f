"""The routes that only tell: the model, the engine's state, its metrics, its document."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from engine.runtime.interface import ReplicaState
from engine.server import documents
from engine.server.engine import Engine
from engine.server.keys import Keys
from engine.server.openapi import OpenApi
from engine.server.reply import json
from engine.server.status import status as status_of

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def models(request: Request) -> Response:
    """`GET /v1/models`."""
    keys: Keys = request.app.state.keys
    keys.tenant(request.scope)
    name = _engine(request).model.name
    card = documents.ModelCard(id=name, created=0, owned_by="phase5")
    return json(documents.ModelList(data=[card]))


async def status(request: Request) -> Response:
    """`GET /v1/status`."""
    return json(status_of(_engine(request), request.app.state.routes))


async def livez(request: Request) -> Response:
    """`GET /livez`: dead once no replica will serve again, so that only a restart helps."""
    states = [replica.state for replica in _engine(request).runtime.replicas()]
    live = any(state is not ReplicaState.FAILED for state in states)
    return json(documents.Live(live=live), 200 if live else 503)


async def readyz(request: Request) -> Response:
    """`GET /readyz`."""
    ready = _engine(request).ready
    return json(documents.ReadyState(ready=ready), 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """`GET /metrics`."""
    return Response(_engine(request).metrics.scrape(), media_type=_PROMETHEUS)


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    told: OpenApi = request.app.state.openapi
    return json(told)
