"""Replicas as actors of a real Ray, which is started here once: that takes seconds."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ears import PATIENCE_SECONDS, outputs, requests, submit_all
from served import alive, until

from engine.config import RuntimeConfig
from engine.runtime.backends import make_pool
from engine.runtime.interface import RuntimeStartError
from engine.runtime.models import ModelFiles
from engine.runtime.pool import Pool
from engine.runtime.ray_backend import LOCAL, join


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray on this machine; none of its processes is left afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)  # pytest's own folders have names too long for sockets
        try:
            join(LOCAL)
            yield ray.get_runtime_context().gcs_address
            theirs = psutil.Process().children(recursive=True)
            assert theirs
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, before)
        _, remaining = psutil.wait_procs(theirs, timeout=PATIENCE_SECONDS)
        assert remaining == []


@pytest.mark.usefixtures("cluster")
def test_no_stream_notices_that_an_actor_is_killed(tiny: ModelFiles) -> None:
    async def scene(pool: Pool) -> None:
        undisturbed = await outputs(submit_all(pool, requests(12, 1, max_tokens=64)))
        ears = submit_all(pool, requests(12, 101, max_tokens=64))
        await asyncio.gather(*(ear.heard.wait() for ear in ears))
        victim = pool.replicas()[0]
        assert victim.pid is not None
        assert victim.streams > 0
        os.kill(victim.pid, signal.SIGKILL)
        assert await outputs(ears) == undisturbed
        assert sum(replica.restarts for replica in pool.replicas()) == 1

    async def run() -> None:
        pool = make_pool(tiny, RuntimeConfig(backend="ray"), 0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await pool.start()
            actors = [psutil.Process(replica.pid) for replica in pool.replicas()]
            try:
                await scene(pool)
            finally:
                await pool.stop()
        _, remaining = psutil.wait_procs(actors, timeout=PATIENCE_SECONDS)
        assert remaining == []

    asyncio.run(run())
    assert ray.is_initialized()  # a Ray that was there before is left alone


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_cannot_load_the_model_says_why(tiny: ModelFiles) -> None:
    gone = ModelFiles(name="gone", path=tiny.path / "gone", sha256="", builtin=False)

    async def run() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await make_pool(gone, RuntimeConfig(backend="ray"), 0).start()

    with pytest.raises(RuntimeStartError, match="cannot load the model in") as caught:
        asyncio.run(run())
    assert str(gone.path) in str(caught.value)
    assert "\n" not in str(caught.value)


FRONT_END = """
    import asyncio, sys
    from engine.config import RuntimeConfig
    from engine.runtime.backends import make_pool
    from engine.runtime.models import resolve_model

    async def main():
        config = RuntimeConfig(backend="ray", ray_address=sys.argv[1])
        pool = make_pool(resolve_model("tiny"), config, 0)
        await pool.start()
        print(pool.replicas()[0].pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def test_the_actor_of_a_front_end_that_is_killed_ends(cluster: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", textwrap.dedent(FRONT_END), cluster]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as front_end:
        assert front_end.stdout is not None
        actor = psutil.Process(int(front_end.stdout.readline()))
        front_end.kill()
    until(lambda: not alive(actor))
