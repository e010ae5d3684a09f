"""The configuration that serves, and how another one takes its place."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from engine.config import Config, Rollout, forced_states, load_config
from engine.core.delivery import Served, follow, start
from engine.core.flags import FLAGS, FlagSet, FlagState
from engine.core.lease import CANARY, FULL, WATCHED
from engine.rollout_config import STAGE_PERCENTAGES

#: Sections that a running engine takes over; the others are read once, at the start.
LIVE_SECTIONS: Final = ("phase4_rollout", "generation", "history_head", "rollout")

#: The keys of a flag that make up its share.
_SHARE: Final = {"enabled", "rollout_percentage", "holdback_percentage"}

#: The stage of a share that no stage has, or that the rollout did not bring.
UNMANAGED: Final = "unmanaged"
_STAGES: Final[Mapping[float, str]] = {
    percentage: stage for stage, percentage in STAGE_PERCENTAGES.items()
}

#: Where a file is with all links followed, and the digest of its content.
Seen = tuple[str, str]


def look(path: Path) -> Seen:
    """A file as it is now; also its absence is something to see."""
    try:
        return str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return "", type(error).__name__


@dataclass(frozen=True, slots=True)
class State:
    """What a file, a delivery or an engine's memory says of the rollout."""

    generation: int
    rollout: Rollout

    @classmethod
    def of(cls, config: Config) -> "State":
        """What a configuration says."""
        return cls(config.generation, config.phase4_rollout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of a state.

    Attributes:
        settings: what serves then.
        whole: whether it serves as it says; else only lower shares of it.
        reason: what was left out and why; None when it was taken whole.
        lifted: ids of brakes that end with it, by flag.
        waiting: changed sections that take effect only at the next start.
    """

    settings: "Settings"
    whole: bool = True
    reason: str | None = None
    lifted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What serves now: swapped as a whole, never changed.

    Attributes:
        path: the file.
        config: what it said; of sections that are not live, what it said at the start.
        served: what the rollout has brought for each flag; see `engine.core.delivery`.
        forced: the flag set of `--flags`, which stands above the file.
        seen: what the file was when it was read last.
        told: what it said of the rollout then. A file that still says it brings nothing new:
            what was delivered since stays.
    """

    path: Path
    config: Config
    served: Mapping[str, Served]
    forced: FlagSet | None
    seen: Seen
    told: State

    @classmethod
    def read(cls, path: Path, forced: FlagSet | None) -> "Settings":
        """Read the file.

        Raises:
            ConfigError: it cannot serve.
        """
        seen = look(path)  # first: what comes between is then a change, and read again
        config = load_config(path)
        served = {name: start(state) for name, state in config.flag_states().items()}
        return cls(path, config, served, forced, seen, State.of(config))

    @property
    def state(self) -> State:
        """What serves of the rollout."""
        return State.of(self.config)

    def resumed(self, kept: State, delivered: Mapping[str, float], told: State) -> "Settings":
        """What served before a restart; what the file says now is to be told anew.

        Args:
            kept: what served.
            delivered: the share of each flag that the rollout had brought.
            told: what the file said of the rollout when it was read last.
        """
        config = _with(self.config, kept)
        served = {
            name: Served(state, delivered[name]) for name, state in config.flag_states().items()
        }
        return replace(self, config=config, served=served, told=told)

    def states(self) -> dict[str, FlagState]:
        """What is asked to serve for each flag; brakes stand above it."""
        if self.forced is not None:
            return forced_states(self.forced)
        return {name: served.state for name, served in self.served.items()}

    def reread(self, refused: str | None = None) -> Taken:
        """What serves after the file as it is now; `refused` as for `taking`.

        Raises:
            ConfigError: it cannot serve.
        """
        seen = look(self.path)
        new = load_config(self.path)
        names = [name for name in type(new).model_fields if name not in LIVE_SECTIONS]
        waiting = [name for name in names if getattr(new, name) != getattr(self.config, name)]
        before = replace(self, seen=seen)
        if new.generation >= self.config.generation:
            config = self.config.model_copy(update={"rollout": new.rollout})
            before = replace(before, config=config)
        taken = before.told_anew(State.of(new), refused)
        return replace(taken, waiting=tuple(waiting))

    def told_anew(self, state: State, refused: str | None = None) -> Taken:
        """What serves after the file says this; nothing changes while it says what it said."""
        if state == self.told:
            return Taken(settings=self)
        taken = self.taking(state, refused)
        if not taken.whole and taken.reason == refused:
            return taken  # not taken for now: it is read again when nothing refuses it any more
        return replace(taken, settings=replace(taken.settings, told=state))

    def taking(self, state: State, refused: str | None = None) -> Taken:
        """What serves after this state; `refused` says why no raise may be taken, if so."""
        reason = self._stale(state)
        if reason is None and refused is not None and self._raises(state):
            reason = refused
        if reason is not None:
            lower = self._followed(state, self.config.generation - 1)
            config = _with(self.config, State(self.config.generation, self._lowered(state, lower)))
            return Taken(
                settings=replace(self, config=config, served=lower), whole=False, reason=reason
            )
        served = self._followed(state, state.generation)
        settings = replace(self, config=_with(self.config, state), served=served)
        return Taken(settings=settings, lifted=self._lifted(state))

    def _stale(self, state: State) -> str | None:
        """Why a state is not news of our own store; None when it is."""
        ours = self.config
        if state.generation < ours.generation:
            return (
                f"generation {state.generation} is below {ours.generation}: "
                "only lower percentages were taken"
            )
        for name in FLAGS:
            epoch, live = state.rollout.flag(name).epoch, ours.phase4_rollout.flag(name).epoch
            if state.generation > ours.generation and epoch < live:
                return (
                    f"generation {state.generation} has epoch {epoch} of {name}, which is below "
                    f"{live}: from another store; only lower percentages were taken"
                )
        return None

    def _lifted(self, state: State) -> dict[str, tuple[str, ...]]:
        if state.generation <= self.config.generation:
            return {}  # not from the rollout, so from somebody's hand
        return {name: state.rollout.flag(name).lifted for name in FLAGS}

    def _raises(self, state: State) -> bool:
        """Whether anybody may come in: by a share, by other keys, by the end of a brake."""
        asked = _states(self.config, state.rollout)
        return any(
            asked[name].percentage > served.state.percentage
            or asked[name].salt != served.state.salt
            or state.rollout.flag(name).lifted
            for name, served in self.served.items()
        )

    def _followed(self, state: State, generation: int) -> dict[str, Served]:
        asked = _states(self.config, state.rollout)
        ours = self.config.generation
        return {
            name: follow(served, asked[name], from_generation=ours, to_generation=generation)
            for name, served in self.served.items()
        }

    def _lowered(self, state: State, served: Mapping[str, Served]) -> Rollout:
        """Our own rollout, with the shares of a stale state where those are lower."""
        flags = {name: self.config.phase4_rollout.flag(name) for name in FLAGS}
        for name, flag in flags.items():
            if served[name].state.percentage < flag.percentage:
                share = state.rollout.flag(name).model_dump(include=_SHARE)
                flags[name] = flag.model_copy(update={**share, "stage": None})
        return self.config.phase4_rollout.model_copy(update=flags)

    def stage(self, name: str) -> str:
        """The stage written down, else the one of the percentage; none for a raise by hand."""
        flag = self.config.phase4_rollout.flag(name)
        if self.forced is not None:
            return _STAGES[100.0 if name in self.forced else 0.0]
        if self.served[name].unmanaged:
            return UNMANAGED
        if flag.stage is not None:
            return flag.stage
        return _STAGES.get(flag.rollout_percentage if flag.enabled else 0.0, UNMANAGED)

    def watched(self) -> dict[str, str]:
        """The flags that may be served only under a lease, and at which stage.

        Those of which the rollout has brought a share. What somebody raised further by hand is
        watched as closely as canary is; what was never the rollout's is not watched at all.
        """
        if self.forced is not None:
            return {}
        stages = {name: self.stage(name) for name, one in self.served.items() if one.delivered}
        return {
            name: stage if stage in {*WATCHED, FULL} else CANARY
            for name, stage in stages.items()
            if self.served[name].unmanaged or stage != UNMANAGED
        }

    def flag_view(self, name: str) -> dict[str, Any]:
        """A flag as `/v1/status` shows it, brakes aside."""
        flag = self.config.phase4_rollout.flag(name)
        effective, stage = self.states()[name].percentage, self.stage(name)
        return {
            "enabled": flag.enabled if self.forced is None else name in self.forced,
            "percentage": flag.rollout_percentage if self.forced is None else effective,
            "effective": effective,
            "stage": stage,
            "epoch": flag.epoch,
            "held": flag.held,
            "unmanaged": stage == UNMANAGED,
        }


def delivered_state(
    config: Config, generation: int, flags: Mapping[str, Mapping[str, Any]]
) -> State:
    """A delivery as a state: keys that it does not give stay as they are.

    Raises:
        pydantic.ValidationError: a value that the configuration does not allow.
    """
    document = config.model_dump(mode="json")
    rollout = document["phase4_rollout"]
    for name, given in flags.items():
        rollout[name] = {**rollout[name], **given}
    # The whole of it: what one section allows may depend on another.
    return State.of(Config.model_validate_json(json.dumps({**document, "generation": generation})))


def _states(config: Config, rollout: Rollout) -> dict[str, FlagState]:
    return config.model_copy(update={"phase4_rollout": rollout}).flag_states()


def _with(config: Config, state: State) -> Config:
    live = {"phase4_rollout": state.rollout, "generation": state.generation}
    return config.model_copy(update=live)
