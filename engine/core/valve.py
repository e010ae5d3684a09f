"""How much may wait for one client, and when its stream stands still.

A client that does not keep up must slow its own stream and no other. At the mark the stream
stands still; it goes on once less than a quarter of the mark waits. The distance between the
two keeps a steady slow client from turning its stream off and on with every token.
"""

from typing import Final

#: The stream goes on below the mark divided by this.
_RESUME_DIVISOR: Final = 4


class Valve:
    """Counts the tokens that wait for one client.

    Open, it lets the stream run; closed, the stream stands still. Tokens that were under way
    when it closed still come, so a few more than the mark may wait.
    """

    def __init__(self, mark: int) -> None:
        """Close at `mark` waiting tokens.

        Raises:
            ValueError: a mark that leaves no room below its quarter.
        """
        if mark < _RESUME_DIVISOR:
            raise ValueError(f"the mark must be at least {_RESUME_DIVISOR} tokens, given {mark}")
        self._mark = mark
        self.waiting = 0
        self.closed = False

    def put(self) -> bool:
        """One more token waits. True when the stream has to stand still from now on."""
        self.waiting += 1
        if self.closed or self.waiting < self._mark:
            return False
        self.closed = True
        return True

    def take(self, count: int) -> bool:
        """The client took `count` tokens. True when the stream may go on from now on.

        Raises:
            ValueError: more than wait.
        """
        if count > self.waiting:
            raise ValueError(f"{count} tokens taken where {self.waiting} wait")
        self.waiting -= count
        if not self.closed or _RESUME_DIVISOR * self.waiting >= self._mark:
            return False
        self.closed = False
        return True
