"""`phase5 load run` and `phase5 load list`: plain functions that print and return a status."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from engine.config import ConfigError, load_config
from engine.core.flags import FlagSetError, flag_set_name, parse_flag_set
from gates.evidence import EngineIdentity
from gates.policy import policy_beside
from gates.stages import Policy
from pytest_phase5.engines import Engine, EngineError
from pytest_phase5.load.baseline import compared, read_baseline, strangeness, write_baseline
from pytest_phase5.load.building import Setting, check_sendable
from pytest_phase5.load.document import NO_LEAK, document
from pytest_phase5.load.files import write_result
from pytest_phase5.load.locust_driver.command import UsageError, invitation
from pytest_phase5.load.locust_driver.worker import work as lend
from pytest_phase5.load.plan import DRIVERS, MASTER_PORT, Fleet
from pytest_phase5.load.profiles import PROFILES, Profile, ProfileError, profile_named
from pytest_phase5.load.proof import write_proof
from pytest_phase5.load.running import ProfileResult, Runner
from pytest_phase5.load.showing import Show, showing
from pytest_phase5.load.subjects import fixed_engine, started_engine
from pytest_phase5.load.tables import show
from pytest_phase5.recording import machine

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2

#: Where runs and the baseline go unless told otherwise, below the working folder.
FOLDER: Final = Path("phase5-load")
BASELINE: Final = FOLDER / "baseline.json"
#: Where a master listens for its workers: this machine alone, unless told otherwise.
BIND: Final = f"127.0.0.1:{MASTER_PORT}"
#: Wider than any line: what is cut or folded cannot be read by a program.
_SURELY_WIDE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for; None leaves it to the default."""

    time_scale: float = 1.0
    model: str | None = None
    config: Path | None = None
    engine_url: str | None = None
    flags: str | None = None
    driver: str = "http1"
    processes: int = 1
    workers: int = 0
    bind: str = BIND
    seed: int = 0
    report: Path | None = None
    baseline: Path = BASELINE
    record: bool = False


def list_profiles(*, as_json: bool) -> int:
    """Name the profiles and what they do."""
    rows = [{"name": profile.name, "summary": profile.summary} for profile in PROFILES.values()]
    width = max(len(row["name"]) for row in rows)
    text = "\n".join(f"{row['name']:<{width}}  {row['summary']}" for row in rows)
    sys.stdout.write((json.dumps({"profiles": rows}) if as_json else text) + "\n")
    return DONE


def run(name: str, options: Options, *, as_json: bool) -> int:
    """Run a profile; 0 when the result is valid and complete, whatever it says."""
    try:
        return _run(profile_named(name), options, as_json=as_json)
    except (ProfileError, ConfigError, FlagSetError) as error:
        return _refuse(str(error), USAGE, as_json=as_json)
    except EngineError as error:
        return _refuse(str(error), ERROR, as_json=as_json)
    except KeyboardInterrupt:
        return _refuse(f"{name}: interrupted before anything was measured", ERROR, as_json=as_json)


def _run(profile: Profile, options: Options, *, as_json: bool) -> int:
    created = datetime.now(UTC)
    options = replace(options, config=options.config or _local_config())
    if options.config is not None:
        load_config(options.config)  # refused here rather than by an engine that will not start
    policy = policy_beside(options.config)
    folder = _folder(profile, options, created)
    setting = _setting(options, policy)
    check_sendable(profile, setting)
    baseline = _baseline(profile, options)
    _invite(setting.fleet)
    with showing() as progress:
        result = _runner(options, folder, progress, baseline).run(profile, setting)
    facts = _document(result, created, policy, baseline)
    write_proof(folder, result, machine=facts["machine"], created=facts["created"])
    write_result(folder, result, facts)
    whole = result.valid and result.complete
    if options.record and profile.compares and whole:
        write_baseline(options.baseline, facts)
    if as_json:
        sys.stdout.write(json.dumps({**facts, "report": str(folder)}, allow_nan=False) + "\n")
    else:
        show(facts, _console())
        sys.stdout.write(f"report: {folder}\n")
    return DONE if whole else ERROR


def work(address: str, processes: int, *, once: bool) -> int:
    """Lend this machine to the runs of a master elsewhere; see `locust_driver.worker`."""
    if processes < 1:
        return _refuse(f"--processes {processes}; allowed: 1 or more", USAGE, as_json=False)
    try:
        return lend(address, processes, once=once)
    except UsageError as error:
        return _refuse(str(error), USAGE, as_json=False)


def _local_config() -> Path | None:
    local = Path("config", "runtime.yaml")
    return local if local.exists() else None


def _document(
    result: ProfileResult, created: datetime, policy: Policy, baseline: dict[str, Any] | None
) -> dict[str, Any]:
    facts = document(
        result,
        machine=machine(),
        created=created.isoformat(timespec="seconds"),
        leak=policy.criteria.get(NO_LEAK),
    )
    if baseline is not None:
        facts["comparisons"] = [row.row() for row in compared(baseline, facts)]
    return facts


def _setting(options: Options, policy: Policy) -> Setting:
    if not 0 < options.time_scale <= 1:
        raise ProfileError(f"--time-scale {options.time_scale:g}; allowed: above 0, at most 1")
    driver = next((driver for driver in DRIVERS if driver == options.driver), None)
    if driver is None:
        raise ProfileError(f"--driver {options.driver!r}; allowed: {', '.join(DRIVERS)}")
    return Setting(
        url="",
        driver=driver,
        fleet=_fleet(options),
        seed=options.seed,
        time_scale=options.time_scale,
        expected_load=policy.expected_load,
    )


def _fleet(options: Options) -> Fleet:
    given = f"--processes {options.processes} --workers {options.workers} --bind {options.bind}"
    host, _, port = options.bind.rpartition(":")
    if not (host and port.isdecimal()):
        raise ProfileError(f"--bind {options.bind!r}; allowed: HOST:PORT, or '*:PORT' for everyone")
    if options.bind != BIND and not options.workers:
        raise ProfileError(f"{given}; allowed: --bind only with --workers")
    try:
        return Fleet(
            processes=options.processes, workers=options.workers, bind=host, port=int(port)
        )
    except ValueError as error:
        raise ProfileError(f"{given}: {error}") from error


def _invite(fleet: Fleet) -> None:
    """Say how workers join; nobody has to know before the master waits for them."""
    if fleet.workers:
        sys.stderr.write(
            f"phase5: {fleet.workers} workers are awaited at {fleet.bind}:{fleet.port} for "
            f"{fleet.wait:g} s; on each machine: {invitation(fleet)}\n"
        )


def _folder(profile: Profile, options: Options, created: datetime) -> Path:
    """A folder of its own for each run: what an earlier one left is never mixed in."""
    folder = options.report or FOLDER / f"{profile.name}-{created:%Y%m%dT%H%M%SZ}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProfileError(f"--report {folder}: not empty; allowed: a new or empty folder")
    return folder


def _baseline(profile: Profile, options: Options) -> dict[str, Any] | None:
    """The baseline to compare with, refused early where it is known to be of another kind."""
    if not profile.compares or options.record:
        return None
    baseline = read_baseline(options.baseline)
    _require_same(baseline, {"machine": machine(), "time_scale": options.time_scale})
    return baseline


def _require_same(baseline: dict[str, Any], facts: dict[str, object]) -> None:
    strange = strangeness(baseline, facts)
    if strange:
        raise ProfileError(strange)


def _runner(
    options: Options,
    folder: Path,
    progress: Show,
    baseline: dict[str, Any] | None,
) -> Runner:
    fixed = fixed_engine(options.engine_url.rstrip("/")) if options.engine_url else None
    flags = _flags(options, fixed)

    @contextmanager
    def engine_for(wanted: str) -> Iterator[Engine]:
        if fixed is not None:
            _require_known(baseline, fixed.identity)
            yield fixed
            return
        log = folder / f"engine-{wanted}.log"
        with started_engine(wanted, model=options.model, config=options.config, log=log) as engine:
            _require_known(baseline, engine.identity)
            yield engine

    return Runner(
        engine_for=engine_for,
        folder=folder / "runs",
        flags=flags,
        fixed=fixed is not None,
        on_progress=progress,
    )


def _require_known(baseline: dict[str, Any] | None, engine: EngineIdentity) -> None:
    names = ("model", "model_sha256", "engine_version")
    if baseline is not None:
        _require_same(baseline, {name: getattr(engine, name) for name in names})


def _flags(options: Options, fixed: Engine | None) -> str:
    asked = None if options.flags is None else flag_set_name(parse_flag_set(options.flags))
    if fixed is None:
        return asked or "off"
    if asked is not None and asked != fixed.flag_set:
        raise ProfileError(f"--flags {asked}: {fixed.url} serves {fixed.flag_set}")
    return fixed.flag_set


def _console() -> Console:
    """Off a terminal nothing is wrapped or cut."""
    console = Console()
    return console if console.is_terminal else Console(width=_SURELY_WIDE)


def _refuse(message: str, status: int, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"error": message}) + "\n")
    sys.stderr.write(f"phase5: {message}\n")
    return status
