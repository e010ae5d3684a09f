import json
import socket
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.config import Config, packaged
from pytest_phase5.doctor import (
    Finding,
    State,
    doctor,
    examine,
    find_configuration,
    plugin_collisions,
    ports,
    program,
    python_version,
    render,
)
from pytest_phase5.programs import DEBIAN, MACOS, PROGRAMS, Program

WANTED = Program(
    name="wanted",
    lost="nothing is wanted",
    fix={DEBIAN: "apt-get install wanted", MACOS: "brew install wanted"},
    also=("other-name",),
    variable="PHASE5_TEST_WANTED",
)


@pytest.mark.parametrize(
    ("running", "state"),
    [
        ((3, 10), State.MISSING),
        ((3, 11), State.OK),
        ((3, 13), State.OK),
        ((3, 14), State.MISSING),
    ],
)
def test_python_is_ok_from_3_11_to_3_13(running: tuple[int, int], state: State) -> None:
    assert python_version(running).state is state


@pytest.mark.parametrize("name", ["wanted", "other-name"])
def test_a_program_is_found_by_each_of_its_names(name: str) -> None:
    found = program(WANTED, {name: "/somewhere/it"}.get)
    assert (found.state, found.found) == (State.OK, "/somewhere/it")


def test_a_missing_program_says_what_is_lost_and_how_to_get_it() -> None:
    found = program(WANTED, lambda _: None)
    assert (found.state, found.lost, found.fix) == (State.MISSING, WANTED.lost, WANTED.fix)


def test_a_variable_decides_where_a_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASE5_TEST_WANTED", "/not/there")
    found = program(WANTED, {"wanted": "/somewhere/it"}.get)
    assert found.state is State.MISSING
    assert found.found == "PHASE5_TEST_WANTED=/not/there is not a program"


@pytest.mark.parametrize("wanted", PROGRAMS, ids=lambda wanted: wanted.name)
def test_every_program_has_one_command_for_each_system(wanted: Program) -> None:
    assert set(wanted.fix) == {DEBIAN, MACOS}
    assert all("\n" not in command for command in wanted.fix.values())
    assert wanted.lost


def place(folder: Path, name: str, text: str = "runtime: {model: tiny}\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_configuration_is_searched_from_option_to_packaged_defaults(tmp_path: Path) -> None:
    steps = [find_configuration(None, tmp_path)[1].found]
    place(tmp_path, "config/runtime.yaml")
    steps.append(find_configuration(None, tmp_path)[1].found)
    place(tmp_path, "ini.yaml")
    place(tmp_path, "pytest.ini", "[pytest]\nphase5_config = ini.yaml\n")
    steps.append(find_configuration(None, tmp_path)[1].found)
    option = place(tmp_path, "option.yaml")
    steps.append(find_configuration(option, tmp_path)[1].found)
    assert steps == [
        f"{packaged('runtime.yaml')} (packaged defaults)",
        f"{tmp_path / 'config' / 'runtime.yaml'} (./config)",
        f"{tmp_path / 'ini.yaml'} (ini)",
        f"{tmp_path / 'option.yaml'} (option)",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nphase5_config = ini.yaml\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\nphase5_config = "ini.yaml"\n'),
        ("pyproject.toml", '[tool.pytest]\nphase5_config = "ini.yaml"\n'),
        ("tox.ini", "[tox]\n[pytest]\nphase5_config = ini.yaml\n"),
        ("setup.cfg", "[tool:pytest]\nphase5_config = ini.yaml\n"),
    ],
)
def test_the_ini_option_is_read_where_pytest_reads_it(name: str, text: str, tmp_path: Path) -> None:
    place(tmp_path, "ini.yaml")
    place(tmp_path, name, text)
    config, finding = find_configuration(None, tmp_path)
    assert finding.found.endswith("(ini)")
    assert config is not None
    assert config.runtime.model == "tiny"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config/runtime.yaml", "", "empty"),
        ("config/runtime.yaml", "runtime: {modell: tiny}\n", "unknown key"),
        ("pyproject.toml", "not toml", "pyproject.toml"),
        ("pytest.ini", "not an ini file", "pytest.ini"),
    ],
)
def test_a_configuration_that_is_not_valid_is_a_warning_with_its_reason(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    place(tmp_path, name, text)
    config, finding = find_configuration(None, tmp_path)
    assert config is None
    assert finding.state is State.WARNING
    assert said in finding.lost


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_a_warning_and_port_zero_never_is(taken_port: int) -> None:
    config = Config.model_validate({"server": {"port": taken_port, "h2_port": 0}})
    port, h2_port = ports(config)
    assert (port.state, h2_port.state) == (State.WARNING, State.OK)
    assert f"127.0.0.1:{taken_port}" in port.found


def plugin(name: str, folder: Path, source: str) -> EntryPoint:
    (folder / f"{name}.py").write_text(source)
    return EntryPoint(name, name, "pytest11")


def test_a_plugin_that_takes_host_is_named_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    stop = "raise SystemExit('it ran')\n"
    taker = plugin("doctor_test_taker", tmp_path, stop + 'parser.addoption("--host")\n')
    other = plugin("doctor_test_other", tmp_path, stop + 'parser.addoption("--hostname")\n')
    (finding,) = plugin_collisions([taker, other])
    assert finding.name == "plugin doctor_test_taker"
    assert finding.fix[DEBIAN] == "pytest -p no:doctor_test_taker"


def test_this_machine_is_examined_without_an_error(tmp_path: Path) -> None:
    names = [finding.name for finding in examine(folder=tmp_path)]
    expected = ["Python", "MLX device", "BLAS", *(p.name for p in PROGRAMS), "configuration"]
    assert names[: len(expected)] == expected
    assert len(set(names)) == len(names)


def test_json_is_exactly_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor(json=True)
    findings = json.loads(capsys.readouterr().out)["findings"]
    required = [f for f in findings if f["required"] and f["state"] == "missing"]
    assert code == (1 if required else 0)
    assert {"name", "state", "found", "lost", "fix", "required"} == set(findings[0])


def test_long_names_and_commands_are_neither_cut_nor_folded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, command = "/a/path" * 30, "install [something] " * 20
    render([Finding(name="x", state=State.MISSING, found=found, fix={DEBIAN: command})])
    shown = capsys.readouterr().out
    assert found in shown
    assert f"Debian, Ubuntu: {command.rstrip()}" in shown
