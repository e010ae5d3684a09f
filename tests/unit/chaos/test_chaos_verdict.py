"""The verdict of a run: what was not proven shows nothing, and what broke is told."""

from dataclasses import replace
from typing import Any

import pytest
from chaos_builders import EXPERIMENT, FLOW, MARKS, PROVEN, look, record, sample, spoiled, steady

from chaos.catalogue import EXPERIMENTS
from chaos.checks import CHECKS
from chaos.errors import ChaosError
from chaos.experiment import Clients, Crowd, Expectation, chaos_toolkit
from chaos.faults import KINDS
from chaos.journal import Account, document, exported, gate_journal
from chaos.judging import Judgement, Step, Told, judge
from chaos.record import Effect, Record
from gates.criteria import Outcome as Rule
from gates.evidence import ChaosVerdict, EngineIdentity, Flow, Measurement, Outcome
from gates.groups import Group
from gates.policy import load_policy
from gates.recovery import recovery

CRITERION = load_policy().criteria["chaos_recovery"]
ENGINE = EngineIdentity(
    flag_set="off",
    model="tiny",
    model_sha256="aa" * 32,
    engine_version="0.1.0",
    commit="c0ffee",
    config_sha256="cf" * 32,
)


def judged(found: Record | None = None, effect: Effect = PROVEN, **told: Any) -> Judgement:
    return judge(EXPERIMENT, found or record(), effect, Told(**told))


def test_a_proven_fault_that_nobody_noticed_passes() -> None:
    found = judged()
    assert (found.verdict, found.reasons) == (ChaosVerdict.PASS, ())
    assert (found.steady_before, found.steady_after, found.times.recovery) == (True, True, 0)
    assert (found.lost_streams, found.charged) == (0, 0)


def test_a_fault_that_did_not_take_is_invalid() -> None:
    found = judged(effect=Effect(values={"rise": 0}, why="TTFT rose by 0 s"))
    assert found.verdict is ChaosVerdict.INVALID
    assert "not proven: TTFT rose by 0 s" in found.reasons[0]


@pytest.mark.parametrize("samples", [[], spoiled(steady(), 100, 101, outcome=Outcome.FAILED)])
def test_a_steady_state_that_was_never_met_is_invalid(samples: list[Any]) -> None:
    found = judged(record(samples))
    assert found.verdict is ChaosVerdict.INVALID
    assert not found.steady_before
    assert "not steady before the fault" in found.reasons[0]


def test_what_kept_the_fault_from_being_injected_is_invalid() -> None:
    cut_short = record(marks={name: MARKS[name] for name in ("baseline", "ready")}, looks=())
    found = judged(cut_short, Effect(), invalid=("toxic latency: unknown attribute 'latncy'",))
    assert found.verdict is ChaosVerdict.INVALID
    assert found.reasons == ("toxic latency: unknown attribute 'latncy'",)


def test_a_run_that_was_interrupted_is_aborted_whatever_it_had_shown() -> None:
    found = judged(record(marks={"baseline": 100.0, "ready": 102.0}), interrupted="SIGTERM")
    assert (found.verdict, found.reasons) == (ChaosVerdict.ABORTED, ("SIGTERM",))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (spoiled(steady(), 104, 107, outcome=Outcome.FAILED), "did not come back"),
        (spoiled(steady(), 103, 103.2, outcome=Outcome.CUT), "2 streams lost"),
        (spoiled(steady(), 103, 103.1, output_tokens=7), "1 streams lost"),
        (spoiled(steady(), 103, 103.1, end=None), "1 streams lost"),
    ],
)
def test_what_broke_fails_in_words(samples: list[Any], words: str) -> None:
    found = judged(record(samples))
    assert found.verdict is ChaosVerdict.FAIL
    assert any(words in reason for reason in found.reasons)


def test_a_rollback_that_failed_and_a_leak_fail() -> None:
    bad = Step(what="heal", at=105, ok=False, detail="still in force")
    assert judged(rollbacks=(bad,)).reasons == ("rollback heal: still in force",)
    assert judged(leaks=("leak: 99 descriptors",)).reasons == ("leak: 99 descriptors",)


def test_recovery_beyond_the_limit_fails() -> None:
    late = spoiled(steady(), 104, 105, outcome=Outcome.FAILED)
    found = judge(replace(EXPERIMENT, recover_seconds=0.5), record(late), PROVEN, Told())
    assert found.verdict is ChaosVerdict.FAIL
    assert "recovered after 1 s > 0.5 s" in found.reasons


def test_errors_of_clients_that_the_fault_is_aimed_at_are_charged_to_it_and_lose_no_stream() -> (
    None
):
    aimed = replace(EXPERIMENT, clients=(Clients(flow=FLOW, harmed=True),))
    found = judge(
        aimed, record(spoiled(steady(), 103, 104, outcome=Outcome.FAILED)), PROVEN, Told()
    )
    assert (found.verdict, found.lost_streams, found.charged) == (ChaosVerdict.PASS, 0, 10)


def test_detection_and_remediation_count_from_the_fault() -> None:
    looks = (look(102), look(103.2, ready=False), look(103.4, restarts=1), look(105, restarts=1))
    times = judged(record(looks=looks)).times
    assert times.detection == pytest.approx(0.2)
    assert times.remediation == pytest.approx(0.4)


CROWD = Flow(name="streams", streams=10, tokens=50)


def crowded(caught: int, **changes: Any) -> tuple[Any, Record]:
    experiment = replace(
        EXPERIMENT,
        crowd=Crowd(clients=Clients(flow=CROWD), at_token=5),
        expects=(Expectation(check="all_caught_end_whole"),),
    )
    streams = [
        sample(
            102, index=n, first_token=102.5, end=106.0 if n < caught else 102.9, output_tokens=50
        )
        for n in range(10)
    ]
    streams[0] = replace(streams[0], **changes)
    found = record()
    return experiment, replace(found, samples={**found.samples, CROWD.name: tuple(streams)})


def test_a_crowd_that_ended_whole_passes_and_one_that_lost_a_token_fails() -> None:
    experiment, found = crowded(10)
    assert judge(experiment, found, PROVEN, Told()).verdict is ChaosVerdict.PASS
    experiment, found = crowded(10, output_tokens=49)
    judgement = judge(experiment, found, PROVEN, Told())
    assert judgement.verdict is ChaosVerdict.FAIL
    assert any("49 of 50 tokens" in reason for reason in judgement.reasons)


def test_a_crowd_of_which_the_fault_caught_too_few_cannot_tell() -> None:
    experiment, found = crowded(8)
    judgement = judge(experiment, found, PROVEN, Told())
    assert judgement.verdict is ChaosVerdict.INCONCLUSIVE
    assert "caught 8 of 10 streams" in judgement.reasons[0]


def test_a_misspelt_check_is_an_error() -> None:
    wrong = replace(EXPERIMENT, expects=(Expectation(check="erors_unchanged"),))
    with pytest.raises(ChaosError, match="allowed: all_caught_end_whole"):
        judge(wrong, record(), PROVEN, Told())


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_every_experiment_names_faults_and_checks_that_there_are(experiment: Any) -> None:
    assert experiment.fault.kind in KINDS
    assert {expected.check for expected in experiment.expects} <= set(CHECKS)
    short = experiment.short
    assert short.before + short.hold + short.after <= 45
    form = chaos_toolkit(experiment)
    assert {"title", "description", "steady-state-hypothesis", "method", "rollbacks"} <= set(form)


def account(**changes: Any) -> Account:
    found = record()
    fine = Account(
        experiment=EXPERIMENT,
        form="short",
        seed=3,
        started="2026-03-01T12:00:00+00:00",
        ended="2026-03-01T12:00:09+00:00",
        engine={"flags": "all", "model": "tiny"},
        record=found,
        effect=PROVEN,
        told=Told(rollbacks=(Step(what="heal", at=104.0, ok=True),)),
        judgement=judge(EXPERIMENT, found, PROVEN, Told()),
        requested={"signal": "SIGKILL"},
        read_back={"state": "gone"},
    )
    return replace(fine, **changes)


def test_a_journal_tells_of_three_witnesses_on_one_clock_and_how_to_do_it_again() -> None:
    told = document(account())
    assert (told["verdict"], told["seed"]) == ("pass", 3)
    assert told["replay"] == "phase5 chaos run trial --seed 3"
    fault = told["fault"]
    assert all(fault[word] for word in ("requested", "read_back", "measured", "proven"))
    times = [entry["at"] for entry in told["timeline"]]
    assert times == sorted(times)
    assert times[0] == 1.0
    assert told["phases"]["before"]["steady"]["n"] == 20
    assert told["rollbacks"] == [{"what": "heal", "at": 5.0, "ok": True, "detail": ""}]


def test_the_gate_sees_what_the_journal_says() -> None:
    row = gate_journal(account())
    assert (row.experiment, row.verdict, row.recovery_seconds) == ("trial", ChaosVerdict.PASS, 0)
    assert (row.requested, row.read_back) == ({"signal": "SIGKILL"}, {"state": "gone"})


def test_the_exported_form_has_what_chaos_toolkit_requires() -> None:
    told = exported(account())
    required = {"experiment", "status", "start", "end", "duration", "deviated", "steady_states"}
    assert required <= set(told)
    assert (told["status"], told["deviated"]) == ("completed", False)
    aborted = exported(account(judgement=Judgement(verdict=ChaosVerdict.ABORTED)))
    assert aborted["status"] == "interrupted"
    broken = exported(account(judgement=Judgement(verdict=ChaosVerdict.FAIL)))
    assert broken["deviated"] is True


@pytest.mark.parametrize(
    ("judgement", "outcome"),
    [
        (Judgement(verdict=ChaosVerdict.INVALID, reasons=("toxic latncy",)), Rule.INVALID),
        (Judgement(verdict=ChaosVerdict.ABORTED, steady_before=True), Rule.NO_DATA),
        (Judgement(verdict=ChaosVerdict.FAIL, steady_before=True), Rule.FAIL),
        (Judgement(verdict=ChaosVerdict.INCONCLUSIVE, steady_before=True), Rule.INCONCLUSIVE),
    ],
)
def test_a_gate_takes_none_of_them_for_a_pass(judgement: Judgement, outcome: Rule) -> None:
    journals = (gate_journal(account(judgement=judgement)),)
    measurement = Measurement(
        run="r",
        item="t",
        attempt=1,
        criteria=(CRITERION.id,),
        arms={"treatment": ENGINE},
        machine="m",
        created="2026-03-01T12:00:00+00:00",
        journals=journals,
    )
    (finding,) = recovery(CRITERION, Group("t", "tiny", "off", None, (measurement,)))
    assert finding.outcome is outcome
