"""A crowd is in the middle when it decodes besides what was there before."""

import pytest
from chaos_builders import FLOW

from chaos.crowds import others_of
from chaos.experiment import Clients
from chaos.observing import Look, Value


def look(at: float, streams: float, tokens: float) -> Look:
    """A look that counted so much."""
    named = {"phase5_streams_in_flight": streams, "phase5_output_tokens_total": tokens}
    values = tuple(Value(name, {}, value) for name, value in named.items())
    return Look(at=at, status={"ready": True}, values=values)


#: Up to three streams at once, and eighty tokens a second.
BEFORE = [look(99.0, 3, 900), look(100.0, 1, 1_000)]


@pytest.mark.parametrize(
    ("streams", "tokens", "middle"),
    [
        (53, 1_000 + 80 + 50 * 20, True),
        (53, 1_000 + 80 + 50 * 20 - 1, False),  # not yet at token 20
        (7, 9_000, False),  # four are no crowd
        (8, 1_000 + 80 + 5 * 20, True),
        (3, 9_000, False),  # only those that were there before
    ],
)
def test_a_crowd_shows_beside_others(streams: float, tokens: float, *, middle: bool) -> None:
    others = others_of(BEFORE, [Clients(flow=FLOW)])
    assert others.exceeded(look(101.0, streams, tokens), at_token=20) is middle
