"""The files of `config/prometheus/`, as documents and as text. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from gates.monitoring.alerts import alert_groups
from gates.monitoring.recordings import REQUIRED, recordings
from gates.monitoring.routes import alertmanager
from gates.monitoring.rules import ENGINES, GUARD, Alert, Clock, Group, Limits, Recording

PROMETHEUS: Final = "prometheus.yml"
RECORDING: Final = "recording.rules.yml"
ALERTS: Final = "alerts.rules.yml"
ALERTMANAGER: Final = "alertmanager.yml"

#: Where each serves when nothing else is said.
ENGINE_TARGET: Final = "127.0.0.1:8080"
GUARD_TARGET: Final = "127.0.0.1:9105"
ALERTMANAGER_TARGET: Final = "127.0.0.1:9093"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the files are made from.

    Attributes:
        limits: the thresholds.
        engines: HOST:PORT of each.
        scheme: by which all of them speak.
        ca: PEM file of the authorities of an `https` one; None trusts the system's.
        guards: HOST:PORT of each.
        alertmanagers: HOST:PORT of each.
        clock: shortens every window alike.
        runbooks: what stands before a page's path, for links that one can click.
    """

    limits: Limits
    engines: Sequence[str] = (ENGINE_TARGET,)
    scheme: str = "http"
    ca: str | None = None
    guards: Sequence[str] = (GUARD_TARGET,)
    alertmanagers: Sequence[str] = (ALERTMANAGER_TARGET,)
    clock: Clock = field(default_factory=Clock)
    runbooks: str = ""


def files(setting: Setting) -> dict[str, str]:
    """Every file by its name.

    Raises:
        ValueError: `gates.yaml` has no limit that an alert takes over, or a window is too short.
    """
    alerts = alert_groups(setting.limits, setting.clock)
    return {
        PROMETHEUS: _text(_prometheus(setting), "What Prometheus scrapes and evaluates."),
        RECORDING: _text(
            _rules(setting, recordings(setting.clock)),
            "The names of the requirements, and what the alerts look at.",
        ),
        ALERTS: _text(_rules(setting, alerts), "What somebody has to hear of."),
        ALERTMANAGER: _text(alertmanager(), "Who hears of it. Secrets stay in their files."),
    }


def _prometheus(setting: Setting) -> dict[str, Any]:
    every = setting.clock.every
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


def _rules(setting: Setting, groups: Iterable[Group]) -> dict[str, Any]:
    return {"groups": [_group(setting, group) for group in groups]}


def _group(setting: Setting, group: Group) -> dict[str, Any]:
    rules = [_rule(setting, rule) for rule in group.rules]
    return {"name": group.name, "interval": setting.clock.every, "rules": rules}


def _rule(setting: Setting, rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Alert):
        return rule.document(setting.clock, setting.runbooks)
    return rule.document()


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
