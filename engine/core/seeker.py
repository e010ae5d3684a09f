"""The fewest slots that get as much done as more of them would.

The PID finds how many streams may run so that first tokens are in time. Under overload fewer may
do the same work, or more of it: rows of a batch are padded to the longest, caches leave the
processor's memory. Those who would have had a slot wait in the queue instead, where the deadline
is kept by the forecast. Nothing but a try tells what a machine does, so this tries: a quarter
fewer slots, and fewer again while as much gets done; more slots now and then, in case more has
become better. A hill climb, as in "concurrency limits" of TCP's kin, but on work and not on delay.

It judges only while there is more to do than gets done: an engine that turns nobody away has no
use for a comparison.
"""

from math import ceil
from typing import Final

#: One try: so many slots of those that there were. A step that a machine notices, and that
#: costs little for as long as a try lasts.
STEP: Final = 0.75

#: Less work than this share of the best is less; more by as much is more. Counts of a hundred
#: first texts differ by some per cent where nothing has changed.
AS_MUCH: Final = 0.95

#: A try lasts for at least so many first texts, after one interval in which streams end that
#: began before it.
ENOUGH: Final = 100

#: Streams turned away for each one served, below which there is not more to do than gets done.
PRESSED: Final = 0.1

#: Intervals between a try that failed and the next one, in the other direction; doubled while tries
#: fail. At 5 s: a minute, up to five.
HOLD: Final = 12
LONGEST_HOLD: Final = 60

#: Intervals without pressure after which what was found is forgotten.
FORGET: Final = 12


class Seeker:
    """Counts first texts and streams turned away, and says how many slots are enough.

    Args:
        low: never fewer than this.
        interval_s: as the governor's.
    """

    def __init__(self, low: int, interval_s: float) -> None:
        self._low = low
        self._interval = interval_s
        self._ends: float | None = None
        self._done = self._shed = self._most = 0
        self._forget()

    def _forget(self) -> None:
        self._cap: int | None = None  # found so far
        self._try: int | None = None  # what is tried instead
        self._best = 0.0  # streams a second with `_cap`
        self._down = True
        self._hold, self._wait, self._idle = HOLD, 0, 0
        self._restart(settle=True)

    def _restart(self, *, settle: bool) -> None:
        """Count anew, from the next interval on where streams of before still run."""
        self._settling = settle
        self._count, self._intervals = 0, 0

    @property
    def enough(self) -> int | None:
        """The slots that are enough, as found so far; None while nothing is."""
        return self._cap

    def first_text(self, running: int) -> None:
        """A stream has its first text while so many hold a slot."""
        self._done += 1
        self._most = max(self._most, running)

    def shed(self, streams: int) -> None:
        """So many were turned away."""
        self._shed += streams

    def limit(self, limit: int, now: float) -> int:
        """How many of `limit` streams are enough."""
        if self._ends is None:
            self._ends = now + self._interval
        if now >= self._ends:
            over = 1 + int((now - self._ends) // self._interval)
            self._ends += self._interval * over
            self._close(min(limit, self._most), quiet=over > 1)
            self._done = self._shed = self._most = 0
        wanted = self._cap if self._try is None else self._try
        return limit if wanted is None else max(min(limit, wanted), min(limit, self._low))

    def _close(self, ran: int, *, quiet: bool) -> None:
        """An interval is over in which at most `ran` ran; `quiet`: nobody looked for long."""
        if quiet or not self._done or self._shed < PRESSED * self._done:
            self._idle += 1
            if self._idle >= FORGET:
                self._forget()
            else:
                self._restart(settle=True)
            return
        self._idle = 0
        if self._settling:
            self._settling = False
            return
        self._count += self._done
        self._intervals += 1
        if self._count >= ENOUGH:
            self._judge(self._count / (self._intervals * self._interval), ran)

    def _judge(self, rate: float, ran: int) -> None:
        """A try, or a stretch between two, has shown what gets done."""
        if self._try is None:
            self._cap = cap = ran if self._cap is None else min(self._cap, ran)
            self._best = rate
            self._wait -= self._intervals
            if self._wait <= 0:
                self._start(cap)
        elif rate >= self._best * AS_MUCH if self._down else rate * AS_MUCH >= self._best:
            self._cap, self._best, self._hold = self._try, max(self._best, rate), HOLD
            self._start(self._try)
        else:
            self._give_up()
        self._restart(settle=True)

    def _start(self, cap: int) -> None:
        """Try fewer than `cap`, or more."""
        step = int(cap * STEP) if self._down else ceil(cap / STEP)
        self._try = max(step, self._low)
        if self._try == cap:
            self._give_up()

    def _give_up(self) -> None:
        """Back to what was found; next time the other way."""
        self._try = None
        self._down = not self._down
        self._wait, self._hold = self._hold, min(2 * self._hold, LONGEST_HOLD)
