"""The sections `phase4_rollout` and `rollout`: what serves, and who moves it."""

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from engine.sections import Count, Percentage, Positive, Section

Stage = Literal["off", "canary", "early", "mid", "full"]

#: What a stage serves, in per cent.
STAGE_PERCENTAGES: Final = dict(zip(get_args(Stage), (0.0, 1.0, 10.0, 50.0, 100.0), strict=True))

_STORE: Final = re.compile(r"file:.+|git:[^#]+#[^#]+", re.DOTALL)
_URL: Final = re.compile(r"https?://[^\s/]+(/\S*)?")


def _store(text: str) -> str:
    if not _STORE.fullmatch(text):
        raise ValueError("allowed: file:PATH or git:REMOTE#BRANCH")
    return text


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError("allowed: http://HOST:PORT or https://HOST:PORT")
    return text.rstrip("/")


#: Lists, also where a validator has made Python's objects of the JSON before.
Texts = Annotated[tuple[str, ...], Field(strict=False)]
StoreName = Annotated[str, AfterValidator(_store)]
Url = Annotated[str, AfterValidator(_url)]


class FlagConfig(Section):
    """One flag of `phase4_rollout`: what is configured, and where its rollout stands.

    `stage` and what follows it are rollout state, written by the rollout commands and not part
    of the configuration's digest.

    Attributes:
        held: why the rollout of this flag is held; None while it is not.
        approved: the stage that somebody approved to be entered next.
        suspect: the candidate that was rolled back with others, its guilt not shown.
        lifted: brakes of engines that end with this state; see `engine.core.brakes`.
    """

    enabled: bool = False
    rollout_percentage: Percentage = 0
    holdback_percentage: Percentage = 1
    salt: str | None = None
    stage: Stage | None = None
    entered_at: str | None = None
    epoch: Annotated[int, Field(ge=0)] = 0
    tombstones: Texts = ()
    held: str | None = None
    approved: Stage | None = None
    suspect: str | None = None
    lifted: Texts = ()

    @property
    def percentage(self) -> float:
        """The share that serves: 0 when disabled, else the share less the hold-back at full."""
        if not self.enabled:
            return 0.0
        return min(self.rollout_percentage, 100 - self.holdback_percentage)


class GovernorFlag(FlagConfig):
    """The governor acts on whole blocks of time, so no stream is held back by default."""

    holdback_percentage: Percentage = 0


class QosFlag(FlagConfig):
    """`sample_rate` N takes every Nth stream. Enabled without a percentage means all streams."""

    sample_rate: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _all_streams_by_default(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("enabled") is True:
            return {"rollout_percentage": 100, **given}
        return given


class Rollout(Section):
    """`phase4_rollout`: the four flags."""

    adaptive_governor: GovernorFlag = GovernorFlag()
    http2_transport: FlagConfig = FlagConfig()
    ttft_pipeline: FlagConfig = FlagConfig()
    qos_monitoring: QosFlag = QosFlag()

    def flag(self, name: str) -> FlagConfig:
        """The configuration of one flag by its name."""
        flag: FlagConfig = getattr(self, name)
        return flag


class LeaseSeconds(Section):
    """For how long an engine serves a stage without hearing of its guard."""

    # The design's: a quarter of an hour bounds what a fault can do that nobody watches. At mid
    # a needless rollback costs half of the traffic its feature, so it waits twice as long.
    canary: Positive = 900
    early: Positive = 900
    mid: Positive = 1800


class RolloutConfig(Section):
    """`rollout`: who moves the flags, and with whose consent.

    Secrets are not here: commands and guard read `PHASE5_ADMIN_TOKEN` and
    `PHASE5_PROMETHEUS_TOKEN` from the environment.

    Attributes:
        store: where the rollout's state is; None is the configuration file itself.
        engines: base URLs of the engines that are acted on.
        prometheus: its base URL; None reads the engines' own `/metrics`.
        ca: PEM file of the authorities of engines and Prometheus; None trusts the system's.
        webhook: told of what the guard does; a secret address goes into `PHASE5_WEBHOOK_URL`.
        approval: stages that are entered only with `phase5 approve`.
    """

    store: StoreName | None = None
    engines: tuple[Url, ...] = ()
    prometheus: Url | None = None
    ca: str | None = None
    webhook: Url | None = None
    approval: tuple[Stage, ...] = ()
    lease_seconds: LeaseSeconds = LeaseSeconds()
