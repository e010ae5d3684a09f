"""The guard's own metrics, and the heartbeat by which others see that it lives.

Every child of every counter is there from the start: of one that begins at 1 Prometheus sees no
increase, so the first rollback would go unnoticed.
"""

from collections.abc import Mapping
from datetime import datetime
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from engine.core.flags import FLAGS
from gates.guarding.situation import Action, Renew, Situation, Tell
from gates.guarding.standings import StandingMetrics
from gates.ledger import Row
from gates.standing import Cause

#: Edges in seconds: the aim, what a poll adds, the minute that must close first, the demand.
_ROLLBACK_EDGES = (0.5, 1, 2, 5, 10, 30, 60, 120, 180, 300)


class GuardMetrics:
    """Owns the registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.polls = self._counter("phase5_guard_polls", "Polls, by how they ended", "outcome")
        self.last = self._gauge("phase5_guard_last_poll_timestamp_seconds", "When a poll ended")
        self.generation = self._gauge("phase5_guard_generation", "Of the store, as last read")
        self.concerns = self._gauge("phase5_guard_concerns", "What somebody must look at")
        self.open = self._gauge("phase5_guard_open_rollbacks", "Rollbacks that are not everywhere")
        self.sound = self._gauge(
            "phase5_guard_evidence_sound", "1 while a lease may be renewed for it", "flag"
        )
        self.minutes = self._counter(
            "phase5_guard_ledger_minutes", "Minutes written, by whether they count", "flag", "valid"
        )
        self.rollbacks = self._counter(
            "phase5_guard_rollbacks", "Rollbacks that it began or took over", "flag", "cause"
        )
        self.renewals = self._counter("phase5_guard_lease_renewals", "Leases extended")
        self.untold = self._counter("phase5_guard_notifications_failed", "Not taken by a receiver")
        self.seconds = Histogram(
            "phase5_guard_rollback_seconds",
            "From the decision until every engine served 0 % and the store knew",
            buckets=_ROLLBACK_EDGES,
            registry=self.registry,
        )
        for flag in FLAGS:
            for cause in Cause:
                self.rollbacks.labels(flag, cause.value)
            for valid in ("yes", "no"):
                self.minutes.labels(flag, valid)
        for outcome in ("clean", "concern"):
            self.polls.labels(outcome)
        self.standings = StandingMetrics()
        self.registry.register(self.standings)

    def polled(self, situation: Situation, actions: tuple[Action, ...], now: datetime) -> None:
        """A poll ended."""
        concerns = sum(isinstance(action, Tell) for action in actions)
        self.polls.labels("concern" if concerns else "clean").inc()
        self.last.set(now.timestamp())
        self.concerns.set(concerns)
        self.open.set(len(situation.pending))
        self.renewals.inc(sum(isinstance(action, Renew) for action in actions))
        self.standings.read(situation.store)
        if situation.store:
            self.generation.set(situation.store.generation)
        blind = {
            flag for _, view in situation.views for flag, _ in situation.blind(view.engine_id, now)
        }
        self.sound.clear()
        for flag in situation.live:
            self.sound.labels(flag).set(flag not in blind)

    def extended(self, rows: Mapping[str, tuple[Row, ...]]) -> None:
        """Minutes were written."""
        for flag, fresh in rows.items():
            for row in fresh:
                self.minutes.labels(flag, "no" if row.invalid else "yes").inc()

    def serve(self, host: str, port: int) -> tuple[WSGIServer, int]:
        """Answer at an address; the server and its port. 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return server, server.server_port

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
