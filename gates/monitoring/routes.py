"""Whom Alertmanager tells, and what it keeps to itself. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gates.monitoring.recordings import ALL
from gates.monitoring.rules import Severity

#: Files with the secrets of the receivers: an address with a key in it, and a key.
SLACK_FILE: Final = "/etc/phase5/slack_url"
PAGERDUTY_FILE: Final = "/etc/phase5/pagerduty_key"

SLACK: Final = "slack"
PAGERDUTY: Final = "pagerduty"

_TITLE: Final = "{{ .Status | toUpper }} {{ .CommonLabels.alertname }} {{ .CommonLabels.flag }}"
_EACH: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n"
    "next: {{ .Annotations.command }} ({{ .Annotations.runbook_url }})\n{{ end }}"
)


@dataclass(frozen=True, slots=True)
class Inhibition:
    """What need not be told while its cause is.

    Attributes:
        cause: an alert.
        symptoms: alerts that follow from it.
        equal: labels that both have alike; none: whatever they have.
        source: further matchers of the cause.
        target: further matchers of the symptoms.
    """

    cause: str
    symptoms: Sequence[str]
    equal: Sequence[str] = ()
    source: Sequence[str] = ()
    target: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """As Alertmanager has it."""
        rule: dict[str, Any] = {
            "source_matchers": [f'alertname="{self.cause}"', *self.source],
            "target_matchers": [f'alertname=~"{"|".join(self.symptoms)}"', *self.target],
        }
        return {**rule, "equal": list(self.equal)} if self.equal else rule


_FAST: Final = "Phase5ErrorBudgetBurnsFast"
_SLOW: Final = "Phase5ErrorBudgetBurnsSlowly"

INHIBITIONS: Final = (
    Inhibition("Phase5TelemetryAbsent", ("Phase5EngineDown", "Phase5EvidenceUnsound")),
    Inhibition("Phase5EngineDown", ("Phase5EvidenceUnsound",)),
    Inhibition("Phase5GuardAbsent", ("Phase5LeaseEnding",)),
    Inhibition("Phase5GuardSilent", ("Phase5LeaseEnding",)),
    Inhibition("Phase5LeaseLapsed", ("Phase5FlagBraked",)),
    Inhibition(_FAST, (_SLOW,), equal=("flag",)),
    # A flag that spoils its own answers spoils the whole.
    Inhibition(_FAST, (_FAST, _SLOW), source=(f'flag!="{ALL}"',), target=(f'flag="{ALL}"',)),
    Inhibition("Phase5CrashLoop", (_FAST, _SLOW), target=(f'flag="{ALL}"',)),
)


def alertmanager() -> dict[str, Any]:
    """The configuration of Alertmanager."""
    pages = f'severity="{Severity.PAGE.value}"'
    return {
        "route": {
            "receiver": SLACK,
            # One message for all that has the same cause, however many engines see it.
            "group_by": ["alertname", "flag"],
            "group_wait": "10s",  # a page waits no longer for others of its group
            "group_interval": "1m",
            "repeat_interval": "4h",
            "routes": [
                {"receiver": PAGERDUTY, "matchers": [pages], "continue": True},
                {"receiver": SLACK},
            ],
        },
        "inhibit_rules": [each.document() for each in INHIBITIONS],
        "receivers": [_pagerduty(), _slack()],
    }


def _pagerduty() -> dict[str, Any]:
    told = {
        "routing_key_file": PAGERDUTY_FILE,
        "description": _TITLE,
        "details": {
            "command": "{{ .CommonAnnotations.command }}",
            "runbook": "{{ .CommonAnnotations.runbook_url }}",
            "summary": "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ end }}",
        },
        "send_resolved": True,
    }
    return {"name": PAGERDUTY, "pagerduty_configs": [told]}


def _slack() -> dict[str, Any]:
    told = {
        "api_url_file": SLACK_FILE,
        "channel": "#phase5",
        "title": _TITLE,
        "text": _EACH,
        "send_resolved": True,
    }
    return {"name": SLACK, "slack_configs": [told]}
