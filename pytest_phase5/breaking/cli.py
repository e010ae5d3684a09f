"""`phase5 chaos run`, `list` and `install`: plain functions that print and return a status."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from chaos.catalogue import EXPERIMENTS, experiment_named
from chaos.errors import ChaosError, InstallError
from chaos.experiment import Experiment
from chaos.installing import find_server
from chaos.installing import install as build
from chaos.journal import Account, document, write
from chaos.runner import run as carry_out
from engine.config import ConfigError, load_config
from engine.runtime.blas import tools_folder
from gates.evidence import ChaosVerdict
from gates.policy import policy_beside
from pytest_phase5.breaking.proof import criteria_of, identity, write_proof
from pytest_phase5.breaking.stage import LocalStage
from pytest_phase5.engines import EngineError
from pytest_phase5.load.subjects import fixed_engine
from pytest_phase5.recording import machine

PASSED: Final = 0
ERROR: Final = 1
USAGE: Final = 2

#: Where runs go unless told otherwise, below the working folder.
FOLDER: Final = Path("phase5-chaos")

#: The model of experiments: what they show is the engine's doing, and this one answers fast.
MODEL: Final = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for; None leaves it to the default."""

    full: bool = False
    model: str | None = None
    config: Path | None = None
    engine_url: str | None = None
    flags: str | None = None
    seed: int = 0
    report: Path | None = None


def list_experiments(*, as_json: bool) -> int:
    """Name the experiments and what each shows."""
    rows = [{"name": each.name, "title": each.title} for each in EXPERIMENTS.values()]
    width = max(len(row["name"]) for row in rows)
    text = "\n".join(f"{row['name']:<{width}}  {row['title']}" for row in rows)
    sys.stdout.write((json.dumps({"experiments": rows}) if as_json else text) + "\n")
    return PASSED


def install(*, as_json: bool) -> int:
    """Have the Toxiproxy server: found, else built into the tools folder."""
    tools = tools_folder(os.environ)
    try:
        found = find_server(tools)
        path, built = found or build(tools), found is None
    except InstallError as error:
        return _refuse(str(error), ERROR, as_json=as_json)
    text = f"{'built' if built else 'found'} {path}"
    row = json.dumps({"path": str(path), "built": built})
    sys.stdout.write((row if as_json else text) + "\n")
    return PASSED


def run(name: str, options: Options, *, as_json: bool) -> int:
    """Carry out an experiment; 0 when it passed, else 1."""
    try:
        with _terminated():
            return _run(experiment_named(name), options, as_json=as_json)
    except (InstallError, EngineError) as error:
        return _refuse(str(error), ERROR, as_json=as_json)
    except (ChaosError, ConfigError) as error:
        return _refuse(str(error), USAGE, as_json=as_json)
    except KeyboardInterrupt:
        return _refuse(f"{name}: interrupted before anything began", ERROR, as_json=as_json)


def _run(experiment: Experiment, options: Options, *, as_json: bool) -> int:
    folder = _folder(experiment, options)
    config = options.config or _local_config()
    if config is not None:
        load_config(config)  # refused here rather than by an engine that will not start
    policy = policy_beside(config)
    fixed = fixed_engine(options.engine_url.rstrip("/")) if options.engine_url else None
    stage = LocalStage(
        folder=folder / "runs",
        model=options.model or MODEL,
        config=config,
        engine_now=fixed,
        only=fixed is not None,
    )
    flags = options.flags or (fixed.flag_set if fixed else None)
    account = carry_out(
        experiment,
        stage,
        full=options.full,
        seed=options.seed,
        flags=flags,
        compare=fixed is None,
        say=_say,
    )
    engine = fixed or next(iter(stage.started), None)
    facts = document(account)
    write(folder, account)
    if engine is not None:
        write_proof(
            folder,
            account,
            engine=identity(engine, config),
            criteria=criteria_of(experiment.name, policy.criteria.values()),
            machine=machine(),
        )
    if as_json:
        sys.stdout.write(json.dumps({**facts, "report": str(folder)}) + "\n")
    else:
        sys.stdout.write("\n".join([*_lines(account, facts), f"report: {folder}"]) + "\n")
    return PASSED if account.verdict is ChaosVerdict.PASS else ERROR


def _lines(account: Account, facts: dict[str, Any]) -> Iterator[str]:
    yield f"{account.experiment.name}: {account.verdict.value}"
    yield from (f"  {reason}" for reason in account.judgement.reasons)
    fault = facts["fault"]
    for word in ("requested", "read_back", "measured"):
        yield f"  {word.replace('_', ' ')}: {json.dumps(fault[word])}"
    for word, seconds in facts["seconds"].items():
        yield f"  {word}: {'-' if seconds is None else f'{seconds:.3g} s'}"
    streams = facts["streams"]
    yield (
        f"  streams: {streams['sent']} sent, {streams['lost']} lost, "
        f"{streams['errors_charged_to_the_fault']} errors charged to the fault"
    )
    if account.control is not None:
        times = account.control.judgement.times
        took = "-" if times.recovery is None else f"{times.recovery:.3g} s"
        yield f"  control, flags off: {account.control.verdict.value}, recovery {took}"
    yield f"  again: {facts['replay']}"


def _folder(experiment: Experiment, options: Options) -> Path:
    """A folder of its own for each run: what an earlier one left is never mixed in."""
    created = datetime.now(UTC)
    folder = options.report or FOLDER / f"{experiment.name}-{created:%Y%m%dT%H%M%SZ}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ChaosError(f"--report {folder}: not empty; allowed: a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _local_config() -> Path | None:
    local = Path("config", "runtime.yaml")
    return local if local.exists() else None


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM undoes everything, as Ctrl-C does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _say(what: str) -> None:
    sys.stderr.write(f"phase5: {what}\n")


def _refuse(message: str, status: int, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"error": message}) + "\n")
    _say(message)
    return status
