"""A run of an experiment as evidence: what a gate judges of it, and whose engine it was."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from chaos.journal import Account, gate_journal
from engine.config import load_config, packaged
from gates.criteria import Criterion
from gates.evidence import CHAOS_ITEM, EVIDENCE_DIR, EngineIdentity, Measurement, write_measurement
from pytest_phase5.engines import Engine


def identity(engine: Engine, config: Path | None) -> EngineIdentity:
    """Who was broken: the build, model and flags that ran, on the configuration it began from.

    What an experiment lays over that configuration is a part of the experiment, and stands
    among what its journal requested.
    """
    base = load_config(config or packaged("runtime.yaml"))
    return replace(engine.identity, config_sha256=base.digest())


def criteria_of(experiment: str, criteria: Iterable[Criterion]) -> tuple[str, ...]:
    """The criteria that ask for an experiment."""
    return tuple(each.id for each in criteria if experiment in each.experiments)


def write_proof(
    folder: Path,
    account: Account,
    *,
    engine: EngineIdentity,
    criteria: tuple[str, ...],
    machine: str,
) -> None:
    """Write the evidence file of a run, below its folder; none where no criterion asks for it."""
    if not criteria:
        return
    measurement = Measurement(
        run=uuid.uuid4().hex,
        item=f"{CHAOS_ITEM}{account.experiment.name}",
        attempt=1,
        criteria=criteria,
        arms={"treatment": engine},
        machine=machine,
        created=account.ended,
        journals=(gate_journal(account),),
    )
    write_measurement(folder / EVIDENCE_DIR, measurement)
