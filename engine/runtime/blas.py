"""Which BLAS the runtime process computes with.

mlx's Linux wheel carries the reference BLAS. With OpenBLAS preloaded the same product is
33 times as fast (1024 x 1024 fp32 on two cores: 5.2 against 172 GFLOP/s). macOS needs nothing.
"""

import ctypes.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

#: What is lost without OpenBLAS, and the way to it.
ADVICE: Final = (
    "OpenBLAS not found: the model computes about 33 times slower with the reference BLAS; "
    "install it (Debian, Ubuntu: apt-get install libopenblas0-pthread; "
    "Fedora: dnf install openblas-threads) or set PHASE5_BLAS to libopenblas.so.0"
)

#: What `loaded` says of the BLAS in mlx's own wheel.
REFERENCE: Final = "reference"

#: `PHASE5_BLAS` with this value keeps the reference BLAS.
NONE: Final = "none"

#: What OpenBLAS reads, once, when it is loaded.
THREADS_VARIABLE: Final = "OPENBLAS_NUM_THREADS"

#: Models below this size on disk lose more to a second thread's hand-over than they gain.
_ONE_THREAD_BYTES: Final = 64 * 1024 * 1024

#: More threads than this take cores from the front end and bring little at batch sizes of ours.
_MAX_THREADS: Final = 2

_NAME: Final = "libopenblas.so.0"
_FOLDERS: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/openblas/lib")


class BlasError(ValueError):
    """`PHASE5_BLAS` names something that is not there."""


def find_openblas(environment: Mapping[str, str] | None = None) -> str | None:
    """What `LD_PRELOAD` should name: a path, or a name that the loader knows.

    Looks at `PHASE5_BLAS`, the usual folders, the tools folder (`PHASE5_TOOLS`, else `.tools`
    of the checkout), and what the loader itself knows.

    Raises:
        BlasError: when `PHASE5_BLAS` is set to a path that is not a file.
    """
    environment = os.environ if environment is None else environment
    if given := environment.get("PHASE5_BLAS"):
        return _given(given)
    found = next(_candidates(environment), None)
    return str(found) if found else ctypes.util.find_library("openblas")


def child_environment(
    model_bytes: int,
    environment: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    *,
    processes: int = 1,
) -> dict[str, str]:
    """The environment of a runtime process for a model of this size on disk.

    `processes` of them share the cores.

    Raises:
        BlasError: see `find_openblas`.
    """
    environment = dict(os.environ if environment is None else environment)
    if platform != "linux":
        return environment
    environment.setdefault(THREADS_VARIABLE, str(threads(model_bytes, processes)))
    if library := find_openblas(environment):
        _prepend(environment, "LD_PRELOAD", [library])
        _prepend(environment, "LD_LIBRARY_PATH", _companions(Path(library), environment))
    return environment


def threads(model_bytes: int, processes: int = 1) -> int:
    """BLAS threads for a model: one for small models, else up to two, and no more than cores.

    Processes that compute with more threads than there are cores wait for each other's.
    """
    if model_bytes < _ONE_THREAD_BYTES:
        return 1
    return max(1, min(_MAX_THREADS, (os.cpu_count() or 1) // processes))


def loaded(maps: Path = Path("/proc/self/maps"), platform: str = sys.platform) -> str:
    """The BLAS of this very process, from what is mapped into it: a fact, not an intention."""
    if platform == "darwin":
        return "accelerate"
    libraries = {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    names = sorted(Path(library).name for library in libraries)
    return next((name for name in names if "openblas" in name), REFERENCE)


def describe(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> str:
    """One line for `phase5 doctor`: what a runtime process will compute with."""
    if platform == "darwin":
        return "Accelerate and Metal (nothing to install)"
    try:
        library = find_openblas(environment)
    except BlasError as error:
        return str(error)
    return f"OpenBLAS: {library}" if library else ADVICE


def _given(path: str) -> str | None:
    if path == NONE:
        return None
    if not Path(path).is_file():
        raise BlasError(f"PHASE5_BLAS={path}: no such file; give a libopenblas.so.0 or {NONE!r}")
    return path


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from sorted(Path(folder).glob(_NAME))
        yield from sorted(Path(folder).glob(f"*-linux-gnu/{_NAME}"))
    yield from sorted(tools_folder(environment).rglob(_NAME))


def tools_folder(environment: Mapping[str, str]) -> Path:
    """Where `./dev` unpacks libraries: `PHASE5_TOOLS`, else `.tools` of the checkout."""
    checkout = Path(__file__).resolve().parents[2]
    return Path(environment.get("PHASE5_TOOLS") or checkout / ".tools")


def _companions(library: Path, environment: Mapping[str, str]) -> list[str]:
    """Folders of what an unpacked OpenBLAS needs (the Fortran runtime) beside it."""
    tools = tools_folder(environment).resolve()
    if tools not in library.resolve().parents:
        return []
    needed = [*tools.rglob("libgfortran.so*"), *tools.rglob("libquadmath.so*")]
    return sorted({str(library.parent), *(str(path.parent) for path in needed)})


def _prepend(environment: dict[str, str], name: str, values: list[str]) -> None:
    present = [environment[name]] if environment.get(name) else []
    if values:
        environment[name] = ":".join([*values, *present])
