"""The plugin's options: declared once, read once, checked once.

Every option is `--phase5-NAME` with an ini twin `phase5_NAME`; the option wins over the ini
file, which wins over the default. Only `--phase5-gate` has no twin: a gate is asked for, it
never happens because of a file.
"""

import re
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from pytest_phase5.ours import check_ours

#: The default report folder, below the folder that pytest was started in.
REPORT_FOLDER: Final = "phase5-report"

#: The ini switch that leaves the packaged suite out of a gate.
SUITE_INI: Final = "phase5_suite"

#: Load profiles run for their full length unless somebody asks for less.
TIME_SCALE: Final = 1.0

#: How long an engine may take to load its model: 27 billion parameters from a slow disk.
START_SECONDS: Final = 300.0


class Stage(StrEnum):
    """A stage whose door can be judged."""

    CANARY = "canary"
    EARLY = "early"
    MID = "mid"
    FULL = "full"


class _Option(NamedTuple):
    name: str
    metavar: str
    help: str
    repeatable: bool = False
    ini: bool = True

    @property
    def dest(self) -> str:
        return "phase5_" + self.name.replace("-", "_")


_OPTIONS: Final = (
    _Option(
        "gate",
        "STAGE",
        "judge the door of a stage: canary, early, mid or full; exit 0 only on promote",
        ini=False,
    ),
    _Option("from", "STAGE", "'off': judge as if every flag stood at off (always a dry run)"),
    _Option(
        "flags",
        "SETS",
        "flag sets to run, joined by commas, such as 'off,ttft_pipeline,all'; or 'every' for all "
        "sixteen (default: every under a gate, else off)",
    ),
    _Option("model", "NAME", "model of every engine (default: the test's, else the configured)"),
    _Option("config", "PATH", "runtime.yaml to use; gates.yaml is looked for beside it"),
    _Option("report", "DIR", f"report folder of a gate (default: {REPORT_FOLDER})"),
    _Option(
        "evidence",
        "PATH",
        "further evidence: a file, a JUnit report, or the folder of another gate or load run; "
        "repeatable",
        repeatable=True,
    ),
    _Option("prometheus", "URL", "Prometheus server to read live evidence from"),
    _Option("engine-url", "URL", "test this running engine instead of starting one"),
    _Option(
        "engine-command",
        "CMD",
        "start engines with this command; --model, --flags, --port and --config are added to it",
    ),
    _Option(
        "time-scale", "SHARE", "share of their full length for which load profiles run (default: 1)"
    ),
    _Option("start-seconds", "SECONDS", f"longest start of an engine (default: {START_SECONDS:g})"),
)


class Settings(NamedTuple):
    """What the options, the ini file and the defaults come to."""

    gate: Stage | None
    from_off: bool
    flag_sets: tuple[str, ...]
    every: bool  #: the flag sets are `every`: flags that stand elsewhere are left out
    model: str | None
    config: Path | None  #: None: the packaged defaults
    report: Path
    evidence: tuple[Path, ...]
    prometheus: str | None
    engine_url: str | None
    engine_command: tuple[str, ...] | None
    start_seconds: float
    time_scale: float


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini twin."""
    group = parser.getgroup("phase5", "SLO gates for an LLM serving engine")
    for option in _OPTIONS:
        action = "append" if option.repeatable else "store"
        group.addoption(
            f"--phase5-{option.name}",
            action=action,
            dest=option.dest,
            metavar=option.metavar,
            default=None,
            help=option.help,
        )
        if option.ini:
            text = f"as --phase5-{option.name}, which wins over it: {option.help}"
            kind: Literal["linelist", "string"] = "linelist" if option.repeatable else "string"
            parser.addini(option.dest, text, type=kind, default=None)
    _declare_suite(parser)


def _declare_suite(parser: pytest.Parser) -> None:
    text = "false leaves the packaged suite out of a gate; what the door requires is then yours"
    parser.addini(SUITE_INI, text, type="bool", default=True)


def read_settings(config: pytest.Config) -> Settings:
    """Read and check every option.

    Raises:
        pytest.UsageError: for a value that is not allowed; one line that names the option,
            what was given and what is allowed.
    """
    gate = _gate(_value(config, "gate"))
    given = _value(config, "flags") or ("every" if gate else "off")
    report = _path(config, "report") or config.invocation_params.dir / REPORT_FOLDER
    if report.exists() and not report.is_dir():
        raise pytest.UsageError(f"--phase5-report: {report} is not a folder")
    return Settings(
        gate=gate,
        from_off=_from_off(_value(config, "from")),
        flag_sets=parse_flag_sets(given, "--phase5-flags"),
        every=given == "every",
        model=_word(config, "model"),
        config=_config_path(config),
        report=report,
        evidence=tuple(_against(config, "evidence", text) for text in _values(config, "evidence")),
        prometheus=_url(config, "prometheus"),
        engine_url=_url(config, "engine-url"),
        engine_command=_command(config),
        start_seconds=_seconds(config, "start-seconds", START_SECONDS),
        time_scale=_share(config, "time-scale", TIME_SCALE),
    )


def parse_flag_sets(text: str, where: str) -> tuple[str, ...]:
    """The canonical names of a comma list of flag sets, or of all sixteen for `every`.

    Raises:
        pytest.UsageError: for an unknown, empty or repeated set; `where` names the source.
    """
    if text == "off":  # the default: a session that does not use us imports nothing more
        return ("off",)
    check_ours(pytest.UsageError)
    from engine.core.flags import FlagSetError, every_flag_set, flag_set_name, parse_flag_set

    if text == "every":
        return tuple(flag_set_name(flags) for flags in every_flag_set())
    try:
        names = [flag_set_name(parse_flag_set(part.strip())) for part in text.split(",")]
    except FlagSetError as error:
        raise pytest.UsageError(f"{where}: {error}; or every") from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise pytest.UsageError(f"{where}: {text!r} names {repeated[0]!r} twice; allowed: once")
    return tuple(names)


def _value(config: pytest.Config, name: str) -> str | None:
    """The option, else the ini value, else None. An empty ini value counts as none."""
    option = _option(name)
    given: str | None = config.getoption(option.dest)
    if given is None and option.ini:
        given = config.getini(option.dest) or None
    return given


def _values(config: pytest.Config, name: str) -> list[str]:
    dest = _option(name).dest
    return config.getoption(dest) or config.getini(dest) or []


def _option(name: str) -> _Option:
    return next(option for option in _OPTIONS if option.name == name)


def _gate(given: str | None) -> Stage | None:
    if given is None:
        return None
    if given not in set(Stage):
        raise pytest.UsageError(
            f"--phase5-gate: unknown stage {given!r}; allowed: {', '.join(Stage)}"
        )
    return Stage(given)


def _from_off(given: str | None) -> bool:
    if given not in (None, "off"):
        raise pytest.UsageError(f"--phase5-from: unknown stage {given!r}; allowed: off")
    return given == "off"


def _word(config: pytest.Config, name: str) -> str | None:
    given = _value(config, name)
    if given is not None and (not given.strip() or given.startswith("-")):
        raise pytest.UsageError(f"--phase5-{name}: {given!r} is not a name; allowed: a name")
    return given


def _against(config: pytest.Config, name: str, text: str) -> Path:
    """A path from the command line is relative to where pytest runs, one from the ini to it."""
    from_ini = config.getoption(_option(name).dest) is None
    base = config.rootpath if from_ini else config.invocation_params.dir
    return base / Path(text).expanduser()


def _path(config: pytest.Config, name: str) -> Path | None:
    given = _value(config, name)
    return None if given is None else _against(config, name, given)


def _config_path(config: pytest.Config) -> Path | None:
    """Option, ini, `./config/runtime.yaml`; None means the packaged defaults."""
    given = _path(config, "config")
    if given is not None:
        return given
    local = config.invocation_params.dir / "config" / "runtime.yaml"
    return local if local.exists() else None


def _url(config: pytest.Config, name: str) -> str | None:
    given = _value(config, name)
    if given is None:
        return None
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", given):
        raise pytest.UsageError(
            f"--phase5-{name}: {given!r} is not a URL; allowed: http://HOST[:PORT] or https://"
        )
    return given.rstrip("/")


def _command(config: pytest.Config) -> tuple[str, ...] | None:
    given = _value(config, "engine-command")
    if given is None:
        return None
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise pytest.UsageError(f"--phase5-engine-command: {given!r}: {error}") from None
    if not words:
        raise pytest.UsageError("--phase5-engine-command: empty; allowed: a program and arguments")
    return tuple(words)


def _seconds(config: pytest.Config, name: str, default: float) -> float:
    return _number(config, name, default, most=float("inf"), allowed="seconds above 0")


def _share(config: pytest.Config, name: str, default: float) -> float:
    return _number(config, name, default, most=1.0, allowed="a share above 0, at most 1")


def _number(
    config: pytest.Config, name: str, default: float, *, most: float, allowed: str
) -> float:
    given = _value(config, name)
    if given is None:
        return default
    try:
        number = float(given)
    except ValueError:
        number = 0.0
    if not (0 < number <= most and number < float("inf")):
        raise pytest.UsageError(f"--phase5-{name}: {given!r}; allowed: {allowed}")
    return number
