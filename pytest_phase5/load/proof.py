"""A load run as evidence: what its parts bring for the criteria that they name.

A gate takes it with `--phase5-evidence FOLDER`, for criteria that allow evidence from
elsewhere, when build, configuration, model and machine class are its own.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

from gates.evidence import EVIDENCE_DIR, LOAD_ITEM, Measurement, write_measurement
from pytest_phase5.load.building import measured
from pytest_phase5.load.running import PartResult, ProfileResult


def write_proof(folder: Path, result: ProfileResult, *, machine: str, created: str) -> None:
    """Write the evidence files of a result, below its folder."""
    for measurement in measurements(result, machine=machine, created=created):
        write_measurement(folder / EVIDENCE_DIR, measurement)


def measurements(result: ProfileResult, *, machine: str, created: str) -> Iterator[Measurement]:
    """One measurement for each part that is evidence for anything, without its warm-up."""
    run = uuid.uuid4().hex
    for part in result.parts:
        if part.part.criteria:
            reasons = _reasons(part, result)
            yield Measurement(
                run=run,
                item=f"{LOAD_ITEM}{result.profile.name}",
                attempt=1,
                criteria=part.part.criteria,
                arms={"treatment": part.engine.identity},
                machine=machine,
                created=created,
                samples=tuple(measured(part.samples)),
                usage=part.usage,
                valid=not reasons,
                invalid_reason="; ".join(reasons),
                profile=result.profile.name,
                time_scale=result.setting.time_scale,
            )


def _reasons(part: PartResult, result: ProfileResult) -> tuple[str, ...]:
    """What was cut short is no evidence for the whole."""
    if result.complete and part.complete:
        return part.reasons
    return (*part.reasons, f"the profile {result.profile.name} did not run to its end")
