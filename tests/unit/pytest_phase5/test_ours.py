import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pytest_phase5.ours import PACKAGES, ForeignPackageError, check_ours, foreign_packages

HOME = Path(__file__).resolve().parents[3]


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code as `python -c` does: with the current folder first on the path."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_our_own_packages_pass() -> None:
    check_ours()
    assert foreign_packages() == ()


def test_the_error_is_the_callers_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chaos", ModuleType("chaos"))
    with pytest.raises(pytest.UsageError, match="'chaos' is not found"):
        check_ours(pytest.UsageError)


def test_every_package_is_compared_with_its_home(tmp_path: Path) -> None:
    foreign = foreign_packages(tmp_path)
    assert [package.name for package in foreign] == list(PACKAGES)
    for package in foreign:
        assert package.found == HOME / package.name
        assert package.expected == tmp_path / package.name


@pytest.mark.parametrize("place", ["{name}/__init__.py", "{name}.py"])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_foreign_package_is_named_with_both_paths_and_not_imported(
    name: str, place: str, tmp_path: Path
) -> None:
    module = tmp_path / place.format(name=name)
    module.parent.mkdir(exist_ok=True)
    module.write_text("raise SystemExit('the foreign code ran')")
    code = "import pytest_phase5.ours as ours; print(*ours.foreign_packages(), sep='\\n')"
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    found = module.parent if module.name == "__init__.py" else module
    assert f"'{name}' resolves to {found}; expected: {HOME / name}" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_foreign_package_that_is_imported_already_is_found(tmp_path: Path) -> None:
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates" / "__init__.py").write_text("")
    done = run("import gates, pytest_phase5.ours as ours; ours.check_ours()", tmp_path)
    assert done.returncode == 1
    assert f"{ForeignPackageError.__name__}: the package 'gates'" in done.stderr


def test_a_folder_that_is_no_package_does_not_shadow_ours(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    done = run("import pytest_phase5.ours as ours; ours.check_ours()", tmp_path)
    assert done.returncode == 0, done.stderr
