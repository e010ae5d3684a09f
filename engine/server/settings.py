"""The configuration that serves, and how another one takes its place."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import Config, FlagConfig, Rollout, forced_states, load_config
from engine.core.delivery import Served, follow, start
from engine.core.flags import FLAGS, FlagSet, FlagState

#: Sections that a running engine takes over; the others are read once, at the start.
LIVE_SECTIONS: Final = ("phase4_rollout", "generation")

#: The keys of a flag that make up its share.
_SHARE: Final = {"enabled", "rollout_percentage", "holdback_percentage"}

#: The stage of a share that no stage has, or that the rollout did not bring.
UNMANAGED: Final = "unmanaged"
_STAGES: Final = {0.0: "off", 1.0: "canary", 10.0: "early", 50.0: "mid", 100.0: "full"}


#: Where a file is with all links followed, and the digest of its content.
Seen = tuple[str, str]


def look(path: Path) -> Seen:
    """A file as it is now; also its absence is something to see."""
    try:
        return str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return "", type(error).__name__


@dataclass(frozen=True, slots=True)
class Settings:
    """What serves now: swapped as a whole, never changed.

    Attributes:
        path: the file.
        config: what it said; of sections that are not live, what it said at the start.
        served: what the file has brought for each flag; see `engine.core.delivery`.
        forced: the flag set of `--flags`, which stands above the file.
        seen: what the file was when it was read last.
    """

    path: Path
    config: Config
    served: Mapping[str, Served]
    forced: FlagSet | None
    seen: Seen

    @classmethod
    def read(cls, path: Path, forced: FlagSet | None) -> "Settings":
        """Read the file.

        Raises:
            ConfigError: it cannot serve.
        """
        seen = look(path)  # first: what comes between is then a change, and read again
        config = load_config(path)
        served = {name: start(state) for name, state in config.flag_states().items()}
        return cls(path, config, served, forced, seen)

    def states(self) -> dict[str, FlagState]:
        """What serves for each flag."""
        if self.forced is not None:
            return forced_states(self.forced)
        return {name: served.state for name, served in self.served.items()}

    def reread(self) -> tuple["Settings", list[str], int]:
        """What serves after the file as it is now, what needs a restart, and its generation.

        Raises:
            ConfigError: it cannot serve.
        """
        seen = look(self.path)
        new = load_config(self.path)
        names = [name for name in type(new).model_fields if name not in LIVE_SECTIONS]
        waiting = [name for name in names if getattr(new, name) != getattr(self.config, name)]
        served = {
            name: follow(
                self.served[name],
                state,
                from_generation=self.config.generation,
                to_generation=new.generation,
            )
            for name, state in new.flag_states().items()
        }
        stale = new.generation < self.config.generation
        live = {"phase4_rollout": self._lowered(new, served)} if stale else _live(new)
        config = self.config.model_copy(update=live)
        return Settings(self.path, config, served, self.forced, seen), waiting, new.generation

    def _lowered(self, new: Config, served: Mapping[str, Served]) -> Rollout:
        """Our own rollout, with the shares of a stale file where those are lower."""
        flags = {name: self.config.phase4_rollout.flag(name) for name in FLAGS}
        for name, flag in flags.items():
            if served[name].state.percentage < flag.percentage:
                share = new.phase4_rollout.flag(name).model_dump(include=_SHARE)
                flags[name] = flag.model_copy(update={**share, "stage": None})
        return self.config.phase4_rollout.model_copy(update=flags)

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
            "stage": self._stage(name, flag, percentage if enabled else 0.0),
            "epoch": flag.epoch,
            "braked": False,
        }

    def _stage(self, name: str, flag: FlagConfig, percentage: float) -> str:
        """The stage written down, else the one of the percentage; none for a raise by hand."""
        if self.forced is None:
            if self.served[name].unmanaged:
                return UNMANAGED
            if flag.stage is not None:
                return flag.stage
        return _STAGES.get(percentage, UNMANAGED)


def _live(new: Config) -> dict[str, object]:
    return {name: getattr(new, name) for name in LIVE_SECTIONS}


def engine_id(path: Path, port: int) -> str:
    """A name for an engine that has none stored: stable for its configuration and port."""
    return hashlib.blake2b(f"{path.resolve()}:{port}".encode(), digest_size=8).hexdigest()
