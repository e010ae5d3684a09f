"""Two actors, who may act on what they saw long ago, move a rollout on a real store."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gate_builders import policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_builders import (
    NOW,
    OTHER,
    SOUND,
    clone,
    file_store,
    git_store,
    push,
    record,
    remote,
)

from engine.core.flags import FLAGS
from gates.conditions import FULL_EVERY
from gates.durable import append_to_file
from gates.git_store import CONFIG_FILE, GitStore
from gates.history import HISTORY_FILE, entered
from gates.rewriting import rewritten
from gates.stages import FULL, OFF, STAGES, UNMANAGED, Event
from gates.standing import CONDEMNING, Cause, Standing
from gates.state_file import Texts, changed, shares_of
from gates.store import ConflictError, Snapshot, Store, insist
from gates.transitions import RefusedError, last_full, moved

#: The stage that asks for an approval here.
ASKING = frozenset({"mid"})

ACTORS = st.integers(0, 1)
#: Two of the four move, so that they meet; the others must stay as they are.
ONE = st.sampled_from(FLAGS[:2])
SOME = st.sampled_from([FLAGS[:1], FLAGS[1:2], FLAGS[:2]])
Flags = tuple[str, ...]
CANDIDATES = st.sampled_from([SOUND, OTHER])
DECISIONS = st.sampled_from([Event.HOLD, Event.RESUME, Event.APPROVE, Event.CLEAR])


class RolloutMachine(RuleBasedStateMachine):
    """What must hold whatever the two do; the checks remember by themselves what was done."""

    def open(self) -> list[Store]:
        """Two actors' views of one store."""
        raise NotImplementedError

    def put(self, text: str) -> None:
        """Put another configuration into the store by hand."""
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.stores = self.open()
        self.now = NOW
        self.seen = [store.read() for store in self.stores]
        self.state = self.seen[0]
        self.barred: dict[str, set[str]] = {flag: set() for flag in FLAGS}
        self.approved: dict[str, int] = {}
        self.moves: set[str] = set()
        self.full: list[datetime] = []
        self.records = self.crashes = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(actor=ACTORS)
    def look(self, actor: int) -> None:
        self.seen[actor] = self.stores[actor].read()
        assert self.seen[actor] == self.state

    @rule(hours=st.integers(1, 30))
    def tick(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(actor=ACTORS, flags=SOME, candidate=CANDIDATES, verdict=st.booleans())
    def promote(self, actor: int, flags: Flags, candidate: str, *, verdict: bool) -> None:
        """Without a verdict nobody asks the store; what makes a good one is checked elsewhere."""
        if verdict:
            self.act(actor, Event.PROMOTE, flags, candidate, brakes={flags[0]: ["b1"]})

    @rule(actor=ACTORS, flag=ONE, candidate=CANDIDATES)
    def look_and_promote(self, actor: int, flag: str, candidate: str) -> None:
        """Two stages at once, so that late ones are reached."""
        for event in (Event.APPROVE, Event.PROMOTE) * 2:
            self.look(actor)
            self.act(actor, event, (flag,), candidate)

    @rule(actor=ACTORS, event=DECISIONS, flags=SOME, candidate=CANDIDATES)
    def decide(self, actor: int, event: Event, flags: Flags, candidate: str) -> None:
        self.look(actor)
        self.act(actor, event, flags, candidate)

    @rule(actor=ACTORS, cause=st.sampled_from(Cause), flags=SOME, candidate=CANDIDATES)
    def roll_back(self, actor: int, cause: Cause, flags: Flags, candidate: str) -> None:
        """It succeeds, whatever the actor saw last and whatever the others did."""

        def decision(before: Snapshot) -> Any:
            return moved(
                policy(), before.flags, flags, Event.ROLLBACK,
                now=self.now, cause=cause, candidate=candidate,
            ), self.told(Event.ROLLBACK)  # fmt: skip

        after = insist(self.stores[actor], decision)
        self.settle(actor, Event.ROLLBACK, after, candidate, cause=cause)
        assert {after.flags[flag].stage for flag in flags} == {OFF}
        assert {after.config.phase4_rollout.flag(flag).percentage for flag in flags} == {0}

    @rule(flag=ONE, share=st.sampled_from([1.0, 7.0, 10.0]), with_stage=st.booleans())
    def raise_by_hand(self, flag: str, share: float, *, with_stage: bool) -> None:
        """Somebody edits a flag that the rollout has moved before, with its stage or without."""
        before = self.state
        if flag not in self.moves or share <= before.flags[flag].percentage:
            return
        keys: dict[str, Any] = {"enabled": True, "rollout_percentage": share}
        if with_stage:
            keys["stage"] = {1.0: "canary", 10.0: "early"}.get(share, OFF)
        self.put(rewritten(before.text, {flag: keys}, {}))
        self.state = self.stores[0].read()
        assert self.state.flags[flag].stage == UNMANAGED
        assert self.state.generation == before.generation

    def act(self, actor: int, event: Event, flags: Flags, candidate: str, **given: Any) -> None:
        """Move flags as this actor saw them last; refused or overtaken, nothing changes."""
        before, store = self.seen[actor], self.stores[actor]
        with suppress(RefusedError):
            after = moved(
                policy(), before.flags, flags, event,
                now=self.now, candidate=candidate, reason="a reason", approval=ASKING,
                last_full=last_full(before.flags.values(), entered(store.history(), FULL)),
                **given,
            )  # fmt: skip
            if after and (before.text, before.version) != (self.state.text, self.state.version):
                with pytest.raises(ConflictError, match=f"generation {before.generation}, found"):
                    store.write(before, after, self.told(event))
            elif after:
                new = store.write(before, after, self.told(event))
                self.settle(actor, event, new, candidate)

    def told(self, event: Event) -> Any:
        return replace(record(event), at=self.now)

    def settle(
        self,
        actor: int,
        event: Event,
        after: Snapshot,
        candidate: str,
        *,
        cause: Cause | None = None,
    ) -> None:
        """Compare what is with what may be, and remember what was done."""
        before, self.state = self.state, after
        self.seen[actor] = after
        differ = [flag for flag in FLAGS if before.flags[flag] != after.flags[flag]]
        assert after.generation == before.generation + bool(differ)
        self.records += bool(differ)
        self.moves.update(differ)
        for flag in differ:
            old, new = before.flags[flag], after.flags[flag]
            assert new.epoch == old.epoch + (new.stage != old.stage)
            assert new.percentage <= old.percentage or event is Event.PROMOTE
            if event is Event.PROMOTE:
                self.check_promotion(flag, old, new, candidate)
            elif event is Event.APPROVE:
                self.approved[flag] = new.epoch
            elif event is Event.CLEAR:
                self.barred[flag].discard(candidate)
            elif cause in {*CONDEMNING, Cause.UNATTRIBUTED}:
                self.barred[flag].add(candidate)

    def check_promotion(self, flag: str, old: Standing, new: Standing, candidate: str) -> None:
        assert STAGES.index(new.stage) == STAGES.index(old.stage) + 1
        assert candidate not in self.barred[flag]
        assert not old.held
        assert new.entered_at == self.now
        assert new.stage not in ASKING or self.approved.pop(flag) == old.epoch
        if new.stage == FULL:
            assert all(self.now - then >= FULL_EVERY for then in self.full)
            self.full.append(self.now)

    @invariant()
    def a_rollback_of_everything_is_possible(self) -> None:
        after = moved(policy(), self.state.flags, FLAGS, Event.ROLLBACK, now=self.now)
        flags: Mapping[str, Standing] = {**self.state.flags, **after}
        assert {standing.stage for standing in flags.values()} == {OFF}

    @invariant()
    def what_was_rolled_back_or_is_held_is_not_promoted(self) -> None:
        for flag, standing in self.state.flags.items():
            for candidate in (SOUND, OTHER) if standing.held else self.barred[flag]:
                with pytest.raises(RefusedError):
                    moved(
                        policy(),
                        self.state.flags,
                        [flag],
                        Event.PROMOTE,
                        now=self.now,
                        candidate=candidate,
                    )

    @invariant()
    def the_history_verifies(self) -> None:
        history = self.stores[0].history()
        assert history.problems == ()
        assert len(history.records) == self.records
        assert len(history.unfinished) + len(history.torn) == self.crashes


class FileMachine(RolloutMachine):
    """On a file; a writer that dies leaves a line in the history, or a part of one."""

    def open(self) -> list[Store]:
        return [file_store(self.folder), file_store(self.folder)]

    def put(self, text: str) -> None:
        (self.folder / "runtime.yaml").write_text(text, encoding="utf-8")

    @rule(flag=ONE, part=st.floats(0.01, 1))
    def crash(self, flag: str, part: float) -> None:
        after = moved(policy(), self.state.flags, [flag], Event.ROLLBACK, now=self.now)
        if after:
            path = self.folder / HISTORY_FILE
            history = path.read_text(encoding="utf-8") if path.exists() else ""
            texts = Texts(self.state.text, history, "runtime.yaml", "here")
            line = changed(
                texts, self.state, after, self.told(Event.ROLLBACK), shares_of(policy())
            ).line
            append_to_file(path, line[: max(2, round(part * len(line)))].encode())
            self.crashes += 1


class GitMachine(RolloutMachine):
    """On a branch; a writer that dies leaves a commit that nobody knows, and locks of Git's."""

    def open(self) -> list[Store]:
        self.bare = remote(self.folder)
        return [git_store(self.bare, self.folder / name) for name in ("one", "two")]

    def put(self, text: str) -> None:
        work = clone(self.bare)
        (work / CONFIG_FILE).write_text(text, encoding="utf-8")
        push(work)

    @rule(actor=ACTORS, flag=ONE)
    def crash(self, actor: int, flag: str) -> None:
        store = self.stores[actor]
        assert isinstance(store, GitStore)
        self.look(actor)
        after = moved(policy(), self.state.flags, [flag], Event.ROLLBACK, now=self.now)
        if after:
            texts = store._texts(self.state.version)
            told = self.told(Event.ROLLBACK)
            dead = changed(texts, self.state, after, told, shares_of(policy()))
            store._committed(self.state.version, dead)
        (store._git.folder / "refs/phase5/tip.lock").touch()


TestFile = FileMachine.TestCase
TestFile.settings = settings(
    max_examples=settings.default.max_examples // 10, stateful_step_count=25
)
TestGit = GitMachine.TestCase
TestGit.settings = settings(max_examples=settings.default.max_examples // 50, stateful_step_count=8)
