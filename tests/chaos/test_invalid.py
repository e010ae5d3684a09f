"""An experiment in which nothing was broken shows nothing: invalid and hold, never a pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil

from chaos.catalogue import EXPERIMENTS
from chaos.experiment import Experiment, Fault, Spans, Steady
from chaos.journal import Account
from chaos.runner import run
from chaos.toxiproxy import Toxiproxy
from gates.evidence import ChaosVerdict
from pytest_phase5.breaking.stage import LocalStage

#: One flow through a proxy, and a fault that is wrong in some way.
TRIAL = replace(
    EXPERIMENTS["network-latency"],
    clients=EXPERIMENTS["network-latency"].clients[:1],
    flags="off",
    short=Spans(before=1, hold=1, after=2),
)


def carried_out(experiment: Experiment, stage: Any) -> Account:
    account = run(experiment, stage)
    assert all(step.ok for step in account.told.rollbacks), account.told.rollbacks
    return account


def test_a_misspelt_toxic_is_invalid(stage: LocalStage) -> None:
    fault = Fault(kind="delay", arguments={"latency": 300, "jiter": 50})
    account = carried_out(replace(TRIAL, fault=fault), stage)
    assert account.verdict is ChaosVerdict.INVALID
    assert "unknown attribute 'jiter'; allowed: jitter, latency" in account.judgement.reasons[0]


def test_a_fault_that_did_not_take_is_invalid(stage: LocalStage) -> None:
    """Toxiproxy says that it delays; the proxy that it was put on is not the one in use."""
    account = carried_out(
        replace(TRIAL, fault=Fault(kind="delay", arguments=LITTLE)), Bypassed(stage)
    )
    assert account.verdict is ChaosVerdict.INVALID
    assert "not proven: http1: TTFT rose by" in account.judgement.reasons[0]
    assert account.read_back


def test_a_steady_state_that_was_never_met_is_invalid_and_nothing_is_broken(
    stage: LocalStage,
) -> None:
    account = carried_out(replace(TRIAL, steady=Steady(ttft_seconds=1e-6)), stage)
    assert account.verdict is ChaosVerdict.INVALID
    assert "not steady before the fault: http1: P95 TTFT" in account.judgement.reasons[0]
    assert account.read_back == {}


def test_a_toxiproxy_that_dies_is_invalid(stage: LocalStage) -> None:
    account = run(TRIAL, Dying(stage))
    assert account.verdict is ChaosVerdict.INVALID
    assert any("Toxiproxy" in reason for reason in account.judgement.reasons)
    # What died with the server could not be removed from it, and the journal says so.
    assert [step.what for step in account.told.rollbacks if not step.ok] == ["proxy http1"]


LITTLE = {"latency": 300}


class Wrapped:
    """A stage like another, but for one thing."""

    def __init__(self, stage: LocalStage) -> None:
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)


class Bypassed(Wrapped):
    """Clients go straight to the engine, whatever proxies there are."""

    @property
    def traffic(self) -> Any:
        return Straight(self._stage)


class Straight:
    def __init__(self, stage: LocalStage) -> None:
        self._stage = stage

    def start(self, flow: Any, **asked: Any) -> Any:
        assert self._stage.engine_now is not None
        return self._stage.traffic.start(flow, **{**asked, "url": self._stage.engine_now.url})


class Dying(Wrapped):
    """Its Toxiproxy dies when it is asked for the first toxic."""

    @contextmanager
    def toxiproxy(self) -> Iterator[Toxiproxy]:
        before = set(psutil.Process().children(recursive=True))
        with self._stage.toxiproxy() as server:
            started = set(psutil.Process().children(recursive=True)) - before
            yield Mortal(server.url, [each for each in started if "toxiproxy" in each.name()])


class Mortal(Toxiproxy):
    def __init__(self, url: str, processes: list[psutil.Process]) -> None:
        super().__init__(url)
        self._processes = processes

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        if path.endswith("/toxics"):
            for process in self._processes:
                process.kill()
            psutil.wait_procs(self._processes)
        return super().ask(method, path, **more)
