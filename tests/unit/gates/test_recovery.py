"""Chaos: what an experiment did not prove is no evidence, whatever it says of itself."""

from dataclasses import replace
from typing import Any

import pytest
from gate_builders import measurement
from kind_builders import KILL

from gates.completeness import missing
from gates.criteria import Outcome
from gates.evidence import EvidenceError, read_measurement, write_measurement
from gates.groups import grouped
from gates.journal import ChaosVerdict, Journal, journal_from_row, journal_row
from gates.kinds import assess
from gates.policy import load_policy

POLICY = load_policy()
CRITERION = POLICY.criteria["chaos_recovery"]


def outcome_of(journal: Journal) -> tuple[Outcome, str]:
    (group,) = grouped([measurement("t", [CRITERION.id], journals=(journal,))])
    (finding,) = assess(CRITERION, group)
    return finding.outcome, finding.reason


def test_a_proven_fault_that_was_survived_passes() -> None:
    outcome, reason = outcome_of(KILL)
    assert outcome is Outcome.PASS
    assert reason.startswith("chaos_recovery 4.2 s <= 60 s (n=1 run of runtime-kill, flags=all")


@pytest.mark.parametrize(
    ("changes", "outcome", "words"),
    [
        ({"recovery_seconds": 61.0}, Outcome.FAIL, "61 s > 60 s"),
        ({"recovery_seconds": None}, Outcome.FAIL, "service did not come back"),
        ({"steady_after": False}, Outcome.FAIL, "service did not come back"),
        ({"lost_streams": 2}, Outcome.FAIL, "2 > 0 streams lost"),
        ({"proven": False}, Outcome.INVALID, "not proven to have happened"),
        ({"steady_before": False}, Outcome.INVALID, "nothing was steady before"),
        ({"requested": {}}, Outcome.INVALID, "requested, read back and measured"),
        ({"read_back": {}}, Outcome.INVALID, "requested, read back and measured"),
        ({"measured": {}}, Outcome.INVALID, "requested, read back and measured"),
        ({"lost_streams": -1}, Outcome.INVALID, "-1 lost streams"),
        ({"recovery_seconds": float("nan")}, Outcome.INVALID, "recovery after nan s"),
        ({"recovery_seconds": -1.0}, Outcome.INVALID, "recovery after -1.0 s"),
        ({"verdict": ChaosVerdict.FAIL, "reasons": ("slow",)}, Outcome.FAIL, "fail: slow"),
        ({"verdict": ChaosVerdict.FAIL, "proven": False}, Outcome.INVALID, "not proven"),
        ({"verdict": ChaosVerdict.INCONCLUSIVE}, Outcome.INCONCLUSIVE, "without a reason"),
        ({"verdict": ChaosVerdict.INVALID}, Outcome.INVALID, "invalid"),
        ({"verdict": ChaosVerdict.ABORTED}, Outcome.NO_DATA, "aborted"),
    ],
)
def test_everything_else_does_not(changes: dict[str, Any], outcome: Outcome, words: str) -> None:
    found, reason = outcome_of(replace(KILL, **changes))
    assert found is outcome
    assert words in reason


def test_a_group_without_an_experiment_has_no_data() -> None:
    (group,) = grouped([measurement("t", [CRITERION.id])])
    (finding,) = assess(CRITERION, group)
    assert finding.outcome is Outcome.NO_DATA


def test_every_experiment_of_a_criterion_must_have_been_carried_out() -> None:
    done = tuple(replace(KILL, experiment=name) for name in CRITERION.experiments)
    whole = measurement("t", [CRITERION.id], journals=done)
    assert list(missing(POLICY, CRITERION, [whole], frozenset())) == []
    (gap,) = missing(POLICY, CRITERION, [replace(whole, journals=done[1:])], frozenset())
    assert (gap.outcome, gap.absent) == (Outcome.NO_DATA, False)
    assert "0 runs of experiment 'runtime-kill'; needs 1" in gap.reason
    assert len(list(missing(POLICY, CRITERION, [], frozenset()))) == len(CRITERION.experiments)


def test_a_journal_comes_back_from_an_evidence_file(tmp_path: Any) -> None:
    written = measurement("t", [CRITERION.id], journals=(KILL,))
    assert read_measurement(write_measurement(tmp_path, written)) == written


@pytest.mark.parametrize(
    "change",
    [
        {"proven": "true"},
        {"lost_streams": 0.0},
        {"verdict": "fine"},
        {"reasons": None},
        {"extra": 1},
        {"recovery_seconds": "4"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_journal_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not a journal row|fine"):
        journal_from_row({**journal_row(KILL), **change})


def test_a_malformed_journal_makes_its_file_no_evidence(tmp_path: Any) -> None:
    path = write_measurement(tmp_path, measurement("t", [CRITERION.id], journals=(KILL,)))
    text = path.read_text(encoding="utf-8").replace('"proven": true', '"proven": 1')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvidenceError):
        read_measurement(path)
