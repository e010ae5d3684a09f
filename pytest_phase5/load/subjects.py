"""The engines that a profile runs against: one of our own for each flag set, or a fixed one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pytest_phase5.engines import Engine, identify, served_flags
from pytest_phase5.launching import OWN_COMMAND, start_process, stopping
from pytest_phase5.load.resources import local_process
from pytest_phase5.markers import EngineSpec
from pytest_phase5.options import START_SECONDS


@contextmanager
def started_engine(
    flags: str,
    *,
    model: str | None,
    config: Path | None,
    log: Path,
    command: tuple[str, ...] | None = None,
) -> Iterator[Engine]:
    """An engine of our own, stopped and checked at the end of the block.

    Raises:
        EngineError: it does not start, serve or stop as it must.
    """
    spec = EngineSpec(flags, model)
    process = start_process(
        command or OWN_COMMAND, spec, config=config, log=log, start_seconds=START_SECONDS
    )
    with stopping(lambda: process.stop(process.ready["ready"])):
        url = process.ready["ready"]
        # Without a flag set the configuration says what serves, in shares that are no set.
        known = spec if flags else EngineSpec(served_flags(url), model)
        identity, second = identify(url, known, started_here=True)
        yield Engine(
            url=url,
            h2_url=process.ready.get("ready-h2") or second or None,
            flag_set=flags or "off",
            identity=identity if flags else replace(identity, flag_set="off"),
            pid=process.pid,
            log=log,
        )


def fixed_engine(url: str) -> Engine:
    """An engine that somebody else runs, with the flags that it serves.

    Raises:
        EngineError: it does not answer.
    """
    spec = EngineSpec(served_flags(url))
    identity, second = identify(url, spec, started_here=False)
    return Engine(url=url, h2_url=second or None, flag_set=spec.flag_set, identity=identity)


def front_end_of(engine: Engine) -> int | None:
    """The process id of an engine's front end; None where that cannot be told."""
    if engine.pid is not None:
        return engine.pid
    pids = [replica.get("pid") for replica in engine.status().get("replicas", ())]
    return local_process(engine.url, [pid for pid in pids if isinstance(pid, int)])
