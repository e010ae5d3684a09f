import os
from pathlib import Path

import pytest
from gate_builders import policy
from store_builders import (
    GOVERNOR,
    HTTP2,
    MINIMAL,
    at,
    clone,
    git,
    git_store,
    names,
    push,
    record,
    remote,
    step,
)

from gates.durable import locked
from gates.git import GitError, Repository, redacted
from gates.git_store import CONFIG_FILE, GitStore
from gates.history import HISTORY_FILE
from gates.stages import OFF, Event
from gates.store import ConflictError, LockedError, Store, StoreError

POLICY = policy()


@pytest.fixture(name="bare")
def _bare(tmp_path: Path) -> Path:
    return remote(tmp_path)


@pytest.fixture(name="store")
def _store(bare: Path, tmp_path: Path) -> Store:
    return git_store(bare, tmp_path / "one")


def commit(bare: Path, path: str, text: str) -> None:
    """A change of the branch that a person makes in a clone."""
    work = clone(bare)
    (work / path).parent.mkdir(exist_ok=True)
    (work / path).write_text(text, encoding="utf-8")
    push(work)


def test_a_change_is_one_commit_with_configuration_and_history(bare: Path, store: Store) -> None:
    written = step(store, Event.PROMOTE)
    assert written == store.read()
    assert (written.generation, written.flags[GOVERNOR].stage) == (1, "early")
    assert git("-C", bare, "rev-parse", "main") == written.version
    assert git("-C", bare, "log", "--format=%s", "main") == "Promote adaptive_governor\nstart"
    assert "canary -> early" in git("-C", bare, "log", "-1", "--format=%b", "main")
    files = git("-C", bare, "diff", "--name-only", "main~", "main").split()
    assert files == [CONFIG_FILE, HISTORY_FILE]
    assert store.history().problems == ()


def test_operators_comments_and_other_files_stay(bare: Path, store: Store) -> None:
    commit(bare, "README.md", "ours")
    step(store, Event.PROMOTE)
    text = git("-C", bare, "show", f"main:{CONFIG_FILE}")
    assert "rollout_percentage: 10 # Canary" in text.replace("  #", " #")
    assert git("-C", bare, "show", "main:README.md") == "ours"


def test_of_two_clones_that_decided_on_one_commit_the_second_is_refused(
    tmp_path: Path, bare: Path, store: Store
) -> None:
    other = git_store(bare, tmp_path / "two")
    seen = store.read()
    step(other, Event.ROLLBACK)
    with pytest.raises(ConflictError, match="decided on generation 0, found generation 1"):
        step(store, Event.PROMOTE, before=seen)
    assert store.read().flags[GOVERNOR].stage == OFF
    assert store.history().problems == ()
    assert len(store.history().records) == 1


def test_an_edit_by_hand_in_between_is_a_conflict_too(bare: Path, store: Store) -> None:
    seen = store.read()
    commit(bare, CONFIG_FILE, MINIMAL.replace("sample_rate: 10", "sample_rate: 5"))
    with pytest.raises(ConflictError, match="found generation 0"):
        step(store, Event.PROMOTE, before=seen)
    assert step(store, Event.PROMOTE).config.phase4_rollout.qos_monitoring.sample_rate == 5


def test_a_refusal_of_the_remote_changes_nothing_and_is_told(bare: Path, store: Store) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho only CI promotes >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(StoreError, match="only CI promotes") as caught:
        step(store, Event.PROMOTE)
    assert not isinstance(caught.value, ConflictError)
    assert store.read().generation == 0


def test_a_push_whose_answer_was_lost_is_found_to_have_arrived(bare: Path, store: Store) -> None:
    """The remote took it, and then said that it failed."""
    hook = bare / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nkill -9 $PPID\n")
    hook.chmod(0o755)
    assert step(store, Event.PROMOTE).generation == 1
    hook.unlink()
    assert store.read().generation == 1


def test_a_remote_that_is_gone_is_named_without_credentials(tmp_path: Path) -> None:
    store = GitStore("https://ada:secret@127.0.0.1:1/x.git", "main", tmp_path / "c.yaml", POLICY)
    with pytest.raises(StoreError) as caught:
        store.read()
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value) + store.where


def test_a_branch_that_is_not_there_is_named(bare: Path, tmp_path: Path) -> None:
    store = GitStore(str(bare), "rollout", tmp_path / "runtime.yaml", POLICY)
    with pytest.raises(StoreError, match=r"#rollout: git fetch: .*rollout"):
        store.read()


def test_a_push_to_a_remote_that_vanished_may_have_arrived(bare: Path, store: Store) -> None:
    seen = store.read()
    bare.rename(bare.with_name("away"))
    with pytest.raises(StoreError, match="it is not known whether the change arrived"):
        step(store, Event.ROLLBACK, before=seen)


def test_a_remote_that_does_not_answer_is_given_up(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = git_store(bare, tmp_path / "one")
    seen = store.read()
    slow = git_store(bare, tmp_path / "one", seconds=0.2)
    upload = tmp_path / "never"
    upload.write_text("#!/bin/sh\nexec sleep 60\n")
    upload.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(upload))
    slow._remote = "ssh://127.0.0.1/remote.git"
    with pytest.raises(StoreError, match=r"git fetch: no answer in 0.2 s"):
        slow.read()
    with pytest.raises(StoreError, match=r"git push: no answer in 0.2 s.*not known"):
        step(slow, Event.ROLLBACK, before=seen)


def test_a_branch_that_was_rewritten_is_a_problem_until_it_is_whole_again(
    bare: Path, store: Store
) -> None:
    start = store.read().version
    step(store, Event.PROMOTE)
    tip = step(store, Event.ROLLBACK).version
    git("-C", bare, "update-ref", "refs/heads/main", start)
    assert store.read().generation == 0
    assert store.history().problems[0].endswith("is no longer part of it")
    git("-C", bare, "update-ref", "refs/heads/main", tip)
    assert store.history().problems == ()
    git("-C", bare, "update-ref", "refs/heads/main", start)
    assert step(store, Event.ROLLBACK).generation == 1  # which needs no history
    assert store.history().problems


def test_a_branch_that_was_put_back_in_between_is_a_conflict(bare: Path, store: Store) -> None:
    """The push would be a plain advance, and bring back what somebody took away."""
    start = store.read().version
    seen = step(store, Event.PROMOTE)
    git("-C", bare, "update-ref", "refs/heads/main", start)
    with pytest.raises(ConflictError, match="decided on generation 1, found generation 0"):
        step(store, Event.PROMOTE, before=seen)
    assert git("-C", bare, "rev-parse", "main") == start


def test_locks_of_commands_that_were_killed_do_not_stand_in_the_way(
    tmp_path: Path, store: Store
) -> None:
    store.read()
    clone = tmp_path / "one" / "runtime.yaml.state" / "store.git"
    for name in ("refs/phase5/tip.lock", "packed-refs.lock", "config.lock"):
        (clone / name).touch()
    assert step(store, Event.PROMOTE).generation == 1


def test_a_history_that_was_cut_in_the_repository_is_found(bare: Path, store: Store) -> None:
    step(store, Event.PROMOTE)
    step(store, Event.PROMOTE)
    text = git("-C", bare, "show", f"main:{HISTORY_FILE}")
    commit(bare, HISTORY_FILE, text.splitlines()[0] + "\n")
    assert any("cut off" in problem for problem in store.history().problems)
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF


def test_a_history_that_is_a_link_gives_way_and_modes_stay(bare: Path, store: Store) -> None:
    work = clone(bare)
    (work / CONFIG_FILE).chmod(0o755)
    (work / HISTORY_FILE).parent.mkdir()
    (work / HISTORY_FILE).symlink_to("elsewhere")
    push(work)
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF
    modes = [line.split()[0] for line in git("-C", bare, "ls-tree", "-r", "main").splitlines()]
    assert modes == ["100755", "100644"]


def test_a_configuration_that_is_missing_in_the_repository_is_named(
    bare: Path, store: Store
) -> None:
    work = clone(bare)
    (work / CONFIG_FILE).rename(work / "aside.yaml")
    push(work)
    with pytest.raises(StoreError, match=CONFIG_FILE):
        store.read()


def test_the_clone_is_used_by_one_process_at_a_time(tmp_path: Path, bare: Path) -> None:
    store = git_store(bare, tmp_path / "one", lock_seconds=0)
    store.read()
    lock, held = tmp_path / "one/runtime.yaml.state/store.lock", f"held by process {os.getpid()}"
    with locked(lock, 0), pytest.raises(LockedError, match=f"{lock}: {held}"):
        store.read()


def test_a_clone_that_was_half_made_is_finished(tmp_path: Path, store: Store) -> None:
    (tmp_path / "one" / "runtime.yaml.state" / "store.git").mkdir(parents=True)
    assert store.read().generation == 0


@pytest.mark.parametrize(("remote", "branch"), [("--upload-pack=x", "main"), ("x", "-f")])
def test_what_git_would_take_for_an_option_is_refused(
    tmp_path: Path, remote: str, branch: str
) -> None:
    with pytest.raises(StoreError, match="begins with '-'"):
        GitStore(remote, branch, tmp_path / "runtime.yaml", POLICY)


@pytest.mark.usefixtures("bare")
def test_a_relative_remote_is_found_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    store = GitStore("../remote.git", "main", tmp_path / "three" / "runtime.yaml", POLICY)
    assert store.read().generation == 0


def test_a_standing_that_does_not_fit_is_not_pushed(bare: Path, store: Store) -> None:
    with pytest.raises(StoreError, match="would not stand"):
        store.write(store.read(), {HTTP2: at("mid", percentage=3)}, record(Event.PROMOTE))
    assert git("-C", bare, "log", "--format=%s", "main") == "start"


def test_no_scratch_files_stay(tmp_path: Path, store: Store) -> None:
    step(store, Event.PROMOTE)
    assert names(tmp_path / "one" / "runtime.yaml.state") == ["store.git", "store.lock"]


def test_a_commit_has_an_author_where_nobody_is_configured(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    step(git_store(bare, tmp_path / "one"), Event.PROMOTE)
    assert (
        git("-C", bare, "log", "-1", "--format=%an %ae %cn", "main")
        == "Ada phase5@localhost phase5"
    )


def test_a_repository_of_the_environment_is_not_used(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook of Git's, which names its own."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "work" / "elsewhere"))
    assert step(store, Event.PROMOTE).generation == 1


def test_git_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git cannot be started"):
        Repository(tmp_path / "x.git").prepare()


def test_a_question_that_git_cannot_answer_is_no_no(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "x.git")
    repository.prepare()
    assert not repository.asks("rev-parse", "--quiet", "--verify", "refs/heads/main")
    with pytest.raises(GitError, match="merge-base"):
        repository.asks("merge-base", "--is-ancestor", "nothing", "none")


def test_credentials_are_taken_out_of_texts() -> None:
    text = "fatal: https://ada:se%23cret@host/x and ssh://git@host/y and http://host/z"
    assert redacted(text) == "fatal: https://host/x and ssh://host/y and http://host/z"
