"""Every metric and label that a rule asks for is one that an engine or a guard serves."""

from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser
import pytest
import yaml

from engine.config import load_config, packaged
from gates.guarding.metrics import GuardMetrics
from gates.monitoring.files import ALERTS, RECORDING, Setting, files
from gates.monitoring.rules import ENGINES, GUARD, Limits
from gates.policy import load_policy

#: Made by Prometheus itself.
ITS_OWN = {"up"}

Found = dict[str, list[Mapping[str, str]]]


def rules() -> Iterator[dict[str, Any]]:
    config = load_config(packaged("runtime.yaml"))
    limits = Limits(policy=load_policy(packaged("gates.yaml")), slos=config.qos.policies)
    made = files(Setting(limits=limits))
    for name in (RECORDING, ALERTS):
        for group in yaml.safe_load(made[name])["groups"]:
            yield from group["rules"]


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of an expression, wherever it stands."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if (below := getattr(node, name, None)) is not None:
            yield from selectors(below)
    args = getattr(node, "args", None)
    for below in getattr(args, "args", args) or ():
        yield from selectors(below)


def served(registry: Any, job: str, found: Found) -> None:
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append({**sample.labels, "job": job})


@pytest.fixture
def found(make_bench: Any) -> Found:
    """Samples of an engine and of a guard by name, before either did anything."""
    found: Found = {}
    served(make_bench().engine.metrics.registry, ENGINES, found)
    metrics = GuardMetrics()
    metrics.sound.labels("ttft_pipeline").set(1)  # once a flag is at a live stage
    served(metrics.registry, GUARD, found)
    return found


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def missed(found: Found) -> list[str]:
    """What rules ask for and nobody serves."""
    every = [s for rule in rules() for s in selectors(promql_parser.parse(rule["expr"]))]
    assert len(every) > 100
    known = recorded() | ITS_OWN
    return [str(s) for s in every if s.name not in known and not _there(s, found)]


def _there(selector: Any, found: Found) -> bool:
    return any(
        all(_fits(matcher, labels) for matcher in selector.matchers.matchers)
        for labels in found.get(selector.name, [])
    )


def _fits(matcher: Any, labels: Mapping[str, str]) -> bool:
    return labels.get(matcher.name, "") in matcher.value.split("|")


def test_what_rules_ask_for_is_served_with_its_labels(found: Found) -> None:
    assert missed(found) == []


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("phase5_requests_total", "outcome"),
        ("phase5_guard_rollbacks_total", None),
        ("phase5_remediation_breaker", "state"),
        ("process_resident_memory_bytes", None),
    ],
)
def test_a_renamed_metric_or_label_is_noticed(found: Found, name: str, label: str | None) -> None:
    series = found.pop(name)
    if label is not None:
        found[name] = [{f"{k}_" if k == label else k: v for k, v in s.items()} for s in series]
    assert any(name in text for text in missed(found))


def test_a_rule_uses_only_series_that_are_recorded() -> None:
    named = {s.name for rule in rules() for s in selectors(promql_parser.parse(rule["expr"]))}
    assert {name for name in named if ":" in name} <= recorded()
