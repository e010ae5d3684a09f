"""What an engine remembers across restarts: whose it is, and what is doubtful."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import Config
from engine.core.brakes import UNKNOWN, Brake, Cause
from engine.core.flags import FLAGS
from engine.server import durable
from engine.server.kept import Kept
from engine.server.settings import State
from engine.server.state import EngineState, StateError, claim, state_folder

STOPPED = Brake(id="3f2a", cause=Cause.MANUAL, reason="too slow", at=5.0)
KEPT = Kept(
    served=State(7, Config().phase4_rollout),
    delivered=dict.fromkeys(FLAGS, 0.0),
    told=State(3, Config().phase4_rollout),
    lease=(900.0, 1_234.5),
    lifted=("77aa",),
)


class Engines:
    """The memories of engines on one configuration file."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.root = state_folder(config)
        self.living: list[EngineState] = []

    def start(self, port: int = 8080) -> EngineState:
        self.living.append(claim(self.config, port))
        return self.living[-1]

    def end(self, *states: EngineState) -> None:
        for state in states or tuple(self.living):
            self.living.remove(state)
            state.close()

    def file(self, pattern: str) -> Path:
        (found,) = self.root.rglob(pattern)
        return found


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    made = Engines(tmp_path / "runtime.yaml")
    yield made
    made.end()


def ids(state: EngineState) -> dict[str, str]:
    return {flag: brake.id for flag, brake in state.brakes.items()}


def test_the_first_engine_finds_nothing_and_draws_its_id_once(engines: Engines) -> None:
    first = engines.start()
    assert (first.kept, first.brakes, first.troubles) == (None, {}, [])
    engines.end(first)
    assert engines.start().id == first.id


def test_brakes_and_state_come_back_as_they_were(engines: Engines) -> None:
    first = engines.start()
    first.brake("ttft_pipeline", STOPPED)
    first.keep(KEPT)
    engines.end()
    again = engines.start()
    assert again.brakes == {"ttft_pipeline": STOPPED}
    assert again.kept == KEPT
    assert again.troubles == []


def test_a_brake_is_on_the_disk_with_its_name_before_anybody_is_told(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = durable._sync

    def noting(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(durable, "_sync", noting)
    state = engines.start()
    for again in range(2):
        synced.clear()
        state.brake("ttft_pipeline", STOPPED)
        file = engines.file("ttft_pipeline.*")
        assert synced[-2:] == [file.stat().st_ino, file.parent.stat().st_ino], again


def test_a_lifted_brake_does_not_come_back(engines: Engines) -> None:
    first = engines.start()
    first.brake("ttft_pipeline", STOPPED)
    first.lift("ttft_pipeline", STOPPED)
    first.lift("ttft_pipeline", STOPPED)
    engines.end()
    assert engines.start().brakes == {}


def test_a_brake_whose_file_outlived_its_end_does_not_come_back(engines: Engines) -> None:
    """The engine ended between the state that lifts it and the file."""
    first = engines.start()
    first.brake("ttft_pipeline", Brake(id="77aa", cause=Cause.MANUAL))
    first.keep(KEPT)
    engines.end()
    assert engines.start().brakes == {}
    assert list(engines.root.rglob("brakes/*")) == []


@pytest.mark.parametrize("content", [b"", b'{"cause": "man', b"\xff\x00", b"[]"])
def test_a_torn_brake_brakes_with_its_id_and_is_named(engines: Engines, content: bytes) -> None:
    engines.start().brake("ttft_pipeline", STOPPED)
    engines.end()
    engines.file("ttft_pipeline.*").write_bytes(content)
    again = engines.start()
    assert ids(again) == {"ttft_pipeline": "3f2a"}
    assert again.brakes["ttft_pipeline"].cause == UNKNOWN
    assert "ttft_pipeline.3f2a.json" in again.troubles[0]
    again.lift("ttft_pipeline", again.brakes["ttft_pipeline"])
    engines.end()
    assert engines.start().brakes == {}


@pytest.mark.parametrize("name", ["something", ".hidden", "no_flag.3f2a.json"])
def test_a_brake_of_no_flag_brakes_all_of_them(engines: Engines, name: str) -> None:
    engines.start().brake("ttft_pipeline", STOPPED)
    engines.end()
    engines.file("ttft_pipeline.*").rename(engines.file("brakes") / name)
    assert engines.start().brakes.keys() == set(FLAGS)


@pytest.mark.parametrize(
    "content", [b"", b'{"id": "ab', b'{"id": "ab", "port": 1, "kept": {"served": 1}}', b"\xff"]
)
def test_a_torn_state_brakes_every_flag_and_keeps_the_brakes_that_are_known(
    engines: Engines, content: bytes
) -> None:
    first = engines.start()
    first.keep(KEPT)
    first.brake("ttft_pipeline", STOPPED)
    engines.end()
    engines.file("engine.json").write_bytes(content)
    again = engines.start()
    assert again.brakes.keys() == set(FLAGS)
    assert again.brakes["ttft_pipeline"].id == "3f2a"
    assert again.kept is None
    assert "engine.json" in again.troubles[0]
    engines.end()
    assert ids(engines.start()) == ids(again)  # they are durable themselves by now


def test_a_state_of_another_version_is_as_good_as_torn(engines: Engines) -> None:
    engines.start().keep(KEPT)
    engines.end()
    path = engines.file("engine.json")
    document = json.loads(path.read_bytes())
    document["kept"]["served"]["flags"]["ttft_pipeline"]["rollout_percentage"] = 500
    path.write_text(json.dumps(document))
    assert engines.start().brakes.keys() == set(FLAGS)


def test_two_engines_on_one_file_have_ids_and_brakes_of_their_own(engines: Engines) -> None:
    one, two = engines.start(8080), engines.start(8081)
    assert one.id != two.id
    two.brake("ttft_pipeline", STOPPED)
    engines.end()
    # Whatever the order in which they come back, and whoever is braked.
    back_two, back_one = engines.start(8081), engines.start(8080)
    assert (back_one.id, back_two.id) == (one.id, two.id)
    assert (ids(back_one), ids(back_two)) == ({}, {"ttft_pipeline": "3f2a"})


def test_of_engines_on_free_ports_as_many_are_braked_as_were(engines: Engines) -> None:
    engines.start(41_000)
    engines.start(41_001).brake("ttft_pipeline", STOPPED)
    engines.end()
    assert ids(engines.start(42_000)) == {"ttft_pipeline": "3f2a"}
    assert ids(engines.start(42_001)) == {}


def test_who_joins_begins_with_the_brakes_of_all_others(engines: Engines) -> None:
    engines.start(8080).brake("ttft_pipeline", STOPPED)
    engines.start(8081)
    joined = engines.start(8082)
    assert ids(joined) == {"ttft_pipeline": "3f2a"}
    engines.end(joined)
    assert ids(engines.start(8082)) == {"ttft_pipeline": "3f2a"}


def test_a_place_is_free_as_soon_as_its_engine_is_killed(engines: Engines) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from engine.server.state import claim\n"
        "state = claim(pathlib.Path(sys.argv[1]), 8080)\n"
        "print(state.id, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-P", "-c", script, str(engines.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        taken = process.stdout.readline().strip()
        assert engines.start().id != taken
        engines.end()
        process.kill()
    assert engines.start().id == taken


def test_a_folder_that_cannot_be_had_brakes_every_flag(engines: Engines) -> None:
    engines.root.write_text("in its place")
    state = engines.start()
    assert state.brakes.keys() == set(FLAGS)
    assert str(engines.root) in state.troubles[0]
    for write in (
        lambda: state.keep(KEPT),
        lambda: state.brake("ttft_pipeline", STOPPED),
        lambda: state.lift("ttft_pipeline", STOPPED),
    ):
        with pytest.raises(StateError, match=str(engines.root)):
            write()


def test_a_folder_whose_brakes_cannot_be_listed_brakes_every_flag(engines: Engines) -> None:
    engines.start()
    engines.end()
    (engines.root / "engine-0" / "brakes").write_text("in its place")
    assert engines.start().brakes.keys() == set(FLAGS)


def full(_path: Path, _data: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_at_the_start_brakes_every_flag(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be kept before the restart may have been a brake."""
    engines.start()
    engines.end()
    monkeypatch.setattr(durable, "replace_whole", full)
    state = engines.start()
    assert state.brakes.keys() == set(FLAGS)
    assert "engine.json: No space left on device" in state.troubles[0]


def test_what_cannot_be_written_is_named_and_the_old_state_stays(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = engines.start()
    state.keep(KEPT)
    with monkeypatch.context() as broken:
        broken.setattr(durable, "replace_whole", full)
        broken.setattr(durable, "write_new", full)
        with pytest.raises(StateError, match=r"engine\.json: No space left"):
            state.keep(KEPT)
        with pytest.raises(StateError, match=r"ttft_pipeline\.3f2a\.json: No space left"):
            state.brake("ttft_pipeline", STOPPED)
    engines.end()
    assert engines.start().kept == KEPT
