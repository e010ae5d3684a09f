"""The store's file as text: where the flags stand in it, and the text that a change makes of it.

Both kinds of store keep the same two texts, a configuration and a history; only how they are put
down differs. Pure, but for the parsers of YAML.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.config import Config, ConfigError, FlagConfig, parse_config
from engine.core.flags import FLAGS
from gates.history import Change, History, Record, next_line, verified
from gates.rewriting import RewriteError, rewritten
from gates.stages import OFF, UNMANAGED, Policy
from gates.standing import Standing
from gates.store import Snapshot, StoreError

#: Fields of a standing that have another name in the file.
_KEYS: Final = {"percentage": "rollout_percentage"}


@dataclass(frozen=True, slots=True)
class Texts:
    """What a store holds.

    Attributes:
        config: the configuration.
        history: empty when there is none.
        name: the name of the configuration's file.
        where: for messages.
        version: the commit, with Git.
        trouble: why the history cannot be believed whatever it holds; empty for nothing.
    """

    config: str
    history: str
    name: str
    where: str
    version: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change comes to.

    Attributes:
        texts: after it.
        line: what the history gets; empty for nothing.
        record: with all that the store knows of the change.
        snapshot: what the new texts say.
    """

    texts: Texts
    line: str
    record: Record
    snapshot: Snapshot


def shares_of(policy: Policy) -> dict[str, float]:
    """Every stage's share."""
    return {OFF: 0.0, **{name: stage.percentage for name, stage in policy.stages.items()}}


def snapshot_of(texts: Texts, shares: Mapping[str, float]) -> Snapshot:
    """What the texts say.

    A flag that stands elsewhere than the history left it was moved by hand, also when share and
    stage were changed together. Where the history cannot tell, the file alone counts.

    Raises:
        StoreError: the configuration is not valid.
    """
    try:
        config = parse_config(texts.config, Path(texts.name))
    except ConfigError as error:
        raise StoreError(f"{texts.where}: not valid: {error}") from error
    history = history_of(texts, config)
    return Snapshot(
        generation=config.generation,
        flags={
            name: _as_recorded(name, standing_of(name, flag, shares), history)
            for name, flag in ((name, config.phase4_rollout.flag(name)) for name in FLAGS)
        },
        config=config,
        text=texts.config,
        where=texts.where,
        version=texts.version,
    )


def history_of(texts: Texts, config: Config) -> History:
    """The history, checked against the configuration."""
    history = verified(
        texts.history,
        head=config.history_head or "",
        generation=config.generation,
        store=texts.name,
    )
    return replace(history, problems=(*filter(None, [texts.trouble]), *history.problems))


def standing_of(name: str, flag: FlagConfig, shares: Mapping[str, float]) -> Standing:
    """Where a flag stands by its configuration."""
    entered, readable = _moment(flag.entered_at)
    share = flag.rollout_percentage if flag.enabled else 0.0
    derived = (stage for stage, value in shares.items() if value == share)
    stage: str = flag.stage or next(derived, UNMANAGED)
    return Standing(
        stage=stage if readable and shares.get(stage) == share else UNMANAGED,
        enabled=flag.enabled,
        percentage=flag.rollout_percentage,
        entered_at=entered,
        epoch=flag.epoch,
        salt=flag.salt or name,
        held=flag.held or "",
        approved=flag.approved or "",
        suspect=flag.suspect or "",
        tombstones=flag.tombstones,
        lifted=flag.lifted,
    )


def changed(
    texts: Texts,
    before: Snapshot,
    after: Mapping[str, Standing],
    record: Record,
    shares: Mapping[str, float],
    *,
    recorded: bool = True,
) -> Changed:
    """What a change makes of the texts.

    Args:
        texts: as they were when `before` was read.
        before: what they said.
        after: flags that change.
        record: what to say of it.
        shares: every stage's share.
        recorded: False leaves the history, and the head that the configuration names, as they are.

    Raises:
        StoreError: the text does not let itself be changed so.
    """
    generation = before.generation + 1
    moves = {
        name: Change(origin=before.flags[name].stage, target=new.stage, epoch=new.epoch)
        for name, new in after.items()
    }
    complete = replace(record, flags=moves, generation=generation)
    base = before.config.history_head or ""
    line, head = next_line(texts.history, complete, base=base, store=texts.name)
    top: dict[str, Any] = {"generation": generation}
    if recorded:
        top["history_head"] = head
    flags = {name: dict(_differences(before.flags[name], new)) for name, new in after.items()}
    try:
        text = rewritten(texts.config, flags, top)
    except RewriteError as error:
        raise StoreError(f"{texts.where}: {error}") from error
    line = line if recorded else ""
    new = replace(texts, config=text, history=texts.history + line)
    snapshot = snapshot_of(new, shares)
    _check(snapshot, {**before.flags, **after}, texts.where)
    return Changed(new, line, complete, snapshot)


def _as_recorded(name: str, standing: Standing, history: History) -> Standing:
    last = history.last(name)
    if history.problems or last is None:
        return standing
    change = last.flags[name]
    same = (standing.stage, standing.epoch) == (change.target, change.epoch)
    return standing if same else replace(standing, stage=UNMANAGED)


def _moment(text: str | None) -> tuple[datetime | None, bool]:
    """A time with its zone, UTC unless it says another, and whether it could be read."""
    if text is None:
        return None, True
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None, False
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC), True


def _differences(before: Standing, after: Standing) -> Iterator[tuple[str, Any]]:
    """The keys that change, with their new values."""
    for name in (field.name for field in fields(Standing)):
        value = getattr(after, name)
        if value != getattr(before, name):
            yield _KEYS.get(name, name), _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, tuple):
        return list(value)
    return None if value == "" else value


def _check(found: Snapshot, wanted: Mapping[str, Standing], where: str) -> None:
    """What was written says what was meant."""
    for name, standing in wanted.items():
        if found.flags[name] != standing:
            raise StoreError(
                f"{where}: {name} would not stand where it was moved: "
                f"given {standing}, written {found.flags[name]}"
            )
