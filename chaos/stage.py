"""Where experiments take place: what they are given from outside, since they start nothing."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class Stage(Protocol):
    """Gives engines, traffic and a Toxiproxy server for the length of a block."""

    @property
    def traffic(self) -> Traffic:
        """Who sends."""

    @property
    def folder(self) -> Path:
        """Where files of the run go."""

    def engine(
        self, flags: str, config: Mapping[str, Any], environment: Mapping[str, str]
    ) -> AbstractContextManager[Subject]:
        """An engine with a configuration laid over its own, and variables beside its own."""

    def toxiproxy(self) -> AbstractContextManager[Toxiproxy]:
        """A server."""

    def judge(self, folder: Path) -> Sequence[str]:
        """The command that judges a report folder and writes its verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a fault may touch."""

    stage: Stage
    engine: Subject
    observer: Observer
    proxies: Mapping[str, Proxy]  #: by flow
    link: Proxy | None = None  #: between front end and runtime
    seed: int = 0
