"""The real gate out of early, which the packaged experiments decide. Minutes: run in full only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from engine.core.flags import FLAGS

ROOT = Path(__file__).parents[2]

#: As a project has them that let every flag into early five days ago.
STANDING = {
    "enabled": True,
    "rollout_percentage": 10,
    "stage": "early",
    "entered_at": "2026-11-20T00:00:00+00:00",
    "epoch": 2,
}

if "PHASE5_FULL" in os.environ:

    def test_thirteen_experiments_of_the_packaged_suite_open_the_door_out_of_early(
        tmp_path: Path,
    ) -> None:
        config = tmp_path / "config"
        config.mkdir()
        policy = yaml.safe_load((ROOT / "config/gates.yaml").read_text("utf-8"))
        policy["stages"]["early"]["leave"] = ["chaos_resilience"]  # what remains is not of chaos
        (config / "gates.yaml").write_text(yaml.safe_dump(policy), "utf-8")
        runtime = yaml.safe_load((ROOT / "config/runtime.yaml").read_text("utf-8"))
        runtime["phase4_rollout"] = {flag: dict(STANDING) for flag in FLAGS}
        (config / "runtime.yaml").write_text(yaml.safe_dump(runtime), "utf-8")
        options = ("-q", "-p", "no:locust", "-p", "no:asyncio", "--phase5-gate=early")
        gate = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert gate.returncode == 0, gate.stdout
        verdict = json.loads((tmp_path / "phase5-report/verdict.json").read_text("utf-8"))
        assert verdict["verdict"] == "promote"
        assert "chaos_resilience" in gate.stdout
        assert "13 passed" in gate.stdout
