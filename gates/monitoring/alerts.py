"""What somebody has to hear of. Pure.

The guard judges flags and rolls them back by itself, whether anybody hears an alert or not. Alerts
say what it cannot mend, what it did, and when it is not there.
"""

from collections.abc import Iterator

from gates.monitoring.machinery import machinery
from gates.monitoring.rollout import rollout
from gates.monitoring.rules import Alert, Clock, Group, Limits
from gates.monitoring.service import service
from gates.monitoring.telemetry import telemetry


def alert_groups(limits: Limits, clock: Clock) -> Iterator[Group]:
    """All groups of alerts.

    Raises:
        ValueError: `gates.yaml` has no limit that an alert takes over.
    """
    yield Group("phase5-service", tuple(service(limits, clock)))
    yield Group("phase5-telemetry", tuple(telemetry(clock)))
    yield Group("phase5-rollout", tuple(rollout(limits, clock)))
    yield Group("phase5-machinery", tuple(machinery(limits, clock)))


def every_alert(limits: Limits, clock: Clock | None = None) -> Iterator[Alert]:
    """All alerts, in the order of their file."""
    for group in alert_groups(limits, clock or Clock()):
        yield from (rule for rule in group.rules if isinstance(rule, Alert))
