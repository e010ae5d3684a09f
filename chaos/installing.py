"""Where the Toxiproxy server comes from: found, or built from its Go module.

There is no package of it for Python, npm or Debian, so it is built once, and Go's checksum
database vouches for the source. Nothing else stands in for the real server.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from chaos.errors import InstallError

#: The latest release; a version that changes by itself would change what faults mean.
MODULE: Final = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"

#: What it is called on the PATH and in the tools folder; Go names it after its folder.
SERVER: Final = "toxiproxy-server"
_AS_BUILT: Final = "server"

#: Names the program, where it is none of the usual places.
VARIABLE: Final = "TOXIPROXY_SERVER"

#: Where Go puts itself, which is not on everybody's PATH.
_GO: Final = "/usr/local/go/bin/go"

#: Downloads of twenty modules, and a build of half a minute on two cores.
_BUILD_SECONDS: Final = 900.0

#: How to get it, for messages.
ADVICE: Final = "run `phase5 chaos install`, or name the program in TOXIPROXY_SERVER"

LookUp = Callable[[str], str | None]


def find_server(
    tools: Path, environment: Mapping[str, str] = os.environ, look_up: LookUp = shutil.which
) -> Path | None:
    """The server's program: by its variable, on the PATH, or in the tools folder.

    Raises:
        InstallError: the variable names something that is no program.
    """
    given = environment.get(VARIABLE)
    if given:
        named = look_up(given)
        if named is None:
            raise InstallError(f"{VARIABLE}={given} is not a program; {ADVICE}")
        return Path(named)
    found = look_up(SERVER) or look_up(str(tools / SERVER))
    return Path(found) if found else None


def require_server(tools: Path) -> Path:
    """As `find_server`.

    Raises:
        InstallError: there is none.
    """
    found = find_server(tools)
    if found is None:
        raise InstallError(f"no {SERVER}: not in {VARIABLE}, on the PATH or in {tools}; {ADVICE}")
    return found


def install(tools: Path, look_up: LookUp = shutil.which) -> Path:
    """Build the server into the tools folder; returns its path.

    Raises:
        InstallError: there is no Go, or the build fails.
    """
    go = look_up("go") or look_up(_GO)
    if go is None:
        raise InstallError(f"no Go to build {SERVER} with: not on the PATH, nor {_GO}")
    tools.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools, prefix="toxiproxy-") as folder:
        _build(go, Path(folder))
        # In one step: nobody ever finds half of it.
        Path(folder, _AS_BUILT).replace(tools / SERVER)
    return tools / SERVER


def _build(go: str, folder: Path) -> None:
    try:
        subprocess.run(  # noqa: S603 - a fixed module
            [go, "install", MODULE],
            env={**os.environ, "GOBIN": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else "without a word"
        raise InstallError(f"{go} install {MODULE}: exit {error.returncode}: {reason}") from None
    except subprocess.TimeoutExpired:
        raise InstallError(f"{go} install {MODULE}: not done in {_BUILD_SECONDS:g} s") from None
