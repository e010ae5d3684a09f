"""Every experiment, in its short form, on the real engine and through the real Toxiproxy."""

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chaos.catalogue import EXPERIMENTS
from chaos.journal import Account, document, gate_journal, write
from chaos.runner import run
from engine.config import load_config, packaged
from engine.core.flags import FLAGS
from gates.criteria import Outcome
from gates.evidence import ChaosVerdict
from gates.findings import Finding
from gates.folder import subject_of
from gates.judge import Evidence, Request, judged_alone
from gates.policy import load_policy
from gates.reader import read_folder
from gates.recovery import _doubt
from gates.stages import Transition
from pytest_phase5.breaking.proof import criteria_of, identity, write_proof
from pytest_phase5.breaking.stage import LocalStage
from pytest_phase5.recording import machine

POLICY = load_policy()

#: Those whose fault exists here.
HERE = [n for n, each in EXPERIMENTS.items() if sys.platform == "linux" or not each.linux]

#: Experiments at a time: they mostly wait, for baselines, stalls and recoveries.
AT_ONCE = 2

#: What shows nothing of the engine.
NOTHING_SHOWN = {ChaosVerdict.INVALID, ChaosVerdict.INCONCLUSIVE}


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The account of each experiment, as it comes; the longest begin first."""
    folder = tmp_path_factory.mktemp("experiments")

    def carry_out(name: str, turn: str = "first") -> Account:
        place = folder / f"{name}-{turn}"
        stage = LocalStage(folder=place, model="tiny")
        account = run(EXPERIMENTS[name], stage, compare=True)
        write(place, account)
        # Beside others a fault may find too few streams to hit. That shows nothing of the
        # engine, so it is asked again, once; whatever else came out stays.
        if turn == "first" and NOTHING_SHOWN.intersection(_verdicts(account)):
            return carry_out(name, "second")
        if stage.started:
            write_proof(
                folder,
                account,
                engine=identity(stage.started[0], None),
                criteria=criteria_of(name, POLICY.criteria.values()),
                machine=machine(),
            )
        return account

    slow_first = sorted(HERE, key=lambda name: name not in SLOW)
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(len(IDLE)) as aside:
        asked: dict[str, Future[Account]] = {
            name: (aside if name in IDLE else pool).submit(carry_out, name) for name in slow_first
        }
        yield asked


def _verdicts(account: Account) -> set[ChaosVerdict]:
    """Of the engine with its features, and of the control beside it."""
    return {each.verdict for each in (account, account.control) if each is not None}


@pytest.fixture(scope="module")
def evidence(
    accounts: dict[str, Future[Account]], tmp_path_factory: pytest.TempPathFactory
) -> Evidence:
    """What a gate is given of all of them, read back from the files."""
    for account in accounts.values():
        account.result()
    (folder,) = tmp_path_factory.getbasetemp().glob("experiments0")
    return read_folder(folder)


#: Half a minute each, on a machine that does nothing else.
SLOW = (
    "disk-full",
    "memory-pressure",
    "remediation-storm",
    "partition",
    "runtime-kill",
    "runtime-stall",
)

#: Minutes have to go by, two of them at most, in which next to nothing is computed.
IDLE = ("guard-goes-blind", "guard-loses-prometheus")


@pytest.mark.parametrize("name", HERE)
def test_the_engine_survives_what_is_proven_to_have_happened(
    accounts: dict[str, Future[Account]], name: str
) -> None:
    account = accounts[name].result()
    told = document(account)
    assert (account.verdict, account.judgement.reasons) == (ChaosVerdict.PASS, ())
    fault = told["fault"]
    assert all(fault[word] for word in ("requested", "read_back", "measured", "proven"))
    assert told["seconds"]["recovery"] is not None
    assert all(step["ok"] for step in told["rollbacks"])
    assert _doubt(gate_journal(account)) == ""


def test_a_kill_catches_fifty_streams_and_is_compared_with_a_control(
    accounts: dict[str, Future[Account]],
) -> None:
    account = accounts["runtime-kill"].result()
    control = account.control
    assert control is not None
    assert (control.verdict, control.judgement.reasons) == (ChaosVerdict.PASS, ())
    # With the governor on, a busy machine may have turned some of them away.
    measured = control.effect.values
    assert measured["caught_streams"]["streams"] >= 45
    assert measured["replayed"] >= 45
    told = document(account)
    assert told["control"]["engine"]["flags"] == "off"
    assert told["control"]["seconds"]["recovery"] is not None


def test_latency_shows_as_what_was_injected_on_both_protocols(
    accounts: dict[str, Future[Account]],
) -> None:
    account = accounts["network-latency"].result()
    for protocol in ("http1", "http2"):
        assert account.effect.values[protocol]["ttft_rise_seconds"] == pytest.approx(0.3, abs=0.15)
        spoken = {s.protocol for s in account.record.samples[protocol]}
        assert spoken == {"h1" if protocol == "http1" else "h2"}


def test_a_journal_is_a_file_that_says_it_all(
    accounts: dict[str, Future[Account]], tmp_path: Path
) -> None:
    path = write(tmp_path, accounts["reset-peer"].result())
    assert json.loads(path.read_text())["streams"]["errors_charged_to_the_fault"] > 0
    assert json.loads((tmp_path / "chaostoolkit.json").read_text())["status"] == "completed"


def test_a_rush_of_rollbacks_is_one_and_a_rush_of_triggers_one_remedy(
    accounts: dict[str, Future[Account]],
) -> None:
    account = accounts["remediation-storm"].result()
    rollback = account.effect.values["rollback"]
    assert rollback["open_at_once"] == rollback["answered"] == 32
    assert len(rollback["brakes"]) == 1
    assert account.effect.values["refused"]["owned"] > 0
    assert account.effect.values["refused"]["loop"] > 0


def test_a_full_disk_is_a_file_system_of_its_own_without_a_free_byte(
    accounts: dict[str, Future[Account]],
) -> None:
    account = accounts["disk-full"].result()
    assert account.read_back["file_system"] == "tmpfs"
    assert (account.read_back["free"], account.read_back["a_write"]) == (0, "ENOSPC")


#: What the door out of early asks of the experiments.
ASKED = POLICY.criteria["chaos_resilience"]


def judged(evidence: Evidence) -> list[Finding]:
    """What that door finds of the experiments, for all flags; of the session there is none."""
    subject = subject_of(evidence.measurements, load_config(packaged("runtime.yaml")), FLAGS, "")
    request = Request(
        stage="early",
        transitions=dict.fromkeys(FLAGS, Transition("early", "mid")),
        now=datetime.now(UTC),
        subject=subject,
        environment={"machine": machine()},
    )
    found = judged_alone(POLICY, evidence, request, ASKED.id).findings
    return [finding for finding in found if finding.reason.startswith(ASKED.id)]


def found(evidence: Evidence, outcome: Outcome, name: str) -> bool:
    """Whether that is found of an experiment."""
    return any(each.outcome is outcome and name in each.reason for each in judged(evidence))


def changed(evidence: Evidence, name: str, **changes: Any) -> Evidence:
    """With the journal of one experiment changed."""
    measurements = [
        replace(m, journals=tuple(replace(j, **changes) for j in m.journals))
        if name in {j.experiment for j in m.journals}
        else m
        for m in evidence.measurements
    ]
    return replace(evidence, measurements=tuple(measurements))


def test_the_door_out_of_early_is_fed_by_the_experiments(evidence: Evidence) -> None:
    assert ASKED.id in POLICY.stages["early"].leave
    both = (*ASKED.experiments, *POLICY.criteria["chaos_recovery"].experiments)
    # The second form of a full disk is for whom the first is not given; no door asks for it.
    assert sorted({*both, "disk-full-by-limit"}) == sorted(EXPERIMENTS)
    for name in ASKED.experiments:
        assert found(evidence, Outcome.PASS, f"run of {name}")
    assert {finding.outcome for finding in judged(evidence)} == {Outcome.PASS}


@pytest.mark.parametrize("name", ASKED.experiments)
def test_an_experiment_that_is_missing_or_skipped_or_invalid_holds(
    evidence: Evidence, name: str
) -> None:
    without = [m for m in evidence.measurements if name not in {j.experiment for j in m.journals}]
    words = f"0 runs of experiment '{name}'"
    assert found(replace(evidence, measurements=tuple(without)), Outcome.NO_DATA, words)
    assert found(changed(evidence, name, verdict=ChaosVerdict.INVALID), Outcome.INVALID, name)
    assert found(changed(evidence, name, proven=False), Outcome.INVALID, name)
