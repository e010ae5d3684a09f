"""The `qos` section of `runtime.yaml`: service levels, and what is done when one is violated."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engine.core.qos import Slo
from engine.core.remedies import Policy, PolicyStore, Remedy, misfit, suitable
from engine.core.safeguards import Limits
from engine.sections import Count, NotNegative, Positive, Section


class RemedyConfig(Section):
    """What is done about a violation; `factor` is of a throttle, `step` of a scaling."""

    action: Literal["none", "throttle", "scale_up", "scale_down", "restart", "alert"] = "none"
    factor: Annotated[float, Field(ge=0.1, le=0.9)] = 0.7
    step: Count = 1


class SloPolicy(Section):
    """One service level: a ceiling (`max`) or a floor (`min`) on a metric, and its remedy."""

    name: str
    metric: Literal["ttft_p95_ms", "latency_p99_ms", "error_rate", "throughput_tps"]
    max: float | None = None
    min: float | None = None
    severity: Literal["warning", "critical"] = "warning"
    recovery: float | None = None
    violation_seconds: NotNegative = 0
    recovery_seconds: NotNegative = 0
    window_seconds: Positive | None = None
    min_samples: Count | None = None
    remediation: RemedyConfig = RemedyConfig()

    @field_validator("remediation")
    @classmethod
    def _acts_against_the_violation(cls, given: RemedyConfig, info: ValidationInfo) -> RemedyConfig:
        # Fields that are wrong themselves are missing here, and have their own error.
        if {"name", "metric", "max", "min"} <= info.data.keys():
            name, metric = info.data["name"], info.data["metric"]
            allowed = suitable(metric, ceiling=info.data["max"] is not None)
            if given.action not in allowed:
                raise ValueError(misfit(name, metric, given.action, allowed))
        return given

    @model_validator(mode="after")
    def _exactly_one_bound(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise ValueError(f"policy {self.name!r} needs exactly one of max and min")
        self.slo()  # refuses a recovery on the bad side
        return self

    def slo(self) -> Slo:
        """What is measured."""
        return Slo(**self.model_dump(exclude={"remediation"}))

    def policy(self) -> Policy:
        """That, and what is done about it."""
        return Policy(self.slo(), Remedy(**self.remediation.model_dump()))


class RemediationConfig(Section):
    """What holds remedies back. Seconds unless named otherwise."""

    dry_run: bool = False
    min_replicas: Count = 1
    max_replicas: Count = 2
    cooldown_seconds: Positive = 60
    settle_seconds: Positive = 30
    max_per_window: Count = 5
    window_seconds: Positive = 300
    loop_moves: Annotated[int, Field(ge=3)] = 4
    loop_seconds: Positive = 900
    breaker_failures: Count = 3
    breaker_seconds: Positive = 300

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}"
            )
        return self

    def limits(self) -> Limits:
        """Those of the safeguards."""
        return Limits(**self.model_dump(exclude={"dry_run", "min_replicas", "max_replicas"}))


class QosConfig(Section):
    """QoS monitoring: window, pace, policies and safeguards."""

    evaluation_seconds: Positive = 5
    window_seconds: Positive = 60
    min_samples: Count = 20
    policies: tuple[SloPolicy, ...] = (
        SloPolicy(
            name="default_ttft_policy",
            metric="ttft_p95_ms",
            max=550,
            severity="critical",
            remediation=RemedyConfig(action="throttle"),
        ),
        SloPolicy(
            name="error_rate_policy",
            metric="error_rate",
            max=0.001,
            remediation=RemedyConfig(action="alert"),
        ),
    )
    remediation: RemediationConfig = RemediationConfig()

    @field_validator("policies")
    @classmethod
    def _names_differ(cls, given: Sequence[SloPolicy]) -> Sequence[SloPolicy]:
        first: dict[str, int] = {}
        for index, policy in enumerate(given):
            before = first.setdefault(policy.name, index)
            if before != index:
                raise ValueError(
                    f"policies {before} and {index} are both named {policy.name!r}; "
                    "every name must be its own"
                )
        return given

    def store(self) -> PolicyStore:
        """The policies as the engine takes them."""
        return PolicyStore(policy.policy() for policy in self.policies)
