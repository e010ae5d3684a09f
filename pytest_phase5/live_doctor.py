"""What `phase5 doctor` says of live evidence."""

from collections.abc import Iterator
from pathlib import Path

from engine.config import Config, ConfigError
from gates.policy import policy_beside
from pytest_phase5.doctor import Finding, State
from pytest_phase5.live import faults_of


def live_evidence(config: Config | None, path: Path | None) -> Iterator[Finding]:
    """Whether what the configured Prometheus tells of the engines could be judged.

    Args:
        config: in use, if it is valid.
        path: what `--config` names.
    """
    if config is None or not config.rollout.prometheus:
        return
    url = config.rollout.prometheus
    try:
        faults = list(dict.fromkeys(faults_of(url, config, policy_beside(path))))
    except ConfigError as error:
        faults = [str(error)]
    yield Finding(
        name="live evidence",
        state=State.WARNING if faults else State.OK,
        found="; ".join([url, *faults]),
        lost="live criteria hold" if faults else "",
    )
