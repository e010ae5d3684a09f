"""What the server needs of the runtime: implemented by the supervisor and by fakes in tests."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from engine.runtime.messages import Prefill, Submit, Token, Warm


class ReplicaState(StrEnum):
    """Where a runtime process stands."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"  #: past the bound of restarts; serves no more
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One runtime process as `/v1/status` and `/metrics` show it."""

    pid: int | None
    state: ReplicaState
    streams: int
    restarts: int
    blas: str
    device: str
    kv_bytes: int  #: of live streams: those that have a row, and those that are paused
    prefix_bytes: int
    replayed: int = 0  #: streams that went on in a process other than the one they began in
    convicted: int = 0  #: streams that made the process fail when they ran alone
    pinned_bytes: int = 0  #: of the prefix store, held for streams that wait for their place
    read_ahead: int = 0  #: prompt tokens that were read for them
    expired: int = 0  #: of them, those that waited too long
    memory_bytes: int = 0  #: all that the process holds; 0 while it is not known
    drafted: int = 0  #: tokens of drafts that were verified
    accepted: int = 0  #: those of them that held
    cpu_seconds: float = 0.0  #: processor time of its processes, as far as they told
    speculating: bool = False  #: whether drafts are made because they pay


class RuntimeStartError(RuntimeError):
    """The runtime did not come up. The message is one line that an operator can act on."""


class StreamListener(Protocol):
    """Receives what happens to one stream. Called in the event loop; must not block or raise."""

    def on_prefill(self, prefill: Prefill) -> None:
        """A prefill chunk is done."""

    def on_token(self, token: Token) -> None:
        """The next output token, in order, each position exactly once."""

    def on_fault(self, reason: str) -> None:
        """The stream is lost; nothing follows."""


class Streaming(Protocol):
    """One model, served by one process or by several."""

    @property
    def ready(self) -> bool:
        """Whether a stream that is submitted now is served at once."""

    @property
    def accepting(self) -> bool:
        """Whether a stream that is submitted now is served soon: a short restart is waited for."""

    async def start(self) -> None:
        """Start and wait until ready.

        Raises:
            RuntimeStartError: when the process ends or does not become ready in time.
        """

    def submit(self, request: Submit, listener: StreamListener) -> None:
        """Begin a stream; `request.uid` is unique for the life of the front end."""

    def cancel(self, uid: int) -> None:
        """Forget a stream; its listener hears nothing more. Unknown ids are ignored."""

    def pause(self, uid: int) -> None:
        """Let a stream stand still until `resume`; tokens that are under way still come.

        It keeps its place. Unknown ids are ignored.
        """

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored."""

    def simplify(self, uid: int) -> None:
        """Let a stream go on behind its last token without what the TTFT pipeline does for it.

        It gets a row of its own anew, of which nothing comes from a store. Unknown ids are
        ignored.
        """

    def warm(self, message: Warm, on_known: Callable[[int], None]) -> None:
        """A stream waits for its place: hold what is known of its prompt, read on when idle.

        `on_known` hears how many tokens need not be read again, now and whenever that changes.
        A hint: it may be passed over, and a process that is replaced does not keep it.
        """

    def forget(self, uid: int) -> None:
        """A stream that was to be warmed does not come. Unknown ids are ignored."""

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store of every process to this size, to give memory back."""

    async def renew(self) -> None:
        """Replace every process by a fresh one, in turn; live streams go on in the new one."""

    def replicas(self) -> list[Replica]:
        """Every process of the pool."""

    async def stop(self) -> None:
        """End every process and wait until it is gone."""


class Runtime(Streaming, Protocol):
    """What the server serves with: a pool."""

    async def scale(self, replicas: int) -> None:
        """Grow or shrink the pool to this many processes; streams that live lose nothing.

        Raises:
            RuntimeStartError: a new process does not start; those that serve go on.
            ValueError: fewer than one.
        """
