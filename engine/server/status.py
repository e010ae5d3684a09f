"""`/v1/status`: what this engine is, serves and does, for operators and the guard."""

from typing import Any, Final

from engine import __version__
from engine.core.flags import FLAGS
from engine.server.engine import Engine

#: Served routes; what a later version adds appears here, so that clients need not guess.
ROUTES: Final = (
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "GET /v1/models",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
    "GET /v1/status",
    "POST /admin/reload",
    "POST /admin/drain",
)


def status(engine: Engine) -> dict[str, Any]:
    """The document. Keys are a contract: see the design, section 4."""
    settings = engine.settings
    return {
        "ready": engine.ready,
        "generation": settings.config.generation,
        "flags": {name: settings.flag_view(name) for name in FLAGS},
        "model": {"name": engine.model.name, "sha256": engine.model.sha256},
        "replicas": [
            {"pid": item.pid, "state": item.state.value, "streams": item.streams}
            for item in engine.runtime.replicas()
        ],
        "limit": engine.dispatcher.queue.limit,
        "queue": engine.dispatcher.queue.waiting,
        "memory": engine.memory.view(),
        "streams_in_flight": engine.registry.counts().live,
        "engine_version": __version__,
        "commit": engine.commit,
        "config_sha256": settings.config.digest(),
        "endpoints": {
            "http": engine.ports.http,
            "http2": engine.ports.http2,
            "routes": list(ROUTES),
        },
    }
