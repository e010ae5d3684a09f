"""What an engine writes down of its rollout, and reads again: JSON on one side, values on ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from engine.config import Rollout
from engine.core.brakes import UNKNOWN, Brake
from engine.core.flags import FLAGS
from engine.server.settings import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What served, to go on from.

    Attributes:
        served, delivered, told: see `settings.Settings`.
        lease: what was granted, in seconds, and until when, in seconds since 1970.
        lifted: brakes whose files may still be there, where we ended before they went.
    """

    served: State
    delivered: Mapping[str, float]
    told: State
    lease: tuple[float, float] | None
    lifted: tuple[str, ...] = ()


class _State(msgspec.Struct, frozen=True):
    generation: int
    flags: dict[str, Any]

    @classmethod
    def of(cls, state: State) -> Self:
        return cls(state.generation, state.rollout.model_dump(mode="json"))

    def state(self) -> State:
        rollout = Rollout.model_validate_json(msgspec.json.encode(self.flags))
        return State(self.generation, rollout)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    served: _State
    delivered: dict[str, float]
    told: _State
    lease: tuple[float, float] | None
    lifted: tuple[str, ...]

    @classmethod
    def of(cls, kept: Kept) -> Self:
        return cls(
            served=_State.of(kept.served),
            delivered=dict(kept.delivered),
            told=_State.of(kept.told),
            lease=kept.lease,
            lifted=kept.lifted,
        )

    def kept(self) -> Kept:
        return Kept(
            served=self.served.state(),
            delivered={name: self.delivered.get(name, 0.0) for name in FLAGS},
            told=self.told.state(),
            lease=self.lease,
            lifted=self.lifted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`engine.json`: who the engine is, where it was, and what it served; None before it did."""

    id: str
    port: int
    kept: Kept | None


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    port: int
    kept: _Kept | None


def write_document(document: Document) -> bytes:
    """The document as it is kept."""
    kept = None if document.kept is None else _Kept.of(document.kept)
    return msgspec.json.encode(_Document(id=document.id, port=document.port, kept=kept))


def read_document(data: bytes) -> Document:
    """The document that was kept.

    Raises:
        ValueError: it is torn, or not ours.
    """
    read = msgspec.json.decode(data, type=_Document)
    kept = None if read.kept is None else read.kept.kept()
    return Document(id=read.id, port=read.port, kept=kept)


class _Brake(msgspec.Struct, frozen=True, kw_only=True):
    cause: str
    reason: str
    at: float


def write_brake(brake: Brake) -> bytes:
    """What explains a brake; its flag and id are the name of the file."""
    return msgspec.json.encode({"cause": brake.cause, "reason": brake.reason, "at": brake.at})


def read_brake(brake_id: str, data: bytes) -> Brake:
    """A brake with its explanation; `UNKNOWN` where that is torn: that it is there is enough."""
    try:
        told = msgspec.json.decode(data, type=_Brake)
    except ValueError:
        return Brake(id=brake_id, cause=UNKNOWN, reason="its file is torn")
    return Brake(id=brake_id, cause=told.cause, reason=told.reason, at=told.at)
