"""Stop strings in a stream of text pieces: they may span tokens."""

from collections.abc import Sequence


class StopScanner:
    """Lets text through up to the first stop string.

    Text that may be the beginning of a stop string is held back until it is known not to
    be one. What comes out does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """The text that is certain after this piece; empty once a stop string was met."""
        if self.stopped:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        cut = self._first_stop(text)
        if cut is not None:
            self.stopped, self._held = True, ""
            return text[:cut]
        safe = len(text) - self._undecided(text)
        self._held = text[safe:]
        return text[:safe]

    def finish(self) -> str:
        """The text held back when no more comes."""
        rest, self._held = self._held, ""
        return rest

    def _first_stop(self, text: str) -> int | None:
        """Where the stop string begins that is complete first, the longest if several are."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _undecided(self, text: str) -> int:
        """Length of the longest tail that begins a stop string."""
        longest = max(len(stop) for stop in self._stops) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
