"""Where experiments take place: what they are given from outside, since they start nothing."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chaos.disk import Disk
from chaos.observing import Observer
from chaos.toxiproxy import Proxy, Toxiproxy
from gates.evidence import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A running engine that is to be broken."""

    url: str
    model: str
    flag_set: str
    h2_url: str | None = None
    pid: int | None = None  #: its front end; None where that is not on this machine
    log: Path | None = None
    config: Path | None = None  #: the file that it reads, where it is ours to change


class GuardProcess(Protocol):
    """`phase5 watch` on a store of its own that an engine is delivered from."""

    @property
    def url(self) -> str:
        """Where it tells its metrics, once it was started."""

    @property
    def log(self) -> str:
        """What it wrote."""

    def start(self) -> int:
        """Start it; after how many seconds it closes minutes, one of them soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who watches the engine, and the ways on which they hear of it."""

    prometheus: str  #: base URL, straight
    queries: Proxy  #: between guard and Prometheus
    scrapes: Proxy  #: between Prometheus and engine
    guard: GuardProcess


class Stage(Protocol):
    """Gives engines, traffic and a Toxiproxy server for the length of a block."""

    @property
    def traffic(self) -> Traffic:
        """Who sends."""

    @property
    def folder(self) -> Path:
        """Where files of the run go."""

    def engine(
        self,
        flags: str,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        disk: Disk | None = None,
    ) -> AbstractContextManager[Subject]:
        """An engine with a configuration laid over its own, and variables beside its own.

        On a disk, its configuration and all that it keeps lies there.
        """

    def managed(self, *, watched: bool) -> Mapping[str, Any]:
        """The state of an engine at a stage: a configuration to lay over its own.

        One that is watched brakes itself soon when nobody renews its lease.
        """

    def prometheus(self, engine: Subject, target: str, watched: str) -> AbstractContextManager[str]:
        """A Prometheus that scrapes an engine at HOST:PORT, by its base URL.

        Args:
            engine: what it remembers of the time before.
            target: what it scrapes.
            watched: how old that is; see `chaos.experiment.Watched`.
        """

    def guard(self, engine: Subject, source: str) -> AbstractContextManager[GuardProcess]:
        """A guard of an engine, not started, which asks a Prometheus at a base URL."""

    def toxiproxy(self) -> AbstractContextManager[Toxiproxy]:
        """A server."""

    def disk(self) -> AbstractContextManager[Disk]:
        """A small one of its own."""

    def phase5(self, *arguments: str) -> Sequence[str]:
        """The command line of the program."""

    def storing(self) -> Sequence[str]:
        """The command that moves the store of a configuration, and shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a fault may touch."""

    stage: Stage
    engine: Subject
    observer: Observer
    proxies: Mapping[str, Proxy]  #: by flow
    link: Proxy | None = None  #: between front end and runtime
    watched: Watch | None = None
    disk: Disk | None = None
    seed: int = 0
    long: bool = False  #: the full form
