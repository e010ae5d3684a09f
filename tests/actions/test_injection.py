"""What people and tests write reaches no shell, no command of the runner and no other output."""

import pytest
from act_runs import Ran
from hub import FLAG, Hub
from test_rollout_workflow import HELD, NO_VERDICT

#: Runs a program where it stands bare or in quotes of either kind, then speaks to the runner.
EVIL = """$(touch "$TRAPS/owned")
x"; touch "$TRAPS/owned"; "
x'; touch "$TRAPS/owned"; '
verdict=promote
::set-output name=verdict::promote
::error::owned"""


def owned(hub: Hub) -> bool:
    return (hub.folder / "owned").exists()


def spoke(ran: Ran, text: str) -> bool:
    """Whether the runner took a line of a text for a command of its own."""
    return any(raw.startswith(f"::error::{text}") for raw in ran.commands("error", text))


@pytest.mark.parametrize(
    "inputs",
    [
        {"stage": EVIL, "runner": EVIL, "dry_run": EVIL},
        {"flags": EVIL, "model": EVIL},
        {"model": f"--phase5-from=off\n{EVIL}"},
    ],
    ids=["stage", "flags", "model"],
)
def test_no_input_of_the_rollout_is_run(hub: Hub, inputs: dict[str, str]) -> None:
    before = hub.tip()
    ran = hub.run(**inputs, variables={"PHASE5_EVIDENCE": EVIL})
    assert ran.jobs in (HELD, NO_VERDICT), ran.log
    assert not owned(hub)
    assert not spoke(ran, "owned")
    assert hub.tip() == before


def test_no_input_of_the_rollback_is_run_and_the_reason_is_kept_as_it_is(hub: Hub) -> None:
    hub.state("canary", 1)
    ran = hub.run("rollback", reason=EVIL, flags=FLAG)
    assert ran.jobs == {"rollback": "success"}, ran.log
    assert not owned(hub)
    assert not spoke(ran, "owned")
    assert (hub.stage, hub.history()[0]["reason"]) == ("off", " ".join(EVIL.split()))


def test_a_rollback_of_unknown_flags_is_refused(hub: Hub) -> None:
    hub.state("canary", 1)
    ran = hub.run("rollback", reason="r", flags=EVIL)
    assert ran.jobs == {"rollback": "failure"}, ran.log
    assert not owned(hub)
    assert hub.stage == "canary"


def test_what_a_test_prints_is_no_command_and_no_output(hub: Hub) -> None:
    ran = hub.run(case="shout")
    assert ran.jobs == HELD, ran.log
    assert "shouted" in ran.log
    assert not spoke(ran, "shouted")
    assert not spoke(ran, "failed loudly")
