"""`phase5 watch`: a plain function that runs the guard and returns a status.

0: told to stop, or with `--once` nothing to do; 10: somebody must look; 20: a rollback was begun
or is not everywhere yet (both with `--once`); 1: it cannot work; 2: configuration.
"""

import asyncio
import json
import logging
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.config import ConfigError
from gates.direct import Direct
from gates.exits import DONE, ERROR, USAGE, refuse
from gates.fleet import config_in_use, state_folder
from gates.guarding.building import built
from gates.guarding.concerns import holds
from gates.guarding.evidence import Evidence
from gates.guarding.folder import BusyError, owned
from gates.guarding.running import Watch, holdbacks, summary
from gates.ledger import CLOSED_AFTER
from gates.store import StoreError

#: Seconds between two polls: what Prometheus is usually scraped at, and the store pulled at.
POLL_SECONDS: Final = 15.0

#: Seconds after which a guard that waits for another one's folder looks again.
STANDBY_SECONDS: Final = 5.0

HOLD: Final = 10
ROLLBACK: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As given on the command line."""

    config: Path | None = None
    once: bool = False
    as_json: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    poll_seconds: float = POLL_SECONDS
    close_seconds: float = CLOSED_AFTER


def watch(options: Options) -> int:
    """Run the guard."""
    config = config_in_use(options.config)
    folder = state_folder(config) / "guard"
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with ExitStack() as stack:
            _own(folder, stack, waits=not options.once)
            watching = _built(config, folder, options)
            return _once(watching, options) if options.once else _forever(watching, options)
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=options.as_json)
    except (StoreError, BusyError, OSError) as error:
        return refuse(str(error), ERROR, as_json=options.as_json)


def _own(folder: Path, stack: ExitStack, *, waits: bool) -> None:
    """Take the folder, waiting for the guard that has it where one may."""
    told = False
    while True:
        try:
            stack.enter_context(owned(folder))
        except BusyError as error:
            if not waits:
                raise
            if not told:
                sys.stderr.write(f"{error}; standing by\n")
            told = True
            time.sleep(STANDBY_SECONDS)
        else:
            return


def _built(config: Path, folder: Path, options: Options) -> Watch:
    direct = Direct()
    evidence = Evidence(direct, (direct,))
    parts = built(config, folder, evidence, once=options.once)
    evidence.holdback = holdbacks(parts.configuration)
    return Watch(
        config=config,
        rollout=parts.configuration.rollout,
        guard=parts.guard,
        evidence=evidence,
        poll_seconds=options.poll_seconds,
        close_seconds=options.close_seconds,
        as_json=options.as_json,
    )


def _forever(watching: Watch, options: Options) -> int:
    server, port = watching.guard.metrics.serve(options.host, options.port)
    where = f"http://{options.host}:{port}"
    sys.stdout.write(json.dumps({"ready": where}) + "\n" if options.as_json else f"ready {where}\n")
    sys.stdout.flush()
    try:
        asyncio.run(watching.forever())
    finally:
        server.shutdown()
    return DONE


def _once(watching: Watch, options: Options) -> int:
    situation, actions = asyncio.run(watching.once())
    concerns = holds(actions)
    rolled = watching.guard.opened or situation.pending
    status = ROLLBACK if rolled else HOLD if concerns else DONE
    if options.as_json:
        sys.stdout.write(json.dumps({**summary(situation, actions), "status": status}) + "\n")
        return status
    for text in concerns:
        sys.stdout.write(f"{text}\n")
    word = {ROLLBACK: "rollback", HOLD: "hold", DONE: "nothing to do"}[status]
    sys.stdout.write(f"guard: {word}\n")
    return status
