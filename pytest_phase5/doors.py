"""Which policy and configuration are in use, and which flags a gate judges."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from gates.stages import OFF, STAGES, Transition, door
from pytest_phase5.options import Settings

if TYPE_CHECKING:
    from engine.config import Config
    from gates.stages import Policy

POLICY_NAME: Final = "gates.yaml"


def config_path(settings: Settings) -> Path:
    """The configuration in use."""
    from engine.config import packaged

    return settings.config or packaged("runtime.yaml")


def policy_path(settings: Settings) -> Path:
    """`gates.yaml` beside the configuration in use, else the packaged one."""
    from engine.config import packaged

    beside = config_path(settings).with_name(POLICY_NAME)
    return beside if beside.exists() else packaged(POLICY_NAME)


def config_of(settings: Settings) -> "Config":
    """The configuration in use.

    Raises:
        pytest.UsageError: unreadable, empty or not valid.
    """
    from engine.config import ConfigError, load_config

    try:
        return load_config(config_path(settings))
    except ConfigError as error:
        raise pytest.UsageError(*str(error).splitlines()) from None


def policy_of(settings: Settings) -> "Policy":
    """The policy in use.

    Raises:
        pytest.UsageError: unreadable, empty or not valid.
    """
    return _read_policy(policy_path(settings))


@lru_cache(maxsize=1)
def _read_policy(path: Path) -> "Policy":
    from engine.config import ConfigError
    from gates.policy import load_policy

    try:
        return load_policy(path)
    except ConfigError as error:
        raise pytest.UsageError(*str(error).splitlines()) from None


@dataclass(frozen=True, slots=True)
class Judged:
    """The flags of a gate with the step of each, and those left out, with where they stand."""

    steps: Mapping[str, Transition]
    left_out: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that are judged."""
        return tuple(self.steps)


def judged_flags(settings: Settings) -> Judged:
    """The flags of the flag sets that stand at the door of the gate's stage.

    Raises:
        pytest.UsageError: a flag that was named stands elsewhere, or none is left.
    """
    from engine.core.flags import FLAGS, parse_flag_set

    stage = str(settings.gate)
    config = config_of(settings)
    policy = policy_of(settings)
    named = frozenset[str]().union(*(parse_flag_set(name) for name in settings.flag_sets))
    standing = {
        flag: OFF if settings.from_off else _standing(config, policy, flag)
        for flag in FLAGS
        if flag in named
    }
    doors = {flag: door(stage, at) for flag, at in standing.items() if at in STAGES}
    steps: dict[str, Transition] = {flag: step for flag, step in doors.items() if step is not None}
    elsewhere = [f"{flag} stands at {at}" for flag, at in standing.items() if flag not in steps]
    if elsewhere and not settings.every:
        raise pytest.UsageError(
            f"--phase5-gate={stage}: {'; '.join(elsewhere)}; allowed: {_door_names(stage)}"
        )
    if not steps:
        found = "; ".join(elsewhere) or f"--phase5-flags names {', '.join(settings.flag_sets)}"
        raise pytest.UsageError(
            f"--phase5-gate={stage}: no flag to judge: {found}; allowed: {_door_names(stage)}"
        )
    return Judged(steps, tuple(elsewhere))


def _door_names(stage: str) -> str:
    before = STAGES[STAGES.index(stage) - 1]
    return f"flags that stand at {before} or {stage}"


def _standing(config: "Config", policy: "Policy", flag: str) -> str:
    """The stage of a flag: as recorded, else the one whose percentage it serves."""
    state = config.phase4_rollout.flag(flag)
    if state.stage is not None:
        return state.stage
    if not state.enabled or state.rollout_percentage == 0:
        return STAGES[0]
    shares = {stage.percentage: name for name, stage in policy.stages.items()}
    return shares.get(state.rollout_percentage, f"{state.rollout_percentage:g} %, unmanaged")


def required_by_add_ons(config: pytest.Config) -> tuple[str, ...]:
    """Criteria that implementations of `pytest_phase5_criteria` require."""
    answers = config.hook.pytest_phase5_criteria(config=config)
    return tuple(sorted({str(name) for names in answers for name in names or ()}))


def demanded(config: pytest.Config, settings: Settings) -> frozenset[str]:
    """The criteria that the doors of the judged flags demand, and those of add-ons.

    Raises:
        pytest.UsageError: as `judged_flags`.
    """
    policy = policy_of(settings)
    steps = judged_flags(settings).steps.values()
    listed = {criterion.id for step in steps for criterion in policy.required(step)}
    return frozenset(listed.union(required_by_add_ons(config)))
