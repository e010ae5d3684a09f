"""The tests here bite: each safeguard, taken out, makes one of them fail."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import test_injection as injection
import test_rollout_attacks as attacks
import test_rollout_workflow as rollout
from hub import Hub

ROLLOUT = ".github/workflows/rollout.yml"


@dataclass(frozen=True)
class Mutation:
    """A safeguard that is gone, the test that must notice, and the harm that was done."""

    name: str
    mutate: Callable[[Hub], None]
    test: Callable[[Hub], None]
    harm: Callable[[Hub], bool]


def no_digest_check(hub: Hub) -> None:
    hub.mutate("gates/actions/apply.py", "if digest(text) != wanted:", "if not text:")


def no_expiry(hub: Hub) -> None:
    hub.mutate("gates/moving.py", "    yield from _of_expiry(facts)\n", "")


def force_push(hub: Hub) -> None:
    hub.mutate("gates/git_store.py", '"push", "--quiet"', '"push", "--quiet", "--force"')


def always(hub: Hub) -> None:
    hub.edit(ROLLOUT, "if: needs.gate.outputs.verdict == 'promote'", "if: always()")
    hub.commit()


def interpolated(hub: Hub) -> None:
    action = ".github/actions/phase5-gate/action.yml"
    hub.edit(action, "      run: |\n", "      run: |\n        echo ${{ inputs.stage }}\n")
    hub.commit()


MUTATIONS = [
    Mutation(
        "no digest check",
        no_digest_check,
        attacks.test_a_report_of_another_run_is_refused,
        lambda hub: hub.stage == "canary",
    ),
    Mutation(
        "no expiry",
        no_expiry,
        lambda hub: attacks.test_a_promotion_is_refused(
            hub, next(attack for attack in attacks.ATTACKS if attack.case == "old")
        ),
        lambda hub: hub.stage == "early",
    ),
    Mutation(
        "force push",
        force_push,
        attacks.test_a_promotion_that_loses_the_race_for_the_push_is_refused,
        lambda hub: hub.stage == "early" and not hub.stored().get("held"),
    ),
    Mutation(
        "promote always",
        always,
        lambda hub: rollout.test_what_was_not_shown_holds(hub, "few"),
        lambda hub: hub.stage == "off",  # the promotion itself refuses: two locks on one door
    ),
    Mutation(
        "an input inside run",
        interpolated,
        lambda hub: injection.test_no_input_of_the_rollout_is_run(hub, {"stage": injection.EVIL}),
        injection.owned,
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_without_a_safeguard_a_test_fails(hub: Hub, mutation: Mutation) -> None:
    mutation.mutate(hub)
    with pytest.raises(AssertionError):
        mutation.test(hub)
    assert mutation.harm(hub)
