"""How the rollout stands on this engine, for `/v1/status`, administration and Prometheus."""

from collections.abc import Iterator, Mapping
from math import nan
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.flags import FLAGS
from engine.server.rollout_documents import FlagStatus

if TYPE_CHECKING:
    from engine.server.engine import Engine


def flag_status(engine: "Engine", name: str) -> FlagStatus:
    """One flag. A braked one shows 0 at once, whatever is configured."""
    view, brake = engine.settings.flag_view(name), engine.rollout.brakes.get(name)
    stopped = {} if brake is None else {"percentage": 0.0, "effective": 0.0}
    return FlagStatus(
        **{**view, **stopped},
        braked=brake is not None,
        brake=None if brake is None else brake.id,
        cause=None if brake is None else brake.cause,
    )


def flag_statuses(engine: "Engine") -> dict[str, FlagStatus]:
    """All of them."""
    return {name: flag_status(engine, name) for name in FLAGS}


class RolloutMetrics(Collector):
    """Read at the scrape; every label is always there."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """What alerts go by."""
        engine, flags = self._engine, flag_statuses(self._engine)
        lease = engine.rollout.lease_view(engine.settings)
        expires = nan if lease.expires_at is None else lease.expires_at
        generation, durable = engine.settings.config.generation, engine.rollout.durable
        braked = {name: flag.braked for name, flag in flags.items()}
        unmanaged = {name: flag.unmanaged for name, flag in flags.items()}
        yield _by_flag("braked", "1 while this engine's brake is on", braked)
        yield _by_flag("unmanaged", "1 while more serves than the rollout brought", unmanaged)
        yield _gauge("generation", "Generation of the rollout that serves", generation)
        yield _gauge("lease_expires_seconds", "When it lapses, in seconds since 1970", expires)
        yield _gauge("lease_lapsed", "1 once the lease has lapsed", lease.lapsed)
        yield _gauge("rollout_state_durable", "0 while no brake can be kept", durable)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"phase5_{name}", text, value=value)


def _by_flag(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"phase5_flag_{name}", text, labels=("flag",))
    for flag, value in values.items():
        family.add_metric((flag,), value)
    return family
