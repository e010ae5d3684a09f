"""The runtime process for real: started, asked, killed, orphaned."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from ears import PATIENCE_SECONDS, Ear, Play, local, outputs, requests, submit_all

from engine.runtime.interface import ReplicaState, RuntimeStartError
from engine.runtime.messages import Submit
from engine.runtime.models import ModelFiles
from engine.runtime.supervisor import Supervisor


def test_a_runtime_starts_answers_and_stops_clean(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        assert supervisor.ready
        (replica,) = supervisor.replicas()
        assert replica.pid is not None
        assert replica.state is ReplicaState.READY
        assert replica.device in {"cpu", "gpu"}
        (output,) = await outputs(submit_all(supervisor, requests(1, 1)))
        assert len(output) == 24

    play(scene)


def test_a_cancelled_stream_frees_the_runtime(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        endless, after = requests(2, 1)
        ear = Ear()
        supervisor.submit(Submit(uid=9, prompt=endless.prompt, max_tokens=8000, seed=1), ear)
        await ear.heard.wait()
        supervisor.cancel(9)
        heard = len(ear.tokens)
        await outputs(submit_all(supervisor, [after]))
        assert len(ear.tokens) == heard
        assert supervisor.replicas()[0].streams == 0

    play(scene)


def test_a_request_that_cannot_begin_faults_alone(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        bad, (good, *_) = Ear(), requests(1, 1)
        supervisor.submit(Submit(uid=99, prompt=[], max_tokens=1, seed=0), bad)
        await outputs(submit_all(supervisor, [good]))
        await bad.over.wait()
        assert "empty prompt" in bad.faults[0]

    play(scene)


def test_an_interrupt_from_the_terminal_leaves_the_runtime_to_the_front_end(
    play: Play,
) -> None:
    async def scene(supervisor: Supervisor) -> None:
        pid = supervisor.replicas()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGINT)
        await outputs(submit_all(supervisor, requests(1, 1)))
        assert supervisor.replicas()[0].restarts == 0

    play(scene)


def test_a_runtime_that_does_not_obey_is_killed(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        pid = supervisor.replicas()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # neither Stop nor SIGTERM reaches it now

    play(scene)  # asserts that it is gone


def test_a_folder_without_a_model_is_one_line_that_names_it(tmp_path: Path) -> None:
    model = ModelFiles(name="broken", path=tmp_path, sha256="", builtin=False)
    supervisor = Supervisor(local(model))
    with pytest.raises(RuntimeStartError) as caught:
        asyncio.run(supervisor.start())
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "FileNotFoundError" in message
    assert "\n" not in message
    assert psutil.Process().children() == []


def test_a_blas_that_is_not_there_is_a_start_error(
    tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASE5_BLAS", "/gone/libopenblas.so.0")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(RuntimeStartError, match="PHASE5_BLAS=/gone"):
        asyncio.run(Supervisor(local(tiny)).start())


FRONT_END = """
    import asyncio
    from engine.config import RuntimeConfig
    from engine.runtime.backends import LocalBackend
    from engine.runtime.models import resolve_model
    from engine.runtime.supervisor import Supervisor
    from engine.runtime.work import Work

    async def main():
        work = Work(model=resolve_model("tiny"), config=RuntimeConfig(), prefix_bytes=0)
        supervisor = Supervisor(LocalBackend(work).spawn)
        await supervisor.start()
        print(supervisor.replicas()[0].pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def test_no_orphan_remains_when_the_front_end_is_killed() -> None:
    command = [sys.executable, "-P", "-c", textwrap.dedent(FRONT_END)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front_end:
        assert front_end.stdout is not None
        runtime = psutil.Process(int(front_end.stdout.readline()))
        front_end.kill()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _alive(runtime) and time.monotonic() < deadline:
        with contextlib.suppress(psutil.TimeoutExpired):
            runtime.wait(timeout=0.05)
    assert not _alive(runtime)


def test_the_front_end_side_imports_no_mlx() -> None:
    code = (
        "import sys, engine.runtime.backends, engine.runtime.ray_backend\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mlx', 'mlx_lm')])"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def _alive(process: psutil.Process) -> bool:
    """A zombie that only waits for its parent to notice is not alive."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
