"""A disk of our own: seen by those who were let in, and gone with whoever holds it."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from chaos.catalogue import EXPERIMENTS
from chaos.disk import SIZE, mounted
from chaos.runner import run
from gates.evidence import ChaosVerdict
from pytest_phase5.breaking.stage import LEASH, LocalStage

#: Root that may mount nothing: as anybody is, who is let into a user namespace all the same.
ANYBODY = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")


@pytest.mark.parametrize("right", [(), ANYBODY])
def test_a_disk_is_small_private_and_leaves_nothing(tmp_path: Path, right: tuple[str, ...]) -> None:
    place = tmp_path / "disk"
    with mounted(place, (*LEASH, *right)) as disk:
        assert 0 < disk.free() <= SIZE
        subprocess.run([*disk.enter, "sh", "-c", f"echo kept > {disk.inside}/file"], check=True)
        assert (disk.outside / "file").read_text() == "kept\n"
        with pytest.raises(OSError, match="No space left") as refused:
            (disk.outside / "ballast").write_bytes(bytes(SIZE))
        assert refused.value.errno == errno.ENOSPC
        assert os.listdir(place) == []  # noqa: PTH208 - names are all that matters
        assert str(place) not in Path("/proc/self/mounts").read_text()
        held = disk.outside
    assert not held.exists()
    assert os.listdir(place) == []  # noqa: PTH208 - as above


def test_who_may_mount_nothing_gets_no_pass_and_is_told_of_the_other_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: Operation not permitted'\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    account = run(EXPERIMENTS["disk-full"], LocalStage(folder=tmp_path / "stage", model="tiny"))
    assert account.verdict is ChaosVerdict.INVALID
    reason = account.judgement.reasons[0]
    assert "Operation not permitted" in reason
    assert "experiment disk-full-by-limit" in reason
