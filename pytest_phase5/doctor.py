"""`phase5 doctor`: what this machine has and lacks, what is lost without it, how to get it."""

import os
import re
import shutil
import socket
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.config import Config, ConfigError, load_config, packaged
from pytest_phase5.ours import foreign_packages
from pytest_phase5.programs import DEBIAN, MACOS, PROGRAMS, Program

_SYSTEMS: Final = {DEBIAN: "Debian, Ubuntu", MACOS: "macOS"}

#: Python versions that the distribution is tested on: from, up to and without.
_PYTHONS: Final = ((3, 11), (3, 14))

#: Wider than any line: a path or command that is cut or folded cannot be copied.
_WIDTH: Final = 10_000


class State(StrEnum):
    """How a finding stands."""

    OK = "ok"
    WARNING = "warning"  #: works, but not as one would expect
    MISSING = "missing"  #: something cannot be done


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked for."""

    name: str
    state: State
    found: str  #: what is there, in a few words
    lost: str = ""  #: what does not work because of it
    fix: Mapping[str, str] = field(default_factory=dict)  #: one command for each system
    required: bool = False  #: nothing works without it


def doctor(json: bool, config: Path | None = None) -> int:
    """Print every finding, as a table or as one JSON object.

    Args:
        json: whether standard output is to be exactly one JSON object.
        config: what `--config` names.

    Returns:
        0, or 1 when something is missing without which nothing works.
    """
    findings = examine(config)
    if json:
        sys.stdout.write(dumps({"findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        render(findings)
    return int(any(f.required and f.state is State.MISSING for f in findings))


def examine(config: Path | None = None, folder: Path | None = None) -> list[Finding]:
    """Every finding about this machine, for a project in `folder` (default: this one)."""
    from pytest_phase5.live_doctor import live_evidence

    folder = folder or Path.cwd()
    chosen, configuration = find_configuration(config, folder)
    return [
        python_version(sys.version_info[:2]),
        mlx_device(),
        blas(),
        *(program(wanted) for wanted in PROGRAMS),
        configuration,
        *ports(chosen),
        *live_evidence(chosen, config),
        *plugin_collisions(entry_points(group="pytest11")),
        *foreign(),
    ]


def render(findings: Iterable[Finding]) -> None:
    """A table of what was found, then the commands for what was not."""
    findings = list(findings)
    table = Table("what", "state", "found", box=None, pad_edge=False)
    for finding in findings:
        # As text: brackets in it are no markup.
        table.add_row(Text(finding.name), finding.state.value, Text(finding.found))
    console = Console(width=_WIDTH)
    console.print(table)
    for finding in findings:
        if finding.state is not State.OK:
            console.print(_advice(finding), markup=False, highlight=False)


def _advice(finding: Finding) -> str:
    commands = "".join(f"\n  {_SYSTEMS[key]}: {command}" for key, command in finding.fix.items())
    return f"\n{finding.name}: {finding.lost}{commands}"


def python_version(running: tuple[int, ...]) -> Finding:
    """Whether the Python that runs is one that the distribution is tested on."""
    oldest, beyond = _PYTHONS
    fits = oldest <= running < beyond
    return Finding(
        name="Python",
        state=State.OK if fits else State.MISSING,
        found=f"{'.'.join(map(str, running))} at {sys.executable}",
        lost="" if fits else "this version is not tested; allowed: 3.11 to 3.13",
        fix={
            DEBIAN: "sudo apt-get install python3 python3-venv",
            MACOS: "brew install python@3.13",
        },
        required=True,
    )


def mlx_device() -> Finding:
    """Which device MLX computes on."""
    try:
        import mlx.core as mx
    except ImportError as error:
        return Finding(
            name="MLX device",
            state=State.MISSING,
            found=str(error),
            lost="the engine cannot run",
            fix=dict.fromkeys((DEBIAN, MACOS), 'python -m pip install "pytest-phase5[engine]"'),
            required=True,
        )
    found = f"{mx.default_device()}, mlx {version('mlx')}"
    return Finding(name="MLX device", state=State.OK, found=found)


def blas() -> Finding:
    """Which linear algebra the runtime process will use."""
    from engine.runtime.blas import BlasError, describe, find_openblas

    try:
        fast = sys.platform == "darwin" or find_openblas() is not None
    except BlasError:
        fast = False
    return Finding(
        name="BLAS",
        state=State.OK if fast else State.WARNING,
        found=describe() if fast else "reference",
        lost="" if fast else describe(),
        fix={DEBIAN: "sudo apt-get install libopenblas0-pthread", MACOS: "nothing to install"},
    )


def program(wanted: Program, look_up: Callable[[str], str | None] = shutil.which) -> Finding:
    """Whether a program is there: by its variable, then on the PATH or in its known places."""
    given = os.environ.get(wanted.variable) if wanted.variable else None
    names = (given,) if given else (wanted.name, *wanted.also)
    path = next(filter(None, map(look_up, names)), None)
    if path:
        return Finding(name=wanted.name, state=State.OK, found=path)
    found = f"{wanted.variable}={given} is not a program" if given else "not found"
    return Finding(
        name=wanted.name, state=State.MISSING, found=found, lost=wanted.lost, fix=wanted.fix
    )


def find_configuration(option: Path | None, folder: Path) -> tuple[Config | None, Finding]:
    """The configuration that serves: option, ini, `./config`, packaged defaults, in this order."""
    try:
        path, source = _first_configuration(option, folder)
        config = load_config(path)
    except ConfigError as error:
        return None, Finding(
            name="configuration",
            state=State.WARNING,
            found="not valid",
            lost=f"nothing starts with it: {error}",
        )
    return config, Finding(name="configuration", state=State.OK, found=f"{path} ({source})")


def _first_configuration(option: Path | None, folder: Path) -> tuple[Path, str]:
    if option:
        return option, "option"
    if ini := ini_configuration(folder):
        return ini, "ini"
    own = folder / "config" / "runtime.yaml"
    return (own, "./config") if own.exists() else (packaged("runtime.yaml"), "packaged defaults")


def ini_configuration(folder: Path) -> Path | None:
    """What `phase5_config` says in the file that pytest reads its ini options from here."""
    sections = {
        "pytest.ini": "pytest",
        ".pytest.ini": "pytest",
        "pyproject.toml": "",
        "tox.ini": "pytest",
        "setup.cfg": "tool:pytest",
    }
    for name, section in sections.items():
        file = folder / name
        options = _ini_options(file, section) if file.exists() else None
        if options is not None:
            value = options.get("phase5_config")
            return folder / str(value) if value else None
    return None


def _ini_options(file: Path, section: str) -> Mapping[str, object] | None:
    try:
        text = file.read_text(encoding="utf-8")
        return _ini_section(text, section) if section else _toml_section(text)
    except (OSError, ValueError, ConfigParserError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _ini_section(text: str, section: str) -> Mapping[str, object] | None:
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    return dict(parser[section]) if section in parser else None


def _toml_section(text: str) -> Mapping[str, object] | None:
    options = tomllib.loads(text).get("tool", {}).get("pytest")
    return options and {**options, **options.get("ini_options", {})}


def ports(config: Config | None) -> Iterator[Finding]:
    """Whether the configured ports are free; port 0 takes a free one and always is."""
    if config is None:
        return
    server = config.server
    for name, port in (("port", server.port), ("HTTP/2 port", server.h2_port)):
        trouble = _bind(server.host, port)
        yield Finding(
            name=name,
            state=State.WARNING if trouble else State.OK,
            found=f"{server.host}:{port or ' any free one'}{trouble and ': ' + trouble}",
            lost="`phase5 serve` needs another `server.port` or `--port`" if trouble else "",
        )


def _bind(host: str, port: int) -> str:
    """The reason why a port cannot be had, or nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def plugin_collisions(plugins: Iterable[EntryPoint]) -> Iterator[Finding]:
    """Plugins that take pytest's `--host` for themselves: two of them stop pytest."""
    takers = [plugin for plugin in plugins if "--host" in _options(plugin)]
    for plugin in takers:
        yield Finding(
            name=f"plugin {plugin.name}",
            state=State.WARNING,
            found=f"{plugin.value} defines --host",
            lost="pytest stops when a conftest.py or another plugin defines it too",
            fix=dict.fromkeys((DEBIAN, MACOS), f"pytest -p no:{plugin.name}"),
        )


def _options(plugin: EntryPoint) -> set[str]:
    """The option names in a plugin's source, which is read and not run."""
    spec = find_spec(plugin.module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return set()
    source = Path(spec.origin).read_text(encoding="utf-8")
    return set(re.findall(r"""["'](--[a-z][a-z0-9-]*)["']""", source))


def foreign() -> Iterator[Finding]:
    """Packages of other projects that take the names of ours."""
    for package in foreign_packages():
        yield Finding(
            name=f"package {package.name}",
            state=State.MISSING,
            found=str(package),
            lost="the foreign package would run in place of ours",
            fix=dict.fromkeys((DEBIAN, MACOS), f"rename {package.found or package.name}"),
            required=True,
        )
