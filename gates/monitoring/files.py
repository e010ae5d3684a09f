"""The files of `config/prometheus/`, as documents and as text. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from engine.rollout_config import LeaseSeconds
from gates.monitoring.alerts import alerts
from gates.monitoring.recordings import INTERVAL, REQUIRED, recordings
from gates.monitoring.rules import ENGINES, GUARD, Alert, Clock, Group
from gates.stages import Policy

PROMETHEUS: Final = "prometheus.yml"
RECORDING: Final = "recording.rules.yml"
ALERTS: Final = "alerts.rules.yml"
ALERTMANAGER: Final = "alertmanager.yml"

#: Where the guard serves its metrics when nothing else is said.
GUARD_TARGET: Final = "127.0.0.1:9105"
ENGINE_TARGET: Final = "127.0.0.1:8080"
ALERTMANAGER_TARGET: Final = "127.0.0.1:9093"

#: Files with the secrets of the receivers: an address with a key in it, and a key.
SLACK_FILE: Final = "/etc/phase5/slack_url"
PAGERDUTY_FILE: Final = "/etc/phase5/pagerduty_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the files are made from.

    Attributes:
        policy: the thresholds.
        leases: how long engines serve without a guard.
        engines: HOST:PORT of each.
        scheme: how engines are asked, `http` or `https`.
        ca: PEM file of the engines' authority; None trusts the system's.
        guards: HOST:PORT of each.
        alertmanagers: HOST:PORT of each.
        clock: shortens every window alike.
        interval: seconds between scrapes and between evaluations.
        runbooks: what stands before a page's path, for links that one can click.
    """

    policy: Policy
    leases: LeaseSeconds = field(default_factory=LeaseSeconds)
    engines: Sequence[str] = (ENGINE_TARGET,)
    scheme: str = "http"
    ca: str | None = None
    guards: Sequence[str] = (GUARD_TARGET,)
    alertmanagers: Sequence[str] = (ALERTMANAGER_TARGET,)
    clock: Clock = field(default_factory=Clock)
    interval: float = INTERVAL
    runbooks: str = ""


def files(setting: Setting) -> dict[str, str]:
    """Every file by its name.

    Raises:
        KeyError: `gates.yaml` lacks a criterion whose limit an alert takes over.
    """
    return {
        PROMETHEUS: _text(_prometheus(setting), "What Prometheus scrapes and evaluates."),
        RECORDING: _text(
            _rules(setting, recordings(setting.clock)),
            "The names of the requirements, and what the alerts look at.",
        ),
        ALERTS: _text(
            _rules(setting, alerts(setting.policy, setting.leases, setting.clock)),
            "What somebody has to hear of.",
        ),
        ALERTMANAGER: _text(_alertmanager(), "Who hears of it. Secrets stay in their files."),
    }


def every_alert(setting: Setting) -> Iterator[Alert]:
    """All alerts, in the order of their file."""
    for group in alerts(setting.policy, setting.leases, setting.clock):
        yield from (rule for rule in group.rules if isinstance(rule, Alert))


def _prometheus(setting: Setting) -> dict[str, Any]:
    every = setting.clock(setting.interval / setting.clock.scale)
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
        },
        "rule_files": [RECORDING, ALERTS],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": list(setting.alertmanagers)}]}]
        },
        "scrape_configs": [
            {
                "job_name": ENGINES,
                **_way(setting),
                "static_configs": [{"targets": list(setting.engines)}],
                # Each engine serves the names of the requirements for itself; recorded, they
                # mean the fleet.
                "metric_relabel_configs": [
                    {
                        "source_labels": ["__name__"],
                        "regex": "|".join(REQUIRED),
                        "action": "drop",
                    }
                ],
            },
            {"job_name": GUARD, "static_configs": [{"targets": list(setting.guards)}]},
        ],
    }


def _way(setting: Setting) -> dict[str, Any]:
    if setting.scheme == "http":
        return {}
    trusted = {"tls_config": {"ca_file": setting.ca}} if setting.ca else {}
    return {"scheme": setting.scheme, **trusted}


def _rules(setting: Setting, groups: Iterator[Group]) -> dict[str, Any]:
    return {"groups": [_group(setting, group) for group in groups]}


def _group(setting: Setting, group: Group) -> dict[str, Any]:
    rules = [
        rule.document(setting.clock, setting.runbooks)
        if isinstance(rule, Alert)
        else rule.document(setting.clock)
        for rule in group.rules
    ]
    every = setting.clock(setting.interval / setting.clock.scale)
    return {"name": group.name, "interval": every, "rules": rules}


def _alertmanager() -> dict[str, Any]:
    return {
        "route": {
            # One message for all that has the same cause, however many engines see it.
            "group_by": ["alertname", "flag"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "4h",
            "receiver": "slack",
            "routes": [
                {"matchers": ['severity="page"'], "receiver": "pagerduty", "continue": True},
                {"matchers": ['severity=~"page|ticket"'], "receiver": "slack"},
            ],
        },
        "inhibit_rules": [_inhibited(cause, by) for cause, by in _CAUSES.items()],
        "receivers": [
            {
                "name": "pagerduty",
                "pagerduty_configs": [
                    {
                        "routing_key_file": PAGERDUTY_FILE,
                        "description": _TITLE,
                        "details": {
                            "command": "{{ .CommonAnnotations.command }}",
                            "runbook": "{{ .CommonAnnotations.runbook_url }}",
                        },
                        "send_resolved": True,
                    }
                ],
            },
            {
                "name": "slack",
                "slack_configs": [
                    {
                        "api_url_file": SLACK_FILE,
                        "channel": "#phase5",
                        "title": _TITLE,
                        "text": _EACH,
                        "send_resolved": True,
                    }
                ],
            },
        ],
    }


_TITLE: Final = "{{ .Status | toUpper }} {{ .CommonLabels.alertname }}"
_EACH: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n"
    "next: {{ .Annotations.command }} ({{ .Annotations.runbook_url }})\n{{ end }}"
)

#: What need not be told while its cause is: the cause, and the alerts that follow from it.
_CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "Phase5TelemetryAbsent": ("Phase5EngineDown", "Phase5EvidenceUnsound"),
    "Phase5GuardAbsent": ("Phase5GuardSilent", "Phase5LeaseEnding"),
    "Phase5GuardSilent": ("Phase5LeaseEnding",),
    "Phase5ErrorBudgetBurnsFast": ("Phase5ErrorBudgetBurnsSlowly",),
}


def _inhibited(cause: str, followed_by: Sequence[str]) -> dict[str, Any]:
    return {
        "source_matchers": [f'alertname="{cause}"'],
        "target_matchers": [f'alertname=~"{"|".join(followed_by)}"'],
    }


class _Dumper(yaml.SafeDumper):
    """Expressions over several lines stand as such, lists are indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        del indentless
        return super().increase_indent(flow, indentless=False)


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def _text(document: Mapping[str, Any], purpose: str) -> str:
    head = (
        f"# {purpose}\n"
        "# Written by `phase5 monitoring` from gates.yaml and runtime.yaml; do not edit.\n"
    )
    return head + yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=100)
