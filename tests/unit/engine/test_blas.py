import os
from pathlib import Path

import pytest

from engine.runtime import blas


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "libopenblas.so.0"
    path.parent.mkdir()
    path.touch()
    return path


def test_phase5_blas_wins_over_what_is_installed(library: Path) -> None:
    assert blas.find_openblas({"PHASE5_BLAS": str(library)}) == str(library)


def test_phase5_blas_that_is_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    given = tmp_path / "nothing.so"
    with pytest.raises(blas.BlasError, match=r"PHASE5_BLAS=.*nothing\.so: no such file; give"):
        blas.find_openblas({"PHASE5_BLAS": str(given)})


def test_phase5_blas_none_keeps_the_reference_blas() -> None:
    environment = blas.child_environment(0, {"PHASE5_BLAS": "none"}, "linux")
    assert "LD_PRELOAD" not in environment


@pytest.mark.parametrize("present", ["", "/lib/other.so"])
def test_the_library_is_preloaded_before_what_is_preloaded_already(
    library: Path, present: str
) -> None:
    given = {"PHASE5_BLAS": str(library), "LD_PRELOAD": present}
    environment = blas.child_environment(0, given, "linux")
    assert environment["LD_PRELOAD"] == ":".join(filter(None, [str(library), present]))


def test_an_unpacked_library_brings_the_folders_that_it_needs(tmp_path: Path) -> None:
    unpacked = tmp_path / "usr" / "lib" / "openblas-pthread" / "libopenblas.so.0"
    unpacked.parent.mkdir(parents=True)
    unpacked.touch()
    fortran = tmp_path / "usr" / "lib" / "libgfortran.so.5"
    fortran.touch()
    given = {"PHASE5_BLAS": str(unpacked), "PHASE5_TOOLS": str(tmp_path)}
    environment = blas.child_environment(0, given, "linux")
    folders = environment["LD_LIBRARY_PATH"].split(":")
    assert folders == sorted([str(unpacked.parent), str(fortran.parent)])


def test_an_installed_library_changes_no_search_path(library: Path, tmp_path: Path) -> None:
    given = {"PHASE5_BLAS": str(library), "PHASE5_TOOLS": str(tmp_path / "tools")}
    assert "LD_LIBRARY_PATH" not in blas.child_environment(0, given, "linux")


def test_macos_needs_nothing() -> None:
    assert blas.child_environment(0, {"HOME": "/h"}, "darwin") == {"HOME": "/h"}
    assert blas.loaded(platform="darwin") == "accelerate"
    assert "nothing to install" in blas.describe({}, "darwin")


def test_small_models_get_one_thread_and_large_ones_at_most_two() -> None:
    assert blas.threads(1_000_000) == 1
    assert 1 <= blas.threads(500_000_000) <= 2


def test_processes_share_the_cores() -> None:
    cores = os.cpu_count() or 1
    assert blas.threads(500_000_000, cores) == 1
    assert blas.threads(500_000_000, 2 * cores) == 1
    environment = blas.child_environment(
        500_000_000, {"PHASE5_BLAS": "none"}, "linux", processes=cores
    )
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


def test_threads_set_by_the_user_stay() -> None:
    given = {"PHASE5_BLAS": "none", "OPENBLAS_NUM_THREADS": "7"}
    assert blas.child_environment(0, given, "linux")["OPENBLAS_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [
        ("/usr/lib/openblas-pthread/libopenblasp-r0.3.21.so", "libopenblasp-r0.3.21.so"),
        ("/site-packages/mlx_cpu.libs/libblas-1a2b.so.3", "reference"),
    ],
)
def test_the_blas_in_use_is_read_from_what_is_mapped(
    tmp_path: Path, mapped: str, expected: str
) -> None:
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 00000000 fe:00 123 {mapped}\n7f02-7f03 rw-p 0 00:00 0\n")
    assert blas.loaded(maps, "linux") == expected


def test_describe_names_the_library_or_the_mistake(library: Path) -> None:
    assert str(library) in blas.describe({"PHASE5_BLAS": str(library)}, "linux")
    assert "no such file" in blas.describe({"PHASE5_BLAS": "/gone"}, "linux")
    assert "33 times slower" in blas.describe({"PHASE5_BLAS": "none"}, "linux")
