"""What is built and locked: the wheel, the lock, and the reasons beside each exception."""

import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from email import message_from_bytes
from itertools import chain
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "gates", "chaos", "pytest_phase5")
#: Ends of the names of folders that hold no source.
WRITTEN = ("__pycache__", ".state")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def sources(folder: str) -> set[PurePosixPath]:
    """The files of a folder of ours, without what Python and a running engine write there."""
    return {
        PurePosixPath(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not any(part.endswith(WRITTEN) for part in path.parts)
    }


def python_files() -> Iterator[Path]:
    for folder in (*PACKAGES, "tests"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: ZipFile) -> None:
    held = {PurePosixPath(name) for name in wheel.namelist()}
    code = {path for path in held if path.parts[0] in PACKAGES and path.parts[1] != "_config"}
    assert code == set().union(*map(sources, PACKAGES))
    others = {path.parts[0] for path in held - code} - {"engine"}
    assert [name for name in others if not name.endswith(".dist-info")] == []


def test_the_wheel_carries_the_one_copy_of_the_defaults(wheel: ZipFile) -> None:
    for path in sources("config"):
        inside = PurePosixPath("engine", "_config", *path.parts[1:])
        assert wheel.read(str(inside)) == (ROOT / path).read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str, wheel: ZipFile) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_entry_points(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = ConfigParser()
    parser.read_string(wheel.read(name).decode())
    assert dict(parser["pytest11"]) == {"phase5": "pytest_phase5.plugin"}
    assert dict(parser["console_scripts"]) == {"phase5": "pytest_phase5.main:main"}


def test_the_version_stands_once(wheel: ZipFile) -> None:
    import engine

    assert f"-{engine.__version__}-" in Path(wheel.filename or "").name


def test_the_metadata_tells_a_stranger_what_this_is_and_where_to_turn(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("dist-info/METADATA"))
    told = message_from_bytes(wheel.read(name))
    assert told["Summary"]
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Description-Content-Type"] == "text/markdown"
    assert "# pytest-phase5" in str(told.get_payload())
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    addresses = dict(address.split(", ") for address in told.get_all("Project-URL", []))
    assert set(addresses) == {"Source", "Documentation", "Changelog", "Issues", "Security"}
    assert [url for url in addresses.values() if not url.startswith(addresses["Source"])] == []


def test_every_python_that_is_allowed_is_classified() -> None:
    project = tomllib.loads(PYPROJECT)["project"]
    minor = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"])
    assert minor
    wanted = {f"Programming Language :: Python :: 3.{n}" for n in range(*map(int, minor.groups()))}
    assert wanted == {text for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)}


def test_the_lock_names_no_host() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK


def test_the_lock_holds_every_dependency_and_a_hash_for_each() -> None:
    locked = re.findall(
        r"^([a-z0-9._-]+)==\S+.*\\\n    --hash=sha256:[0-9a-f]{64}", LOCK, re.MULTILINE
    )
    assert len(locked) == len(re.findall(r"^[a-z]", LOCK, re.MULTILINE))
    project = tomllib.loads(PYPROJECT)["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace(".", "-") for text in wanted}
    assert names - {name.replace(".", "-") for name in locked} == set()


def test_every_ruff_exception_in_the_configuration_has_a_reason() -> None:
    ruff = PYPROJECT[PYPROJECT.index("[tool.ruff.lint]") : PYPROJECT.index("[tool.ruff.lint.pydoc")]
    exceptions = re.findall(r'^    "[A-Z]+[0-9]+",.*$', ruff, re.MULTILINE)
    assert len(exceptions) > 10
    assert [line for line in exceptions if not re.search(r"# \w.{4,}", line)] == []


def test_every_mypy_and_import_exception_in_the_configuration_has_a_reason() -> None:
    lines = PYPROJECT.splitlines()
    for number, line in enumerate(lines):
        if line == "[[tool.mypy.overrides]]":
            assert lines[number - 1].startswith("# "), f"line {number}: no reason above {line}"
        if line.startswith("allow_indirect_imports"):
            assert "# " in line, f"line {number + 1}: no reason beside {line}"


def exceptions_without_reason(source: str) -> Iterator[str]:
    """Comments that silence a tool without a code, or without a reason after it."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and re.search(r"noqa|type: ignore|pragma", token.string):
            reason = r"# (noqa: [A-Z0-9, ]+|type: ignore\[[a-z-, ]+\])\s*(#|-)\s*\w.{4,}"
            if not re.match(reason, token.string):
                yield f"{token.start[0]}: {token.string}"


@pytest.mark.parametrize(
    ("comment", "complaints"),
    [
        ("# noqa: S603 - our own program", 0),
        ("# noqa: S603, S607  # our own program", 0),
        ("# type: ignore[no-untyped-call]  # the library has no types", 0),
        ("# an ordinary comment", 0),
        ("# noqa", 1),
        ("# noqa: S603", 1),
        ("# type: ignore", 1),
        ("# type: ignore[arg-type]", 1),
        ("# pragma: no cover", 1),
    ],
)
def test_an_exception_needs_a_code_and_a_reason(comment: str, complaints: int) -> None:
    assert len(list(exceptions_without_reason(f"x = 1  {comment}\n"))) == complaints


def test_every_exception_in_the_code_has_a_reason() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in python_files()
        for complaint in exceptions_without_reason(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_base_names_of_tests_are_unique() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


FOLDERS = (
    *PACKAGES,
    "config",
    "docs/phase5/integration",
    "docs/phase5/configuration",
    "docs/phase5/runbooks",
    "tests/unit",
    "tests/plugin",
    "tests/integration",
    ".github/workflows",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folders_of_the_layout_hold_something(folder: str) -> None:
    assert any((ROOT / folder).iterdir())
