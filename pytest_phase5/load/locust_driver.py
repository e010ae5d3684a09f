"""Where the Locust driver goes in: the same plan, the same files, another sender."""

from collections.abc import Callable
from pathlib import Path

from pytest_phase5.load.plan import Plan


def run_locust(plan: Plan, folder: Path, watch: Callable[[], None]) -> int:
    """Carry out a plan with Locust, and leave in the folder what the generator would.

    That is `samples.jsonl` (every measured request, also in warm-up excluded ones not, in
    order of their index), last `samples.json` (`checks.write_report`), and, while it goes
    on, `progress.jsonl` (`progress.write_progress`). It is bounded by `plan.longest` and
    leaves nothing running, also on Ctrl-C.

    Args:
        plan: what to do; its `driver` is `locust`. It is in the folder too, as `plan.json`.
        folder: where the run keeps its files.
        watch: to be called several times a second meanwhile: it shows progress.

    Returns:
        0 when the run is complete, 1 when it was stopped, anything else when it failed.

    Raises:
        NotImplementedError: always, until there is a Locust driver.
    """
    raise NotImplementedError(f"driver {plan.driver!r} of {folder}: not built; {watch} not called")
