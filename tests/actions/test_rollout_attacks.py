"""`rollout.yml`, executed, while something happens between the gate's job and the promotion's."""

from dataclasses import dataclass

import pytest
from hub import Hub
from test_rollout_workflow import PROMOTED, REFUSED, ROLLED_BACK

#: Somebody pushes to main.
MOVE_MAIN = """
git clone -q "$BARE" "$TRAPS/other" && cd "$TRAPS/other" &&
git commit -q --allow-empty -m "a stricter policy" && git push -q origin HEAD:main
"""

#: Somebody rolls back.
ROLL_BACK = """
.venv/bin/python -P -m pytest_phase5.cli rollback --config config/runtime.yaml --reason "by hand"
"""

#: The same verdict has been acted upon already.
USE = """
INPUT_ACTION=promote INPUT_DIGEST=$(sha256sum phase5-report/verdict.json | cut -d' ' -f1) \
.venv/bin/python -P -m gates.actions apply
"""


@dataclass(frozen=True)
class Attack:
    """What happens, and what stops the promotion."""

    name: str
    script: str
    named: str
    stage: str = "canary"  #: afterwards: it was at canary, and would have gone to early
    case: str = "good"


ATTACKS = [
    Attack("a number is edited", "sed -i s/400/401/ phase5-report/verdict.json", "digest"),
    Attack("the evidence is edited", "truncate -s -9 phase5-report/evidence/*.jsonl", "evidence"),
    Attack("main moved", MOVE_MAIN, "refs/heads/main moved"),
    Attack("it lay too long", ":", "expires", case="old"),
    Attack("rolled back", ROLL_BACK, "subject.epochs.ttft_pipeline", stage="off"),
    Attack("used already", USE, "sha256", stage="early"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_promotion_is_refused(hub: Hub, attack: Attack) -> None:
    hub.state("canary", 1)
    ran = hub.run(attack=attack.script, case=attack.case)
    assert ran.jobs == REFUSED, ran.log
    assert attack.named in ran.log
    assert hub.stage == attack.stage


def test_a_report_of_another_run_is_refused(hub: Hub) -> None:
    """It is whole and true, and not what this run's gate said."""
    assert hub.run(dry_run="true").jobs == PROMOTED
    other = f"{hub.folder}/artifacts/4001/phase5-report"
    ran = hub.run(attack=f"rm -r phase5-report && cp -r {other} phase5-report")
    assert ran.jobs == REFUSED, ran.log
    assert "digest: given a verdict of" in ran.log
    assert hub.stage == "off"


def test_a_dry_run_verdict_never_promotes(hub: Hub) -> None:
    hub.edit(
        ".github/workflows/rollout.yml",
        "          stage: ${{",
        "          from-off: 'true'\n          stage: ${{",
    )
    hub.commit()
    ran = hub.run()
    assert ran.jobs == REFUSED, ran.log
    assert "dry_run" in ran.log
    assert hub.stage == "off"


def test_a_promotion_that_loses_the_race_for_the_push_is_refused(hub: Hub) -> None:
    hub.state("canary", 1)
    hub.overtake("hold", "--flag=ttft_pipeline", "--reason=freeze")
    ran = hub.run()
    assert ran.jobs == REFUSED, ran.log
    assert "decided on generation 3, found generation 4" in ran.log
    assert (hub.stage, hub.stored()["held"]) == ("canary", "freeze")


def test_a_rollback_that_loses_it_goes_on_until_it_is_in(hub: Hub) -> None:
    hub.state("canary", 1)
    hub.overtake("hold", "--flag=ttft_pipeline", "--reason=freeze")
    ran = hub.run(case="errors")
    assert ran.jobs == ROLLED_BACK, ran.log
    assert [record["event"] for record in hub.history()] == ["hold", "rollback"]
    assert hub.stage == "off"
