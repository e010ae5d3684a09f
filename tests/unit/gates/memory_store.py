"""A store in memory that keeps the contract of `gates.store.Store`."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.config import Config
from gates.history import Change, History, Record
from gates.standing import Standing
from gates.store import ConflictError, Snapshot, StoreError


@dataclass
class MemoryStore:
    """Owns the snapshot. `out` is why it cannot be reached, `lost` writes that others beat."""

    flags: dict[str, Standing]
    generation: int = 7
    where: str = "memory"
    out: str = ""
    lost: int = 0
    problems: tuple[str, ...] = ()
    records: list[Record] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> Snapshot:
        self._reached()
        with self.lock:
            return Snapshot(
                generation=self.generation,
                flags=dict(self.flags),
                config=self._written(),
                text="",
                where=self.where,
            )

    def write(self, before: Snapshot, after: Mapping[str, Standing], record: Record) -> Snapshot:
        self._reached()
        if not after:
            return before
        with self.lock:
            if self.lost:
                self.lost -= 1
                self.generation += 1
            if before.generation != self.generation:
                raise ConflictError(f"generation {before.generation}, now {self.generation}")
            changes = {
                flag: Change(origin=self.flags[flag].stage, target=s.stage, epoch=s.epoch)
                for flag, s in after.items()
            }
            self.flags |= after
            self.generation += 1
            self.records.append(replace(record, flags=changes, generation=self.generation))
        return self.read()

    def history(self) -> History:
        self._reached()
        return History(records=tuple(self.records), problems=self.problems)

    def _reached(self) -> None:
        if self.out:
            raise StoreError(self.out)

    def _written(self) -> Config:
        """What engines would be told."""
        rollout = {
            flag: {
                "enabled": standing.enabled,
                "rollout_percentage": standing.percentage,
                "stage": standing.stage if standing.managed else None,
                "epoch": standing.epoch,
                "lifted": list(standing.lifted),
            }
            for flag, standing in self.flags.items()
        }
        document = {"phase4_rollout": rollout, "generation": self.generation}
        return Config.model_validate_json(json.dumps(document))
