"""`/v1/status`: what this engine is, serves and does, for operators and the guard."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from msgspec import Struct

from engine import __version__
from engine.server.engine import Engine
from engine.server.machine import machine_class
from engine.server.reloading import Outcome
from engine.server.rollout_documents import FlagStatus, LeaseStatus, StateStatus
from engine.server.rollout_views import flag_statuses


class ModelStatus(Struct, frozen=True, kw_only=True):
    """The model that is served."""

    name: str
    sha256: str


class ReplicaStatus(Struct, frozen=True, kw_only=True):
    """One runtime process; `speculating`: it drafts tokens because that pays."""

    pid: int | None
    state: str
    streams: int
    speculating: bool


class MemoryStatus(Struct, frozen=True, kw_only=True):
    """What the runtime process that holds most holds, what it may, and what is done about it."""

    bytes: int
    budget: int  #: bytes as well
    rung: str


class GovernorStatus(Struct, frozen=True, kw_only=True):
    """What the governor does: `off`, `steering`, or `safe` with the reason."""

    mode: str
    trouble: str | None


class QosStatus(Struct, frozen=True, kw_only=True):
    """SLOs that are violated, what holds remedies back, and the cap that one has set."""

    violations: Sequence[str]
    breakers: dict[str, str]
    limit_cap: int | None


class Endpoints(Struct, frozen=True, kw_only=True):
    """Where the engine answers, and to what: so that clients need not guess."""

    http: str
    http2: str | None
    routes: Sequence[str]


class ReloadStatus(Struct, frozen=True, kw_only=True):
    """The last reload: `applied` or `refused`, why it was refused or what was left out."""

    outcome: str
    source: str
    reason: str | None
    at: float


class Status(Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/status`. Its keys are a contract: see the design, section 4."""

    ready: bool
    engine_id: str
    machine: str
    generation: int
    flags: dict[str, FlagStatus]
    model: ModelStatus
    replicas: list[ReplicaStatus]
    limit: int
    queue: int
    governor: GovernorStatus
    memory: MemoryStatus
    qos: QosStatus
    streams_in_flight: int
    engine_version: str
    commit: str
    config_sha256: str
    endpoints: Endpoints
    lease: LeaseStatus
    state: StateStatus
    reload: ReloadStatus | None


def status(engine: Engine, routes: Sequence[str]) -> Status:
    """The document as things stand; `routes` are those that the application serves."""
    settings, ports = engine.settings, engine.ports
    return Status(
        ready=engine.ready,
        engine_id=engine.engine_id,
        machine=machine_class(),
        generation=settings.config.generation,
        flags=flag_statuses(engine),
        model=ModelStatus(name=engine.model.name, sha256=engine.model.sha256),
        replicas=[
            ReplicaStatus(
                pid=item.pid,
                state=item.state.value,
                streams=item.streams,
                speculating=item.speculating,
            )
            for item in engine.runtime.replicas()
        ],
        limit=engine.dispatcher.queue.limit,
        queue=engine.dispatcher.queue.waiting,
        governor=GovernorStatus(
            mode=engine.features.governance.mode, trouble=engine.features.governance.trouble
        ),
        memory=msgspec.convert(engine.memory.view(), MemoryStatus),
        qos=msgspec.convert(engine.qos.view(), QosStatus),
        streams_in_flight=engine.registry.counts().live,
        engine_version=__version__,
        commit=engine.commit,
        config_sha256=settings.config.digest(),
        endpoints=Endpoints(http=ports.http, http2=ports.http2, routes=routes),
        lease=engine.rollout.lease_view(settings),
        state=StateStatus(durable=engine.rollout.durable, troubles=engine.rollout.troubles),
        reload=_reload(engine.reloads.last),
    )


def _reload(last: Outcome | None) -> ReloadStatus | None:
    return None if last is None else ReloadStatus(**asdict(last))
