"""Whatever happens to an engine in whatever order, nobody gets in whom the rollout keeps out."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from engine.core.brakes import Cause
from engine.core.lease import WATCHED
from engine.server.parts import Clocks
from engine.server.state import EngineState, claim

FLAGS = ("ttft_pipeline", "qos_monitoring")
STAGES = {0: "off", 1: "canary", 10: "early", 50: "mid", 100: "full"}
#: An example takes a third of a second, much of it for the files.
EXAMPLES = 500 if os.environ.get("PHASE5_FULL") else 12
#: Seconds, the same at every stage.
LEASE = 100.0

shares = st.fixed_dictionaries(dict.fromkeys(FLAGS, st.sampled_from(list(STAGES))))
#: Of a state's generation, against the one that serves.
steps = st.sampled_from([-2, -1, 0, 1, 1, 1, 3])
some_flags = st.lists(st.sampled_from(FLAGS), unique=True)
#: Flags whose standing brakes a state cites.
cited = st.one_of(st.just([]), some_flags)
spans = st.sampled_from([0.0, 1.0, 60.0, 100.0, 1_000.0])


@dataclass
class Known:
    """What a careful reader of all that came in knows of one flag."""

    ceiling: float = 0.0  #: the most that the newest state that may say so allows
    braked: bool = False


@dataclass
class State:
    """What a file or a delivery says."""

    generation: int
    shares: Mapping[str, int]
    lifted: Mapping[str, list[str]] = field(default_factory=dict)

    def flags(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "enabled": True,
                "rollout_percentage": share,
                "stage": STAGES[share],
                "lifted": self.lifted.get(name, []),
            }
            for name, share in self.shares.items()
        }

    def yaml(self) -> str:
        """JSON is YAML."""
        stages = dict.fromkeys(WATCHED, LEASE)
        document = {
            "generation": self.generation,
            "phase4_rollout": self.flags(),
            "rollout": {"lease_seconds": stages},
        }
        return str(document).replace("'", '"').replace("True", "true")


class Rollouts(RuleBasedStateMachine):
    """One engine, its file, its folder and its clocks."""

    def __init__(self, folder: Path, build: Callable[..., Any], runtime: Callable[[], Any]) -> None:
        super().__init__()
        self.file = folder / "runtime.yaml"
        self.build, self.runtime = build, runtime
        self.now, self.wall = 1_000.0, 1_000_000.0
        self.memory: EngineState | None = None
        self.engine: Any = None
        self.known = {name: Known() for name in FLAGS}

    @initialize(share=shares)
    def begin(self, share: dict[str, int]) -> None:
        self.said = self.told = State(5, share)
        self.generation = 5
        self.watched_until = self.now + LEASE
        self._start()
        for name, known in self.known.items():
            known.ceiling = share[name]

    # What comes in.

    @rule(step=steps, share=shares, cites=cited)
    def deliver(self, step: int, share: dict[str, int], cites: list[str]) -> None:
        state = self._state(step, share, cites)
        frozen = self._before()
        self._run(self.engine.reloads.deliver(state.generation, state.flags()))
        self._came(state, frozen=frozen)

    @rule(step=steps, share=shares, cites=cited)
    def edit(self, step: int, share: dict[str, int], cites: list[str]) -> None:
        self.said = self._state(step, share, cites)
        self.file.write_text(self.said.yaml())
        self.reload()

    @rule()
    def reload(self) -> None:
        frozen = self._before()
        self._run(self.engine.reloads.attempt("request"))
        self._read(frozen=frozen)

    @rule()
    def spoil(self) -> None:
        """A file that cannot be read changes nothing."""
        self.file.write_text("phase4_rollout: [")
        self._run(self.engine.reloads.attempt("file"))
        self.file.write_text(self.said.yaml())

    @rule(flags=some_flags, cause=st.sampled_from(list(Cause)))
    def brake(self, flags: list[str], cause: Cause) -> None:
        brakes = self._run(self.engine.rollout.roll_back(self.engine, flags, cause, "why"))
        assert brakes == {name: self._flag(name).brake for name in flags}
        for name in flags:
            self.known[name].braked = True

    @rule(seconds=st.sampled_from([10.0, LEASE, 1e6]))
    def renew(self, seconds: float) -> None:
        frozen = self._before()
        self._run(self.engine.rollout.renew(self.engine, seconds))
        self.watched_until = max(self.watched_until, self.now + LEASE)
        if frozen:
            self._read(frozen=False)

    @rule(seconds=spans)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds
        self._run(self.engine.rollout.look(self.engine))
        self._look_for_brakes()
        if self.now >= self.watched_until:
            for name in FLAGS:
                flag = self._flag(name)
                assert not flag.effective or flag.stage not in WATCHED, "served unwatched"

    @rule(seconds=st.sampled_from([-1e6, -50.0, 50.0]))
    def clock_is_set(self, seconds: float) -> None:
        self.wall += seconds

    @rule(away=spans, torn=st.booleans())
    def restart(self, away: float, torn: bool) -> None:
        self.now += away
        self.wall += away
        if torn:
            for path in self.file.parent.rglob("brakes/*"):
                path.write_bytes(path.read_bytes()[:7])
        frozen = self._before()
        self._start()
        self._look_for_brakes()
        self._read(frozen=frozen)

    # What must hold.

    @invariant()
    def nobody_gets_in_whom_the_rollout_keeps_out(self) -> None:
        for name, known in self.known.items():
            flag = self._flag(name)
            serves = self.engine.features.share(name)
            assert serves == flag.effective
            assert serves <= known.ceiling
            if known.braked:
                assert flag.braked
                assert serves == flag.percentage == 0

    @invariant()
    def the_generation_is_the_highest_that_was_taken(self) -> None:
        assert self.engine.settings.config.generation == self.generation

    # How it is done.

    def _state(self, step: int, share: Mapping[str, int], cites: list[str]) -> State:
        lifted = {name: [brake] for name in cites if (brake := self._flag(name).brake)}
        return State(max(0, self.generation + step), share, lifted)

    def _read(self, *, frozen: bool) -> None:
        """The engine has read its file."""
        if self.said != self.told and self._came(self.said, frozen=frozen):
            self.told = self.said

    def _came(self, state: State, *, frozen: bool) -> bool:
        """A state has come in. Whether it need not come again."""
        whole = state.generation >= self.generation and not (frozen and self._raises(state))
        for name, known in self.known.items():
            share = state.shares[name]
            known.ceiling = share if whole else min(known.ceiling, share)
            if whole and state.generation > self.generation and state.lifted.get(name):
                known.braked = False
        if whole:
            self.generation = state.generation
        self._look_for_brakes()
        return whole or state.generation < self.generation

    def _raises(self, state: State) -> bool:
        return bool(state.lifted) or any(
            share > self.known[name].ceiling for name, share in state.shares.items()
        )

    def _before(self) -> bool:
        """Whether the engine is frozen; notes when nothing needs a guard so far."""
        rollout = self.engine.rollout
        flags = [self._flag(name) for name in FLAGS]
        if not any(flag.effective and not flag.unmanaged for flag in flags):
            self.watched_until = max(self.watched_until, self.now + LEASE)
        return bool(rollout.frozen(self.engine.settings))

    def _look_for_brakes(self) -> None:
        """What the engine has braked by itself stays so."""
        for name, known in self.known.items():
            known.braked = known.braked or self._flag(name).braked

    def _flag(self, name: str) -> Any:
        from engine.server.rollout_views import flag_status

        return flag_status(self.engine, name)

    def _start(self) -> None:
        self.teardown()
        self.memory = claim(self.file, 8080)
        clocks = Clocks(now=lambda: self.now, wall=lambda: self.wall)
        bench = self.build(
            *(self.file, self.said.yaml()),
            flags=None,
            runtime=self.runtime(),
            clocks=clocks,
            state=self.memory,
        )
        self.engine = bench.engine

    def _run(self, deed: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(deed)

    def teardown(self) -> None:
        if self.memory is not None:
            self.memory.close()
            self.memory = None


def test_nobody_gets_in_whom_the_rollout_keeps_out(
    build_bench: Callable[..., Any],
    fake_runtime: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, number = tmp_path_factory.mktemp("rollouts"), count()

    def make() -> Rollouts:
        own = folder / str(next(number))
        own.mkdir()
        return Rollouts(own, build_bench, fake_runtime)

    run_state_machine_as_test(
        make, settings=settings(stateful_step_count=30, max_examples=EXAMPLES)
    )
