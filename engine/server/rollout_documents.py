"""What administration asks and is told about the rollout. The OpenAPI document has these."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from engine.core.brakes import Cause
from engine.rollout_config import Stage

FlagName = Literal["adaptive_governor", "http2_transport", "ttft_pipeline", "qos_monitoring"]

#: Numbers are exact in every JSON reader up to here.
_LARGEST = 2**53 - 1
#: Longest reason, in characters: it stands in one line of a log.
_LONGEST = 500

_Number = Annotated[int, Meta(ge=0, le=_LARGEST)]
_Percentage = Annotated[float, Meta(ge=0, le=100)]
_Reason = Annotated[str, Meta(max_length=_LONGEST)]


class FlagStatus(Struct, frozen=True, kw_only=True):
    """One flag: what is configured, and what serves.

    A braked flag has `percentage` and `effective` 0, whatever is configured; `brake` is the id
    that a state of the store must cite to lift it, `cause` why it was braked. `held` is the
    reason of a hold. `unmanaged`: more serves than the rollout has brought.
    """

    enabled: bool
    percentage: float
    effective: float
    stage: str
    epoch: int
    braked: bool
    brake: str | None
    cause: str | None
    held: str | None
    unmanaged: bool


class LeaseStatus(Struct, frozen=True, kw_only=True):
    """Until when the engine serves canary, early or mid unwatched, in seconds since 1970.

    `expires_at` is null where none is needed. `frozen`: it lapsed while a flag was at full, so
    that flag serves on and no raise is taken.
    """

    expires_at: float | None
    lapsed: bool
    frozen: bool


class StateStatus(Struct, frozen=True, kw_only=True):
    """Whether the engine can keep brakes and state, and what of them it could not read."""

    durable: bool
    troubles: list[str]


class RollbackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /admin/rollback`; without `flags` every flag is braked."""

    flags: list[FlagName] | None = None
    cause: Cause = Cause.MANUAL
    reason: _Reason = ""


class RolledBack(Struct, frozen=True, kw_only=True):
    """Its answer: each flag's brake, durable by now, and how all flags stand."""

    brakes: dict[str, str]
    generation: int
    flags: dict[str, FlagStatus]


class DeliveredFlag(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flag of the store's state, with the keys of `phase4_rollout`; what lacks, stays."""

    enabled: bool | UnsetType = UNSET
    rollout_percentage: _Percentage | UnsetType = UNSET
    holdback_percentage: _Percentage | UnsetType = UNSET
    salt: str | UnsetType | None = UNSET
    stage: Stage | UnsetType | None = UNSET
    entered_at: str | UnsetType | None = UNSET
    epoch: _Number | UnsetType = UNSET
    tombstones: list[str] | UnsetType = UNSET
    held: str | UnsetType | None = UNSET
    approved: Stage | UnsetType | None = UNSET
    suspect: str | UnsetType | None = UNSET
    lifted: list[str] | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """The keys that are there."""
        keys: dict[str, Any] = msgspec.to_builtins(self)
        return keys


class DeliveredQosFlag(DeliveredFlag, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same of `qos_monitoring`, which has one key more."""

    sample_rate: Annotated[int, Meta(ge=1, le=_LARGEST)] | UnsetType = UNSET


class DeliveredFlags(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The flags that are delivered; those that lack stay as they are."""

    adaptive_governor: DeliveredFlag | UnsetType = UNSET
    http2_transport: DeliveredFlag | UnsetType = UNSET
    ttft_pipeline: DeliveredFlag | UnsetType = UNSET
    qos_monitoring: DeliveredQosFlag | UnsetType = UNSET

    def given(self) -> dict[str, dict[str, Any]]:
        """The keys that are there, by flag."""
        flags: dict[str, dict[str, Any]] = msgspec.to_builtins(self)
        return flags


class DeliverRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /admin/rollout`: the store's state at a generation."""

    generation: _Number
    flags: DeliveredFlags


class Delivered(Struct, frozen=True, kw_only=True):
    """Its answer: whether the state serves now, else what of it was left out, and why."""

    taken: bool
    generation: int
    reason: str | None
    flags: dict[str, FlagStatus]


class LeaseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /admin/lease`."""

    seconds: Annotated[float, Meta(gt=0, le=_LARGEST)]


class Leased(Struct, frozen=True, kw_only=True):
    """Its answer: when the lease lapses, in seconds since 1970; null where none is needed.

    Never later than `rollout.lease_seconds` of the stages that serve allows.
    """

    expires_at: float | None
