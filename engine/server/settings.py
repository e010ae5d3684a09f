"""The configuration that serves, and how another one takes its place."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import Config, FlagConfig, forced_states, load_config
from engine.core.flags import FlagSet, FlagState

#: Sections that a running engine takes over; the others are read once, at the start.
LIVE_SECTIONS: Final = ("phase4_rollout", "generation")

_STAGES: Final = {0.0: "off", 1.0: "canary", 10.0: "early", 50.0: "mid", 100.0: "full"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What serves now: swapped as a whole, never changed.

    Attributes:
        path: the file.
        config: what it said; of sections that are not live, what it said at the start.
        forced: the flag set of `--flags`, which stands above the file.
    """

    path: Path
    config: Config
    forced: FlagSet | None

    @classmethod
    def read(cls, path: Path, forced: FlagSet | None) -> "Settings":
        """Read the file.

        Raises:
            ConfigError: it cannot serve.
        """
        return cls(path, load_config(path), forced)

    def states(self) -> dict[str, FlagState]:
        """What serves for each flag."""
        if self.forced is not None:
            return forced_states(self.forced)
        return self.config.flag_states()

    def reread(self) -> tuple["Settings", list[str]]:
        """The file as it is now, and the changed sections that need a restart.

        Raises:
            ConfigError: it cannot serve.
        """
        new = load_config(self.path)
        names = [name for name in type(new).model_fields if name not in LIVE_SECTIONS]
        waiting = [name for name in names if getattr(new, name) != getattr(self.config, name)]
        live = {name: getattr(new, name) for name in LIVE_SECTIONS}
        return Settings(self.path, self.config.model_copy(update=live), self.forced), waiting

    def flag_view(self, name: str) -> dict[str, object]:
        """A flag as `/v1/status` shows it."""
        flag = self.config.phase4_rollout.flag(name)
        effective = self.states()[name].percentage
        enabled = flag.enabled if self.forced is None else name in self.forced
        percentage = flag.rollout_percentage if self.forced is None else effective
        return {
            "enabled": enabled,
            "percentage": percentage,
            "effective": effective,
            "stage": self._stage(flag, percentage if enabled else 0.0),
            "epoch": flag.epoch,
            "braked": False,
        }

    def _stage(self, flag: FlagConfig, percentage: float) -> str:
        """The stage written down, else the one of the percentage."""
        if self.forced is None and flag.stage is not None:
            return flag.stage
        return _STAGES.get(percentage, "unmanaged")


def engine_id(path: Path, port: int) -> str:
    """A name for an engine that has none stored: stable for its configuration and port."""
    return hashlib.blake2b(f"{path.resolve()}:{port}".encode(), digest_size=8).hexdigest()
