"""A load run as evidence for a gate: only of what it did to its end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gates.evidence import EVIDENCE_DIR, EngineIdentity, read_measurement
from gates.policy import load_policy
from gates.samples import Outcome, Sample
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import Setting
from pytest_phase5.load.profiles import PROFILES, Part
from pytest_phase5.load.proof import measurements, write_proof
from pytest_phase5.load.running import PartResult, ProfileResult

IDENTITY = EngineIdentity(
    flag_set="all",
    model="tiny",
    model_sha256="aa" * 32,
    engine_version="0.1.0",
    commit="c0ffee",
    config_sha256="cf" * 32,
)
ENGINE = Engine(url="http://127.0.0.1:1", flag_set="all", identity=IDENTITY)


def sample(index: int, block: int) -> Sample:
    return Sample(
        index=index,
        arm="treatment",
        block=block,
        scheduled=0.0,
        sent=0.0,
        first_token=0.1,
        end=0.2,
        outcome=Outcome.OK,
    )


def ran(part: Part, **changes: Any) -> PartResult:
    """A part with one warm-up request and two that count."""
    samples = (sample(0, 0), sample(1, 1), sample(2, 1))
    fine = PartResult(part=part, engine=ENGINE, driver="http1", samples=samples)
    return replace(fine, **changes)


def result(name: str, **changes: Any) -> ProfileResult:
    parts = tuple(ran(part, **changes) for part in PROFILES[name].parts)
    return ProfileResult(profile=PROFILES[name], setting=Setting(url=""), parts=parts)


def test_each_part_that_is_evidence_is_written_without_its_warm_up(tmp_path: Path) -> None:
    write_proof(tmp_path, result("connections"), machine="linux-2cpu", created="now")
    written = [read_measurement(path) for path in (tmp_path / EVIDENCE_DIR).iterdir()]
    assert len(written) == 2
    for measurement in written:
        assert [s.index for s in measurement.samples] == [1, 2]
        assert measurement.criteria == ("connection_overhead",)
        assert measurement.item == "load::connections"
        assert measurement.arms == {"treatment": IDENTITY}
        assert (measurement.machine, measurement.valid) == ("linux-2cpu", True)
    assert len({measurement.run for measurement in written}) == 1


def test_a_part_that_is_evidence_for_nothing_is_not_written() -> None:
    (busiest,) = measurements(result("throughput"), machine="", created="")
    assert busiest.criteria == ("throughput_rps", "streams_75")
    assert list(measurements(result("soak"), machine="", created="")) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reasons": ("late", "dropped")}, "late; dropped"),
        ({"complete": False}, "the profile ttft did not run to its end"),
    ],
)
def test_what_is_not_valid_says_so(changes: dict[str, Any], words: str) -> None:
    (found,) = measurements(result("ttft", **changes), machine="", created="")
    assert (found.valid, found.invalid_reason) == (False, words)


def test_profiles_name_criteria_that_take_evidence_from_elsewhere_or_come_with_a_test() -> None:
    criteria = load_policy().criteria
    named = {name for p in PROFILES.values() for part in p.parts for name in part.criteria}
    assert named <= criteria.keys()
    assert {name for name in named if not criteria[name].elsewhere} == {"no_leak"}
