"""A first SLO of this project: `python -m pytest --phase5-gate=canary --phase5-from=off`.

Change the workload to what your users ask. `--phase5-model` takes your own model: a
directory or a Hugging Face id.
"""

from pathlib import Path

import pytest

from pytest_phase5.engines import Engine
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.workload import Workload
from pytest_phase5.recording import Evidence

WORKLOAD = Workload(name="first-slo", words=(8, 16), tokens=(2, 4))

#: `error_rate` needs 2,995 requests before it can show 0.1 % at 95 % confidence.
REQUESTS = 3_200


@pytest.mark.slo("error_rate")
@pytest.mark.flag_set("all", model="tiny")
def test_fewer_than_one_request_in_a_thousand_fails(
    mlx_engine: Engine, evidence: Evidence, tmp_path: Path
) -> None:
    """Requests arrive at their own pace; the judge reads what became of each."""
    plan = open_loop(
        mlx_engine.url,
        rate=60,
        requests=REQUESTS,
        seed=1,
        workload=WORKLOAD,
        lag_limit=1.0,  # seconds; errors are counted, not times, so a busy machine may send late
    )
    evidence.record(run_plan(plan, tmp_path / "load"), treatment=mlx_engine)
