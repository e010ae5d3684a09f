"""When a crowd of streams is in the middle: beside other streams, seen from outside. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.checks import LEAST_CAUGHT
from chaos.experiment import Clients
from chaos.observing import Look

#: Looks of the last seconds, by which it is known what is usual.
_LATELY: Final = 20


@dataclass(frozen=True, slots=True)
class Others:
    """Streams that are no crowd: so many were open at once, and they get so many tokens."""

    since: float
    open: float
    tokens: float
    tokens_each_second: float

    def exceeded(self, look: Look, at_token: int) -> bool:
        """Whether a crowd decodes besides, as large as the engine lets it be, and is so far."""
        together = look.total("phase5_streams_in_flight") - self.open
        theirs = self.tokens + self.tokens_each_second * (look.at - self.since)
        tokens = look.total("phase5_output_tokens_total") - theirs
        return together >= LEAST_CAUGHT and tokens >= together * at_token


def others_of(looks: Sequence[Look], clients: Sequence[Clients]) -> Others:
    """What was usual just now, and what these clients ask for each second."""
    lately = looks[-_LATELY:]
    return Others(
        since=lately[-1].at,
        open=max(look.total("phase5_streams_in_flight") for look in lately),
        tokens=lately[-1].total("phase5_output_tokens_total"),
        tokens_each_second=sum(each.flow.rate * each.flow.tokens for each in clients),
    )
