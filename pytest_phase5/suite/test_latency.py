"""Treatment is not slower than control: time to first token and latency, at the 95th percentile.

The two engines are measured in turn inside one test, so that heat and neighbours hit both.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.core.flags import FLAGS
from pytest_phase5.doors import policy_of
from pytest_phase5.fixtures import EnginePair
from pytest_phase5.load.workload import Workload
from pytest_phase5.recording import Evidence
from pytest_phase5.stash import SETTINGS
from pytest_phase5.suite.comparing import measure_in_turn

#: Measures with a workload, and so many pairs between two looks.
Compare = Callable[[Workload, int], None]

CRITERIA = ("ttft_p95_vs_control", "latency_p95_vs_control")

#: Short prompts, and a second token so that decoding shows in the latency.
REAL = Workload(name="compare-real", words=(3, 6), tokens=(2, 2), system="Answer.")
#: Pairs between two looks at a real model: half a second or more each on two cores.
REAL_PAIRS = 75
#: `tiny` answers in hundredths of a second: more pairs, longer answers.
QUICK = Workload(name="compare-quick", words=(4, 12), tokens=(8, 8))
QUICK_PAIRS = 150


@pytest.mark.slo("ttft_p95_vs_control")
@pytest.mark.slo("latency_p95_vs_control")
@pytest.mark.flag_set("all", model="smollm2-135m")
def test_all_features_together_are_not_slower(compare: Compare) -> None:
    """Every feature on, against none, on a real language model."""
    compare(REAL, REAL_PAIRS)


@pytest.mark.slo("ttft_p95_vs_control")
@pytest.mark.slo("latency_p95_vs_control")
@pytest.mark.flag_set(*FLAGS, model="tiny")
def test_a_single_feature_is_not_slower(compare: Compare) -> None:
    """One feature on, against none."""
    compare(QUICK, QUICK_PAIRS)


@pytest.fixture
def compare(
    engine_pair: EnginePair,
    evidence: Evidence,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Compare:
    """Measures the pair of the test with a workload, so many pairs between two looks."""
    policy = policy_of(request.config.stash[SETTINGS])
    criteria = [policy.criteria[name] for name in CRITERIA]

    def measure(workload: Workload, pairs: int) -> None:
        result = measure_in_turn(engine_pair, workload, criteria, tmp_path, pairs=pairs)
        evidence.record(result, treatment=engine_pair.treatment, control=engine_pair.control)

    return measure
