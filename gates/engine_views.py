"""What engines answer, as types. Pure: JSON in, views out.

A key that must be there and is not, or is of another type, raises: an engine that does not say
that a flag is at 0 % has not said so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.core.flags import FLAGS

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagView:
    """One flag as an engine serves it. Shares are percentages."""

    enabled: bool
    percentage: float  #: configured
    effective: float  #: of the streams that begin now
    stage: str
    epoch: int
    braked: bool
    brake: str = ""  #: the id of its brake; empty without one
    cause: str = ""  #: why it braked
    held: str = ""  #: the reason of a hold
    unmanaged: bool = False  #: raised by hand

    @property
    def off(self) -> bool:
        """No new stream gets it."""
        return self.effective == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long an engine trusts the store without hearing of the guard."""

    expires_at: float | None  #: seconds since 1970; None: it has none
    lapsed: bool
    frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """An engine: who it is and what it serves."""

    url: str
    engine_id: str
    ready: bool
    machine: str  #: class of its machine
    model: str
    model_sha256: str
    engine_version: str
    commit: str
    config_sha256: str
    generation: int
    flags: Mapping[str, FlagView]
    lease: Lease
    streams_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeAnswer:
    """What an engine says after it was told to brake."""

    brakes: Mapping[str, str]  #: flag to brake id
    generation: int
    flags: Mapping[str, FlagView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What an engine says after a delivery: whether it took it, and why not."""

    taken: bool
    generation: int
    reason: str
    flags: Mapping[str, FlagView]


def view(url: str, document: Any) -> EngineView:
    """The answer of `/v1/status`.

    Raises:
        KeyError, TypeError: a key is missing or of another type.
    """
    model, lease = document["model"], document["lease"]
    return EngineView(
        url=url,
        engine_id=_of(str, document, "engine_id"),
        ready=_of(bool, document, "ready"),
        machine=_of(str, document, "machine"),
        model=_of(str, model, "name"),
        model_sha256=_of(str, model, "sha256"),
        engine_version=_of(str, document, "engine_version"),
        commit=_of(str, document, "commit"),
        config_sha256=_of(str, document, "config_sha256"),
        generation=_of(int, document, "generation"),
        flags=_flags(document),
        lease=Lease(
            expires_at=expiry(lease),
            lapsed=_of(bool, lease, "lapsed"),
            frozen=_of(bool, lease, "frozen"),
        ),
        streams_in_flight=_of(int, document, "streams_in_flight"),
    )


def brake_answer(document: Any) -> BrakeAnswer:
    """The answer of `/admin/rollback`.

    Raises:
        KeyError, TypeError: as `view`.
    """
    brakes = _of(dict, document, "brakes")
    return BrakeAnswer(
        brakes={flag: _of(str, brakes, flag) for flag in brakes},
        generation=_of(int, document, "generation"),
        flags=_flags(document),
    )


def delivery(document: Any) -> Delivery:
    """The answer of `/admin/rollout`.

    Raises:
        KeyError, TypeError: as `view`.
    """
    return Delivery(
        taken=_of(bool, document, "taken"),
        generation=_of(int, document, "generation"),
        reason=_text(document, "reason"),
        flags=_flags(document),
    )


def expiry(document: Any) -> float | None:
    """The answer of `/admin/lease`: seconds since 1970; None while no flag needs a lease.

    Raises:
        KeyError, TypeError: as `view`.
    """
    return None if document["expires_at"] is None else _number(document, "expires_at")


def _flags(document: Any) -> dict[str, FlagView]:
    """All of them: one that is left out is not at 0 %."""
    flags = document["flags"]
    return {name: _flag(flags[name]) for name in FLAGS}


def _flag(flag: Any) -> FlagView:
    return FlagView(
        enabled=_of(bool, flag, "enabled"),
        percentage=_number(flag, "percentage"),
        effective=_number(flag, "effective"),
        stage=_of(str, flag, "stage"),
        epoch=_of(int, flag, "epoch"),
        braked=_of(bool, flag, "braked"),
        brake=_text(flag, "brake"),
        cause=_text(flag, "cause"),
        held=_text(flag, "held"),
        unmanaged=_of(bool, flag, "unmanaged"),
    )


def _of(kind: type[Value], section: Any, key: str) -> Value:
    value = section[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{key!r} is {value!r}, expected {kind.__name__}")
    return value


def _number(section: Any, key: str) -> float:
    """Strictly a finite number: NaN is not 0 %."""
    value = section[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{key!r} is {value!r}, expected a number")
    return float(value)


def _text(section: Any, key: str) -> str:
    return "" if section[key] is None else _of(str, section, key)
