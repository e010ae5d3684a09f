"""Every metric of the engine and of the guard, from the registries that serve them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from reference_tables import code, table

from engine.config import packaged
from engine.runtime.interface import Replica
from engine.runtime.models import ModelFiles
from engine.server.engine import Engine
from engine.server.settings import Settings
from engine.server.state import NoState
from gates.guarding.metrics import GuardMetrics


class NoRuntime:
    """A runtime that never starts: the metrics are there before it does."""

    ready = False

    def replicas(self) -> list[Replica]:
        """None."""
        return []


class NoCodec:
    """A model of which only the length of its context is known."""

    context_length = 1
    vocab_size = 1


def engine_metrics() -> str:
    """What `/metrics` of an engine shows."""
    settings = Settings.read(packaged("runtime.yaml"), None)
    engine = Engine(
        settings=settings,
        model=ModelFiles("none", Path(), "", builtin=True),
        runtime=cast("Any", NoRuntime()),
        codec=cast("Any", NoCodec()),
        commit="none",
        state=NoState("none"),
    )
    return families(engine.metrics.registry)


def guard_metrics() -> str:
    """What `/metrics` of the guard shows."""
    return families(GuardMetrics().registry)


def families(registry: CollectorRegistry) -> str:
    """The families of a registry, by name."""
    rows = [
        (code(name(family)), family.type, ", ".join(map(code, labels)), family.documentation)
        for family, labels in sorted(collected(registry), key=lambda each: each[0].name)
    ]
    return table(("metric", "type", "labels", "meaning"), rows)


def collected(registry: CollectorRegistry) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each family with its labels: a collector's own, or those of the family that it makes.

    A family without children yet shows no labels in public, so the names are read where the
    library keeps them; a version that keeps them elsewhere fails the build.
    """
    for collector in registry._collector_to_names:  # noqa: SLF001 - as said above
        for family in collector.collect():
            owner: Any = collector if hasattr(collector, "_labelnames") else family
            yield family, tuple(owner._labelnames)  # noqa: SLF001 - as said above


def name(family: Metric) -> str:
    """As Prometheus shows it."""
    return f"{family.name}_total" if family.type == "counter" else family.name
