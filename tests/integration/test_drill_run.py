"""`phase5 drill` on real scratch engines: its evidence is what a gate takes."""

from pathlib import Path

from rollout_parts import phase5

from gates.criteria import Outcome
from gates.evidence import read_measurement
from gates.groups import grouped
from gates.journal import ChaosVerdict
from gates.kinds import assess
from gates.policy import load_policy

#: Fewer than operators drill with: other tests run beside this one.
STREAMS = 16


def test_a_drill_loses_nobody_and_is_evidence(tmp_path: Path) -> None:
    report = tmp_path / "drill"
    code, said = phase5("drill", "--streams", str(STREAMS), "--report", str(report))
    assert code == 0, said
    assert said["lost_streams"] == 0
    assert said["live_streams"] > 0
    assert said["treated_before"] > 0
    assert said["treated_after"] == 0
    times = [said[f"{name}_seconds"] for name in ("detect", "decide", "apply", "converge")]
    assert times == sorted(times)
    assert len(said["engine_seconds"]) == 2
    measurement = read_measurement(Path(said["evidence"]))
    (journal,) = measurement.journals
    assert journal.verdict is ChaosVerdict.PASS
    criterion = load_policy().criteria["drill"]
    assert criterion.id in measurement.criteria
    (group,) = grouped([measurement])
    assert {finding.outcome for finding in assess(criterion, group)} == {Outcome.PASS}
