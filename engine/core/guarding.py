"""What stands between the admission queue and the governor: an interface, and its absence."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.core.registry import StreamId

if TYPE_CHECKING:  # the queue knows its guard, not the other way round
    from engine.core.admission import Reject, Ticket


class Guard(Protocol):
    """What governed streams are decided by, besides slots and places: see `core.guard`.

    It hears of every stream that starts and ends, so that it knows the load when the
    governor begins; its decisions are asked for governed tickets only.
    """

    def refusal(
        self, ticket: "Ticket", waiting: Collection["Ticket"], running: int, limit: int, now: float
    ) -> "Reject | None":
        """Why a stream that would have to wait is turned away; None to let it wait."""

    def late(self, waiting: Collection["Ticket"], now: float) -> list["Ticket"]:
        """The governed ones among the waiting whose first token would be late already."""

    def displaced(
        self, ticket: "Ticket", waiting: Collection["Ticket"], count: int
    ) -> list["Ticket"]:
        """At most `count` waiting streams that make place for this one in a full queue."""

    def fits(self, ticket: "Ticket", now: float, before: Sequence["Ticket"] = ()) -> bool:
        """Whether a stream may begin now, right after those of `before`."""

    def turn(self, waiting: Sequence["Ticket"], limit: int, now: float) -> Sequence["Ticket"]:
        """Those of the governed streams at the head among whom the next one is."""

    def started(self, ticket: "Ticket", now: float) -> None:
        """A stream, governed or not, got a slot."""

    def released(self, stream_id: StreamId, now: float) -> None:
        """It gave its slot back."""


class Unguarded:
    """The guard where nothing is governed."""

    def refusal(
        self, ticket: "Ticket", waiting: Collection["Ticket"], running: int, limit: int, now: float
    ) -> "Reject | None":
        """Nothing."""

    def late(self, waiting: Collection["Ticket"], now: float) -> list["Ticket"]:  # noqa: ARG002 - of the Protocol
        """Nobody."""
        return []

    def displaced(
        self,
        ticket: "Ticket",  # noqa: ARG002 - of the Protocol
        waiting: Collection["Ticket"],  # noqa: ARG002 - of the Protocol
        count: int,  # noqa: ARG002 - of the Protocol
    ) -> list["Ticket"]:
        """Nobody."""
        return []

    def fits(
        self,
        ticket: "Ticket",  # noqa: ARG002 - of the Protocol
        now: float,  # noqa: ARG002 - of the Protocol
        before: Sequence["Ticket"] = (),  # noqa: ARG002 - of the Protocol
    ) -> bool:
        """Always."""
        return True

    def turn(self, waiting: Sequence["Ticket"], limit: int, now: float) -> Sequence["Ticket"]:  # noqa: ARG002 - of the Protocol
        """Everybody."""
        return waiting

    def started(self, ticket: "Ticket", now: float) -> None:
        """Nothing to do."""

    def released(self, stream_id: StreamId, now: float) -> None:
        """Nothing to do."""
