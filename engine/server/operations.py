"""Every route, as the OpenAPI document tells of it."""

from typing import Final

from engine.server import documents, rollout_documents
from engine.server.openapi import OpenApi, Operation
from engine.server.parameters import ChatRequest, CompletionRequest
from engine.server.status import Status

#: What may go wrong with a request that generates.
_GENERATE_ERRORS: Final = (400, 401, 404, 413, 422, 429, 500, 503, 504)

CHAT: Final = Operation(
    method="POST",
    path="/v1/chat/completions",
    summary="Answer a conversation.",
    body=ChatRequest,
    answer=documents.ChatCompletion,
    events=documents.ChatChunk,
    errors=_GENERATE_ERRORS,
    secured="api_key",
)
COMPLETIONS: Final = Operation(
    method="POST",
    path="/v1/completions",
    summary="Continue a text.",
    body=CompletionRequest,
    answer=documents.TextCompletion,
    events=documents.TextChunk,
    errors=_GENERATE_ERRORS,
    secured="api_key",
)
MODELS: Final = Operation(
    method="GET",
    path="/v1/models",
    summary="Name the model that is served.",
    answer=documents.ModelList,
    errors=(401,),
    secured="api_key",
)
STATUS: Final = Operation(
    method="GET",
    path="/v1/status",
    summary="Tell what this engine is, serves and does.",
    answer=Status,
)
LIVEZ: Final = Operation(
    method="GET",
    path="/livez",
    summary="Tell whether only a restart would help.",
    answer=documents.Live,
    unready=503,
)
READYZ: Final = Operation(
    method="GET",
    path="/readyz",
    summary="Tell whether a request that comes now is served.",
    answer=documents.ReadyState,
    unready=503,
)
METRICS: Final = Operation(
    method="GET", path="/metrics", summary="Tell Prometheus all that is counted.", answer=None
)
OPENAPI: Final = Operation(
    method="GET", path="/openapi.json", summary="Give this document.", answer=OpenApi
)
RELOAD: Final = Operation(
    method="POST",
    path="/admin/reload",
    summary="Read the configuration again.",
    answer=documents.Reloaded,
    errors=(400, 401, 403),
    secured="admin",
)
ROLLBACK: Final = Operation(
    method="POST",
    path="/admin/rollback",
    summary="Brake flags: 0 % at once, durable before the answer.",
    body=rollout_documents.RollbackRequest,
    body_required=False,
    answer=rollout_documents.RolledBack,
    errors=(400, 401, 403, 507),
    secured="admin",
)
ROLLOUT: Final = Operation(
    method="POST",
    path="/admin/rollout",
    summary="Deliver a state of the rollout's store.",
    body=rollout_documents.DeliverRequest,
    answer=rollout_documents.Delivered,
    errors=(400, 401, 403, 507),
    secured="admin",
)
LEASE: Final = Operation(
    method="POST",
    path="/admin/lease",
    summary="Renew the lease under which canary, early and mid are served.",
    body=rollout_documents.LeaseRequest,
    answer=rollout_documents.Leased,
    errors=(400, 401, 403, 507),
    secured="admin",
)
DRAIN: Final = Operation(
    method="POST",
    path="/admin/drain",
    summary="Take no new request; let live streams finish.",
    answer=documents.Draining,
    errors=(401, 403),
    secured="admin",
)
