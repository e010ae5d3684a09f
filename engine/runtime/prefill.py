"""How much of the waiting prompts one turn reads.

Every running stream waits while prompts are read, so a turn reads no more than fits into the
gap that they can bear, at the speed that this model shows on this machine. Where more streams wait
for their first token than for their next one, the gap grows with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Tokens of prompt in one turn, at most: also bounds how long a cancel or a stall check waits.
MAX_CHUNK: Final = 512

#: The gap that running streams bear: five tokens a second is the speed of reading aloud.
_GAP_SECONDS: Final = 0.2

#: Fewer tokens than these say more about fixed costs than about speed.
_TELLING_TOKENS: Final = 16

#: Weight of the latest turn: follows a change of load within a few turns, smooths single ones.
_SMOOTHING: Final = 0.3


@dataclass(slots=True)
class PrefillPace:
    """Follows the speed of prefill and sets the budget of the next turn.

    `floor` is the budget in tokens before anything is known and on slow machines: less would
    starve the newcomers.
    """

    floor: int
    tokens_per_second: float | None = None

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from one turn that read prompts."""
        if tokens < _TELLING_TOKENS or seconds <= 0:
            return
        speed = tokens / seconds
        known = speed if self.tokens_per_second is None else self.tokens_per_second
        self.tokens_per_second = known + _SMOOTHING * (speed - known)

    def budget(self, *, decoding: int, newcomers: int = 1) -> int:
        """Prompt tokens for the next turn; the most there is when no stream has to wait.

        Args:
            decoding: streams that wait for their next token meanwhile.
            newcomers: streams that wait for their first one. Where they are more, each running
                stream bears a gap for each that it has of them: else one that began a moment
                before the others would have a step of its own for every 64 tokens of theirs.
        """
        if not decoding:
            return MAX_CHUNK
        fitting = max(int((self.tokens_per_second or 0) * _GAP_SECONDS), self.floor)
        return min(fitting * max(newcomers, decoding) // decoding, MAX_CHUNK)

    def lingers(self, tokens: int, *, more: bool) -> float:
        """Seconds that a newcomer with so many tokens to read waits for others to begin with it.

        That is where nothing runs. Who comes while it is read waits until then, and is read
        beside it, a piece between two of its tokens: of four that come within 20 ms to a model
        whose turns take 130 ms, the last has its first token in half of the time if they begin
        together.

        Args:
            tokens: prompt tokens that it has to read.
            more: as many are expected as ended together, and not all of them are here.
        """
        if self.tokens_per_second is None:
            return 0.0
        longest = SUCCESSORS_SECONDS if more else GATHER_SECONDS
        return min(LINGER_SHARE * tokens / self.tokens_per_second, longest)


#: Seconds that a newcomer waits for others at most: a fiftieth of 400 ms, the time to first token
#: that the requirements stretch for.
GATHER_SECONDS: Final = 0.008

#: The same where streams have just ended together and their successors are on their way. These
#: come within 20 ms where front end, client and model share two cores.
SUCCESSORS_SECONDS: Final = 0.024

#: What a newcomer waits for others where nothing runs, of the time that reading its prompt takes:
#: little to one who is alone, and next to nothing where a prompt is read in milliseconds.
LINGER_SHARE: Final = 0.1


def gathers(*, arriving: bool, waited: float, turn: float) -> bool:
    """Whether newcomers wait one turn more, since others are arriving right behind them.

    Rows that begin together join the decoding batch together, which copies all of its KV. The
    successors of streams that ended together come from the network one by one; read as they
    come, in groups half as large, they cost a twentieth of the throughput. Where turns take
    longer than all of that nobody waits.

    Args:
        arriving: somebody came since the last turn.
        waited: seconds since the first of them came.
        turn: seconds that a turn takes.
    """
    return arriving and waited + turn < GATHER_SECONDS


def chunk(unread: Sequence[int], budget: int) -> int:
    """The largest chunk a row such that all rows together read at most `budget` tokens.

    Args:
        unread: prompt tokens that each row has still to read.
        budget: tokens for all rows; each row reads at least one.
    """
    left = budget
    for rows, tokens in zip(range(len(unread), 0, -1), sorted(unread), strict=True):
        if tokens * rows >= left:  # this row and all longer ones share what is left
            return max(left // rows, 1)
        left -= tokens
    return max([*unread, 1])
