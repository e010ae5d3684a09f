"""The short way of a rollback: what it understands, what it leaves, and how little it loads."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gates import rollback_cli
from pytest_phase5 import main as entry
from pytest_phase5.cli import app
from pytest_phase5.main import plain
from pytest_phase5.rollout_commands import rollback

#: Whatever takes long to load; the engines wait for none of it.
HEAVY = frozenset({"typer", "click", "rich", "httpx", "httpcore", "pydantic", "numpy", "asyncio"})
LOADS = """
import sys
import pytest_phase5.main, gates.rollback_cli, yaml
print(" ".join(sys.modules))
"""

OPTION = st.sampled_from(
    [
        ("--flag", "ttft_pipeline"),
        ("--flag", "qos_monitoring"),
        ("--engine", "http://127.0.0.1:1"),
        ("--engine", "http://127.0.0.1:2/"),
        ("--reason", "two words"),
        ("--config", "some.yaml"),
        ("--json",),
        ("--dry-run",),
    ]
)


class Calls:
    """A rollback that only notes what it was asked for."""

    def __init__(self) -> None:
        self.orders: list[tuple[rollback_cli.Order, bool]] = []

    def __call__(self, order: rollback_cli.Order, *, as_json: bool) -> int:
        self.orders.append((order, as_json))
        return 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    noted = Calls()
    monkeypatch.setattr(rollback_cli, "rollback", noted)
    return noted


def short(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit status of the console script."""
    monkeypatch.setattr(sys, "argv", ["phase5", *arguments])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return ended.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--flag", "ttft_pipeline", "--flag", "qos_monitoring", "--json"],
        ["--engine", "http://h:1/", "--reason", "two words", "--config", "c.yaml", "--dry-run"],
    ],
)
def test_both_ways_ask_for_the_same(
    arguments: list[str], calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert short(["rollback", *arguments], monkeypatch) == 0
    assert CliRunner().invoke(app, ["rollback", *arguments]).exit_code == 0
    first, second = calls.orders
    assert first == second


@given(st.lists(OPTION))
def test_what_is_plain_keeps_every_value(options: list[tuple[str, ...]]) -> None:
    arguments = [word for option in options for word in option]
    found = plain(arguments)
    single = [name for name, *_ in options if name in {"--reason", "--config"}]
    if len(single) != len(set(single)):
        assert found is None
        return
    assert found is not None
    for name, *value in options:
        assert name in found
        assert set(value) <= set(found[name])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--flag"], ["--flag", "--json"], ["--flag=x"], ["here"], ["--force"], ["-h"]],
)
def test_what_is_not_plain_is_left_to_the_full_command_line(arguments: list[str]) -> None:
    assert plain(arguments) is None


@pytest.mark.parametrize("wrong", [["--flag", "x"], ["--engine", "not-a-url"], ["--flag"]])
def test_a_mistake_is_a_usage_error_either_way(
    wrong: list[str], calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert short(["rollback", *wrong], monkeypatch) == 2
    assert calls.orders == []


def test_it_knows_every_option_of_the_command() -> None:
    command = typer.main.get_command(_only(rollback))
    options = {name for parameter in command.params for name in parameter.opts}
    assert options - {"--help"} == {*entry._VALUES, *entry._SWITCHES}


def test_engines_wait_for_nothing_heavy_to_be_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADS], capture_output=True, text=True, check=True
    )
    assert HEAVY.isdisjoint(done.stdout.split())


def test_other_commands_take_the_full_way() -> None:
    script = Path(sys.executable).with_name("phase5")
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, check=True)
    assert "rollback" in done.stdout


def _only(command: Any) -> typer.Typer:
    program = typer.Typer(add_completion=False)
    program.command()(command)
    return program


def test_the_program_says_its_version() -> None:
    from engine import __version__

    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"pytest-phase5 {__version__}\n")
