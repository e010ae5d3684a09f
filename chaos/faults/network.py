"""Faults of connections, through Toxiproxy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.record import INJECTED, Effect, Record
from chaos.stage import Ground
from chaos.toxiproxy import Proxy, Toxic
from chaos.windows import ERRORS, ends, shift
from gates.evidence import Outcome, Sample
from gates.statistics import quantile

#: What two looks at one machine differ by, in seconds, without any fault.
NOISE: Final = 0.05

#: A stream that is throttled takes longer by this factor at least: noise does not double it.
_SLOWER: Final = 2.0


class _Toxics:
    """Some toxics on some proxies."""

    def __init__(self, proxies: Sequence[Proxy], toxics: Sequence[Toxic]) -> None:
        self._proxies = proxies
        self._toxics = toxics
        self._in_force: list[tuple[Proxy, Toxic]] = []
        self.requested: Mapping[str, Any] = {
            "toxics": [toxic.document() for toxic in toxics],
            "between": [proxy.upstream for proxy in proxies],
        }
        if not proxies:
            raise FaultError("no connection goes through a proxy")

    def inject(self) -> Mapping[str, Any]:
        """Add each to each, read back."""
        found: dict[str, Any] = {}
        for proxy in self._proxies:
            for toxic in self._toxics:
                found[f"{proxy.name} {toxic.name}"] = proxy.add(toxic)
                self._in_force.append((proxy, toxic))
        return found

    def hold(self, seconds: float) -> None:
        """See `Breakage.hold`."""
        wait(seconds)

    def heal(self) -> Mapping[str, Any]:
        """Remove each, checked."""
        removed = [toxic.name for _, toxic in self._in_force]
        while self._in_force:
            proxy, toxic = self._in_force[-1]
            proxy.remove(toxic.name)
            self._in_force.pop()
        return {"removed": removed}


class Delay(_Toxics):
    """What the engine sends comes later, by `latency` give or take `jitter`, in milliseconds."""

    def __init__(self, ground: Ground, latency: int, jitter: int = 0, **more: int) -> None:
        attributes = {"latency": latency, "jitter": jitter, **more}
        super().__init__([*ground.proxies.values()], [Toxic(type="latency", attributes=attributes)])
        self._flows = tuple(ground.proxies)
        self._least = (latency - jitter) / 1000

    def effect(self, record: Record) -> Effect:
        """The median TTFT of every flow rose, surely by what the delay is at least."""
        values: dict[str, Any] = {}
        short = []
        for flow in self._flows:
            found = shift(record.before(flow), record.during(flow))
            if found is None:
                short.append(f"{flow}: no times to compare")
                continue
            rise, interval = found
            values[flow] = {"ttft_rise_seconds": rise, "interval": ends(interval)}
            if interval.low < self._least - NOISE:
                short.append(f"{flow}: TTFT rose by {rise:.3f} s, asked for {self._least:g} s")
        return Effect(values=values, proven=not short, why="; ".join(short))


class Cut(_Toxics):
    """Connections are reset `timeout` milliseconds after they began, old ones at once."""

    def __init__(self, ground: Ground, timeout: int = 0) -> None:
        toxic = Toxic(type="reset_peer", attributes={"timeout": timeout})
        super().__init__([*ground.proxies.values()], [toxic])
        self._flows = tuple(ground.proxies)

    def effect(self, record: Record) -> Effect:
        """Requests through the proxies broke."""
        met = [sample for flow in self._flows for sample in record.met(flow)]
        broken = [sample for sample in met if sample.outcome in ERRORS]
        kinds = sorted({sample.error or "" for sample in broken})
        values = {"broken": len(broken), "of": len(met), "as": kinds}
        return Effect(values=values, proven=bool(broken), why="no connection broke")


class Throttle(_Toxics):
    """Bytes from the engine pass at `rate` kilobytes a second."""

    def __init__(self, ground: Ground, rate: int) -> None:
        toxic = Toxic(type="bandwidth", attributes={"rate": rate})
        super().__init__([*ground.proxies.values()], [toxic])
        self._flows = tuple(ground.proxies)

    def effect(self, record: Record) -> Effect:
        """Streams of every flow took much longer."""
        values: dict[str, Any] = {}
        short = []
        for flow in self._flows:
            old = _durations(record.before(flow))
            new = _durations(record.met(flow), open_until=record)
            if not old or not new:
                short.append(f"{flow}: no durations to compare")
                continue
            medians = quantile(old, 0.5), quantile(new, 0.5)
            values[flow] = {"seconds_before": medians[0], "seconds_during": medians[1]}
            if medians[1] < _SLOWER * medians[0]:
                short.append(f"{flow}: streams took {medians[1]:.3f} s, {medians[0]:.3f} s before")
        return Effect(values=values, proven=not short, why="; ".join(short))


#: Everything is swallowed, both ways, and nobody is told. 0 is Toxiproxy's word for: for ever.
_SILENCE: Final = tuple(
    Toxic(type="timeout", attributes={"timeout": 0}, stream=stream)
    for stream in ("upstream", "downstream")
)


def cut_off(proxies: Sequence[Proxy]) -> _Toxics:
    """Nothing passes any of these proxies, either way."""
    return _Toxics(proxies, _SILENCE)


class Partition(_Toxics):
    """Nothing passes between front end and runtime, and nobody is told."""

    def __init__(self, ground: Ground) -> None:
        super().__init__([ground.link] if ground.link else [], _SILENCE)
        self._observer = ground.observer
        self._pids: tuple[int, ...] = ()

    def inject(self) -> Mapping[str, Any]:
        """Note who is behind the link, then cut it."""
        self._pids = self._observer.looks[-1].pids
        return super().inject()

    def hold(self, seconds: float) -> None:
        """At least so long, and until the front end has given its runtime up."""
        wait(seconds)
        self._observer.first(
            lambda look: not look.error and not set(look.pids) & set(self._pids),
            _GIVEN_UP_SECONDS,
            "the front end gives up a runtime that it cannot hear",
        )

    def effect(self, record: Record) -> Effect:
        """The runtime was replaced, though its process had nothing."""
        restarts = record.growth("phase5_runtime_restarts_total")
        gaps = [s.longest_gap or 0.0 for flow in record.samples for s in record.caught(flow)]
        values = {
            "runtime": list(self._pids),
            "restarts": restarts,
            "silence_seconds": max(gaps, default=None),
        }
        return Effect(values=values, proven=bool(restarts), why="no runtime was given up")


#: The stall limit is 5 s behind a fast model, 30 s before its first step.
_GIVEN_UP_SECONDS: Final = 40.0


def _durations(samples: Sequence[Sample], open_until: Record | None = None) -> list[float]:
    """Seconds from sending to the end; a stream that the fault met counts from the fault on."""
    begin = open_until.at(INJECTED) if open_until else -float("inf")
    return [
        s.end - max(s.sent, begin)
        for s in samples
        if s.sent is not None and s.end is not None and s.outcome is not Outcome.CANCELLED
    ]
