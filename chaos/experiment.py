"""What an experiment is: data, in the shape that Chaos Toolkit gave to such data.

A steady state in the users' terms, a method with one fault, rollbacks that always run, and
what must hold besides. The runner carries it out; `judging` decides.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal

from gates.evidence import Flow

#: Where a flow enters: straight at the engine, or through a proxy of its own.
Way = Literal["direct", "proxied"]

#: By a guard with a Prometheus, at a stage with a lease: what Prometheus tells of the engine is
#: up to date, or as old as the guard takes it, and soon too old. Empty: nobody watches.
Watched = Literal["", "well", "barely"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """A flow, and how it reaches the engine.

    `harmed`: the fault hits them by design, so what they lose while it lasts is charged to it
    and to nobody else. All others must come through unharmed.
    """

    flow: Flow
    way: Way = "direct"
    harmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Service as users know it, by windows.

    A second to the first token is ten times what `tiny` takes on a busy machine, and less
    than a restart of its process.
    """

    ttft_seconds: float = 1.0  #: at the 95th percentile of a window
    window_seconds: float = 0.5
    windows: int = 3  #: good ones in a row, before service counts as recovered


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The action of the method: a kind of fault and its arguments."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Seconds: of the baseline, of the fault at least, and of what is watched after it."""

    before: float
    hold: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One thing that must hold besides, by the name of its check; see `checks`."""

    check: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Streams that are under way when the fault comes: it waits until each has so many tokens."""

    clients: Clients
    at_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment. `config` is laid over the engine's own; `linked` puts its runtime behind TLS.

    `compares`: with the flags off the same fault means the same, so a control goes through it
    as well.
    """

    name: str
    title: str
    description: str
    fault: Fault
    clients: tuple[Clients, ...]
    short: Spans
    full: Spans
    crowd: Crowd | None = None
    expects: tuple[Expectation, ...] = ()
    steady: Steady = Steady()
    recover_seconds: float = 60.0  #: the limit of criterion `chaos_recovery`
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: str = "all"
    linked: bool = False
    clock: bool = False  #: the engine's wall clock can be moved
    linux: bool = False  #: its fault exists on no other system
    headroom_bytes: int | None = None  #: a runtime's budget: what it holds idle, and so much more
    compares: bool = False
    watched: Watched = ""
    small_disk: bool = False  #: the engine's files, and a store's, lie on a disk of their own

    @property
    def everyone(self) -> tuple[Clients, ...]:
        """All clients, the crowd as well."""
        return (*self.clients, *((self.crowd.clients,) if self.crowd else ()))

    def digest(self) -> str:
        """SHA-256 of the definition: two runs with the same one did the same."""
        return sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()


#: Where a reader of the exported form finds what is named in it.
_MODULE: Final = "chaos.faults"


def chaos_toolkit(experiment: Experiment) -> dict[str, Any]:
    """The experiment in Chaos Toolkit's own form."""
    fault = experiment.fault
    steady = experiment.steady
    return {
        "title": experiment.title,
        "description": experiment.description,
        "steady-state-hypothesis": {
            "title": "requests are answered, in time and whole",
            "probes": [
                _probe("errors", "chaos.windows", "errors", 0),
                _probe("ttft_p95_seconds", "chaos.windows", "ttft", [0, steady.ttft_seconds]),
            ],
        },
        "method": [_action(f"inject {fault.kind}", "inject", fault.kind, fault.arguments)],
        "rollbacks": [_action(f"heal {fault.kind}", "heal", fault.kind, {})],
    }


def _probe(name: str, module: str, func: str, tolerance: object) -> dict[str, Any]:
    provider = {"type": "python", "module": module, "func": func}
    return {"type": "probe", "name": name, "tolerance": tolerance, "provider": provider}


def _action(name: str, func: str, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {"kind": kind, **arguments}
    provider = {"type": "python", "module": _MODULE, "func": func, "arguments": given}
    return {"type": "action", "name": name, "provider": provider}
