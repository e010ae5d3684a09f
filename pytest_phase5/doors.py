"""Which policy and configuration are in use, and which flags a gate judges."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

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
