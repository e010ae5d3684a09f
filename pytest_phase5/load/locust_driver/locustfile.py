"""What Locust runs: one pump in each process, which walks the schedule of the plan.

`python -m locust -f` this file; see `command.py`. It reads no option of its own: the plan is
named by one environment variable, and a worker without it gets the plan from its master.
"""

import os
import signal
from pathlib import Path
from typing import Any, Final, Protocol

from gevent.monkey import get_original
from locust import User, events, log, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, Runner, WorkerRunner

from pytest_phase5.load.locust_driver.hand import Hand
from pytest_phase5.load.locust_driver.head import Head
from pytest_phase5.load.locust_driver.parts import PLAN_VARIABLE
from pytest_phase5.load.locust_driver.solo import Solo

#: Seconds that a process has to write what there is once its owner is gone.
HARD_END: Final = 5.0
#: What Locust exits with when our own code broke; failed requests are data, and exit 0.
BROKEN: Final = 3


class Role(Protocol):
    """What a process does in a run."""

    def stop(self, reason: str) -> None:
        """End early; nothing to do once it is over."""


class Pump(User):  # type: ignore[misc]  # Locust's metaclass is not annotated
    """The one user of a process: it keeps time, and each request is a greenlet of its own."""

    @task  # type: ignore[untyped-decorator]  # as above
    def walk(self) -> None:
        """Walk this process's share once."""
        role = ROLES[self.environment]
        if isinstance(role, Solo | Hand):
            role.pump()
        raise StopUser


#: One entry: a process has one environment.
ROLES: Final[dict[Environment, Role]] = {}


def _begin(environment: Environment, runner: Runner, **_: Any) -> None:
    named = os.environ.get(PLAN_VARIABLE)
    plan = Path(named) if named else None
    if isinstance(runner, WorkerRunner):
        ROLES[environment] = Hand(environment, plan)
    elif plan is None:
        raise ValueError(f"{PLAN_VARIABLE} is not set; allowed: the path of a plan")
    else:
        role = Head if isinstance(runner, MasterRunner) else Solo
        ROLES[environment] = role(environment, plan)


def _quit(environment: Environment, **_: Any) -> None:
    ROLES[environment].stop("Locust was stopped")
    if environment.runner.exceptions or log.unhandled_greenlet_exception:
        environment.process_exit_code = BROKEN


def _hold_leash() -> None:
    """End this process when its owner is gone: its standard input is a pipe from there.

    By a real thread, since Locust also waits in places that no greenlet may interrupt.
    """
    get_original("_thread", "start_new_thread")(_await_owner, ())


def _await_owner() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    get_original("time", "sleep")(HARD_END)
    os.kill(os.getpid(), signal.SIGKILL)


events.init.add_listener(_begin)
events.quitting.add_listener(_quit)
_hold_leash()
os.register_at_fork(after_in_child=_hold_leash)
