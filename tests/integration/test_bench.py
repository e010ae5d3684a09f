"""A small real comparison: `mlx_lm.server` and this engine on `tiny`, told and drawn."""

import json
import subprocess
import sys
from pathlib import Path

#: As little as shows the whole way.
ASKED = ("--workload=chat", "--streams=2", "--rounds=1", "--quick", "--arm=peer", "--arm=on")


def test_the_peer_and_the_engine_do_the_same_work_and_answer_alike(tmp_path: Path) -> None:
    report = tmp_path / "report"
    command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "bench", *ASKED, "--json"]
    done = subprocess.run(
        [*command, f"--report={report}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["identical"] == {arm: {"same": 8, "of": 8} for arm in ("peer", "on")}
    (cell,) = facts["cells"]
    tokens = {arm: row["tokens"]["output"] for arm, row in cell["rows"].items()}
    assert tokens["peer"] == tokens["on"] == 16 * cell["requests"]
    assert {row["states"]["whole"] for row in cell["rows"].values()} == {1}
    assert [(r["of"], r["to"]) for r in cell["ratios"]][:1] == [("on", "peer")]
    assert facts["environment"]["peer"] == facts["environment"]["on"]
    assert json.loads((report / "bench.json").read_text()) == {
        name: value for name, value in facts.items() if name != "report"
    }
    assert (report / "bench.svg").read_text().startswith("<svg")
