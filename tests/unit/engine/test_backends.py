import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine.config import RuntimeConfig
from engine.runtime.backends import make_pool
from engine.runtime.interface import RuntimeStartError
from engine.runtime.models import ModelFiles
from engine.runtime.ray_backend import changed

MODEL = ModelFiles(name="tiny", path=Path(), sha256="", builtin=True)


def test_without_ray_one_line_names_the_extra() -> None:
    code = """
        import sys
        sys.modules["ray"] = None  # what is not installed cannot be imported
        from pathlib import Path
        from engine.config import ConfigError, RuntimeConfig
        from engine.runtime.backends import make_pool
        from engine.runtime.models import ModelFiles

        model = ModelFiles(name="tiny", path=Path(), sha256="", builtin=True)
        try:
            make_pool(model, RuntimeConfig(backend="ray"), 0)
        except ConfigError as error:
            print(error)
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = answer.stdout.splitlines()
    assert "runtime.backend ray" in line
    assert "pytest-phase5[engine,ray]" in line


def test_an_address_that_cannot_be_had_is_one_line_that_names_the_keys() -> None:
    async def start() -> None:
        config = RuntimeConfig(backend="tls", link_host="203.0.113.1", link_port=7)
        await make_pool(MODEL, config, 0).start()

    with pytest.raises(RuntimeStartError, match=r"link_host 203.0.113.1, runtime.link_port 7: \w+"):
        asyncio.run(start())


def test_an_actor_is_given_what_differs_and_none_of_our_secrets() -> None:
    own = {"PHASE5_ADMIN_TOKEN": "secret", "LD_PRELOAD": "a.so", "HOME": "/root"}
    wanted = {**own, "LD_PRELOAD": "blas.so:a.so", "OPENBLAS_NUM_THREADS": "1"}
    assert changed(wanted, own) == {"LD_PRELOAD": "blas.so:a.so", "OPENBLAS_NUM_THREADS": "1"}
