"""How Locust is started: the command, its environment and its folder."""

import os
import shutil
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pytest_phase5.load.locust_driver.parts import LOG, PLAN_VARIABLE, STATS
from pytest_phase5.load.plan import Fleet

#: Names the interpreter that has Locust; default: the one that runs.
INTERPRETER_VARIABLE: Final = "PHASE5_LOCUST"
LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
_LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = ("*", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
#: Of ours, what the locustfile imports.
_PACKAGES: Final = ("pytest_phase5", "gates")
#: Environment that would enter the children: Locust's own options, and coverage tools.
_FOREIGN: Final = ("LOCUST_", "COV_CORE_", "COVERAGE_PROCESS_")


class UsageError(Exception):
    """Locust cannot be started as asked. The message says what was given and what is allowed."""


def interpreter(environment: Mapping[str, str]) -> str:
    """The Python that runs Locust.

    Raises:
        UsageError: when the variable names no program.
    """
    named = environment.get(INTERPRETER_VARIABLE)
    if not named:
        return sys.executable
    found = shutil.which(named)
    if found is None:
        raise UsageError(
            f"{INTERPRETER_VARIABLE}={named} is not a program; allowed: a Python that has Locust"
        )
    return str(Path(found).absolute())  # not resolved: a virtual environment is told by its link


def run_command(python: str, fleet: Fleet, port: int) -> list[str]:
    """A run: one process, a master with forks, or a master that waits for other machines.

    Args:
        python: from `interpreter`.
        fleet: how many processes there are, and where.
        port: of the master; of no meaning for one process.
    """
    users = fleet.workers or fleet.processes
    command = [
        *_locust(python),
        *("--users", str(users), "--spawn-rate", str(users)),
        *("--only-summary", "--exit-code-on-error", "0"),
        *("--json-file", STATS, "--csv", STATS, "--html", f"{STATS}.html"),
    ]
    if fleet.workers:
        command += ["--master", "--expect-workers", str(fleet.workers)]
        command += ["--expect-workers-max-wait", str(round(fleet.wait))]
        command += ["--master-bind-host", fleet.bind, "--master-bind-port", str(port)]
    elif fleet.processes > 1:
        command += ["--processes", str(fleet.processes)]
        command += ["--master-bind-host", _LOOPBACK, "--master-bind-port", str(port)]
        command += ["--master-host", _LOOPBACK, "--master-port", str(port)]
    return command


def worker_command(python: str, host: str, port: int, processes: int) -> list[str]:
    """A worker, or several, of a master on another machine."""
    several = ["--processes", str(processes)] if processes > 1 else []
    where = ["--master-host", host, "--master-port", str(port)]
    return [*_locust(python), "--worker", *where, *several]


def invitation(fleet: Fleet) -> str:
    """What to run on each of the other machines, for people to copy."""
    host = "MASTER" if fleet.bind in _EVERYWHERE else fleet.bind
    return f"phase5 load worker {host}:{fleet.port}"


def child_environment(
    python: str, folder: Path, plan: Path | None, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What Locust's processes see.

    Locust reads options from `LOCUST_*`, from `~/.locust.conf` and from files in the current
    folder. A run does what its plan says and nothing else: it gets another home.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(_FOREIGN)}
    ours = {"HOME": str(folder), "PYTHONUSERBASE": site.getuserbase()}
    if plan is not None:
        ours[PLAN_VARIABLE] = str(plan)
    if python != sys.executable:
        ours["PYTHONPATH"] = str(_lend_packages(folder))
    return {**kept, **ours}


def _lend_packages(folder: Path) -> Path:
    """A folder with our two packages and nothing else of this environment."""
    home = Path(__file__).resolve().parents[3]
    lent = folder / "lent"
    lent.mkdir()
    for package in _PACKAGES:
        (lent / package).symlink_to(home / package)
    return lent


def _locust(python: str) -> list[str]:
    return [
        *(python, "-P", "-m", "locust", "-f", str(LOCUSTFILE)),
        *("--headless", "--logfile", LOG, "--loglevel", "INFO"),
    ]
