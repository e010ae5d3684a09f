"""The store as the guard knows it: read again and again, never taken back a generation."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gates.guarding.folder import SEEN_FILE, read_json, replace_json
from gates.guarding.situation import StoreView
from gates.store import Snapshot, Store, StoreError

log = logging.getLogger("phase5.guard")

#: Seconds that a poll waits for the store: a remote may be far, and nothing else waits for it.
STORE_SECONDS: Final = 10.0


@dataclass(slots=True)
class Reading:
    """Owns the last snapshot that could be trusted, and why there is no newer one."""

    store: Store
    folder: Path
    snapshot: Snapshot | None = None
    trouble: tuple[str, ...] = ()
    _reading: "asyncio.Task[tuple[Snapshot, tuple[str, ...]]] | None" = None
    _unwritten: list[str] = field(default_factory=list)

    @property
    def view(self) -> StoreView | None:
        """What decisions need of it."""
        if self.snapshot is None:
            return None
        return StoreView(
            where=self.snapshot.where,
            generation=self.snapshot.generation,
            flags=self.snapshot.flags,
        )

    async def refresh(self) -> None:
        """Read it, in a thread; a read that takes too long goes on beside the next polls."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._read))
        done, _ = await asyncio.wait({self._reading}, timeout=STORE_SECONDS)
        if not done:
            self.trouble = (f"{self.store.where}: no answer within {STORE_SECONDS:g} s",)
            return
        task, self._reading = self._reading, None
        try:
            snapshot, problems = task.result()
        except (StoreError, OSError) as error:
            self.trouble = (str(error),)
            return
        self.trouble = problems
        self.take(snapshot)

    def take(self, snapshot: Snapshot) -> None:
        """Believe a snapshot, unless the store went back behind one that was seen before."""
        seen = self._seen()
        if snapshot.generation < seen:
            back = f"{snapshot.where}: generation {snapshot.generation} after {seen}: it went back"
            self.trouble = (*self.trouble, f"{back}; what it says is not delivered")
            return
        if snapshot.generation > seen:
            replace_json(self.folder / SEEN_FILE, {"generation": snapshot.generation})
        self.snapshot = snapshot

    def failed(self, why: str) -> None:
        """A write did not get through."""
        log.error("%s", why)
        self.trouble = (*self.trouble, why)

    def _read(self) -> tuple[Snapshot, tuple[str, ...]]:
        snapshot = self.store.read()
        return snapshot, self.store.history().problems

    def _seen(self) -> int:
        seen = read_json(self.folder / SEEN_FILE).get("generation", 0)
        return seen if isinstance(seen, int) else 0
