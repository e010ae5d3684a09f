import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_builders import policy
from store_builders import GOVERNOR, MINIMAL, NOW, SOUND, file_store, record, remote, step

from engine.config import packaged
from gates.stages import OFF, Event
from gates.store import ConflictError, Decide, Snapshot, Store, StoreError, insist, open_store
from gates.transitions import moved


def configured(folder: Path, store: str) -> Path:
    """A configuration that names a store."""
    path = folder / "runtime.yaml"
    path.write_text(f"{MINIMAL}rollout:\n  store: {store}\n", encoding="utf-8")
    return path


def roll_back(before: Snapshot) -> tuple[dict[str, object], object]:
    after = moved(policy(), before.flags, [GOVERNOR], Event.ROLLBACK, now=NOW, candidate=SOUND)
    return after, record(Event.ROLLBACK)  # type: ignore[return-value]  # mappings of their own


def after_others(store: Store, times: int) -> Decide:
    """A decision during which another one writes, some times."""
    others: Iterator[Event] = iter([Event.HOLD, Event.RESUME, Event.HOLD][:times])

    def decide(before: Snapshot) -> tuple[dict[str, object], object]:
        for event in others:
            step(store, event)
            break
        return roll_back(before)

    return decide  # type: ignore[return-value]  # mappings of their own


def test_a_configuration_that_names_no_store_is_its_own(tmp_path: Path) -> None:
    store = open_store(configured(tmp_path, "null"))
    assert step(store, Event.PROMOTE) == store.read()
    assert store.where == f"file:{tmp_path}/runtime.yaml"


def test_another_file_is_found_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "state.yaml").write_text(MINIMAL)
    store = open_store(configured(tmp_path, "file:state.yaml"))
    step(store, Event.PROMOTE)
    assert "early" in (tmp_path / "state.yaml").read_text()


def test_a_branch_is_a_store(tmp_path: Path) -> None:
    bare = remote(tmp_path)
    store = open_store(configured(tmp_path, f"git:{bare}#main"))
    assert (store.where, store.read().generation) == (f"git:{bare}#main", 0)


@pytest.mark.parametrize("name", ["svn:x", "file:", "git:x", "git:#main", "git:x#"])
def test_what_names_no_store_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=r"allowed: file:PATH or git:REMOTE#BRANCH"):
        open_store(configured(tmp_path, f'"{name}"'))


def test_a_configuration_that_is_broken_names_no_store(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text("generation: [")
    with pytest.raises(StoreError, match=r"names no store: .*not YAML"):
        open_store(path)


def test_shares_are_those_of_the_policy_beside_the_configuration(tmp_path: Path) -> None:
    other = re.sub(r"percentage: 1\b", "percentage: 2", packaged("gates.yaml").read_text())
    (tmp_path / "gates.yaml").write_text(other)
    config = configured(tmp_path, "null")
    assert open_store(config).read().flags[GOVERNOR].stage == "unmanaged"
    assert open_store(config, policy()).read().flags[GOVERNOR].stage == "canary"


def test_a_rollback_insists_though_others_write(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    after = insist(store, after_others(store, 2))
    assert (after.generation, after.flags[GOVERNOR].stage) == (3, OFF)


def test_who_is_always_overtaken_gives_up_and_says_so(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    with pytest.raises(ConflictError, match="decided on generation 1, found generation 2"):
        insist(store, after_others(store, 3), attempts=2)


def test_a_store_is_opened_without_the_libraries_of_the_judge(tmp_path: Path) -> None:
    """A rollback should not wait for them."""
    code = "import sys; import gates.store, gates.file_store, gates.git_store; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    )
    assert not {"numpy", "mlx", "pytest", "rich"} & set(done.stdout.split())
    assert tmp_path.exists()
