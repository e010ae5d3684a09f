"""Whether a verdict may move flags: one row for each condition, given and wanted named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from fake_engine import CONFIG, FakeEngine
from gate_builders import NOW, SUBJECT, evidence, policy, request

from engine.core.flags import FLAGS
from gates.engine_views import EngineView, view
from gates.judge import judge
from gates.moving import BUILT_IN_MODELS, Facts, Presented, PromotionRefusedError, promoted
from gates.standing import Standing, approval_of, candidate
from gates.verdict import Decision, Verdict, digest, to_json

FLAG = "ttft_pipeline"
URL = "http://engine:8080"
CANDIDATE = candidate(SUBJECT.commit, SUBJECT.config_sha256)


@cache
def verdict() -> Verdict:
    """Into canary, for every flag, just now."""
    found = judge(policy(), evidence(), request())
    assert found.verdict is Decision.PROMOTE
    return replace(found, environment={"machine": "linux-x86_64-2cpu"})


def seen(url: str = URL, **changes: Any) -> EngineView:
    """What an engine says that serves what was judged."""
    return view(url, FakeEngine(**changes).answer("/v1/status", None))


def facts(**changes: Any) -> Facts:
    """All conditions hold."""
    fine = Facts(
        presented=Presented(
            verdict=verdict(), sha256=digest(to_json(verdict())), canonical=True, differences=()
        ),
        asked=(FLAG,),
        now=NOW + timedelta(minutes=5),
        policy=policy(),
        config_sha256=CONFIG,
        generation=3,
        standings={flag: Standing() for flag in FLAGS},
        engines={URL: seen()},
    )
    return replace(fine, **changes)


def of_verdict(**changes: Any) -> Facts:
    """The same, of a verdict that says something else."""
    told = replace(verdict(), **changes)
    return facts(presented=replace(facts().presented, verdict=told))


def of_subject(**changes: Any) -> Facts:
    return of_verdict(subject=replace(verdict().subject, **changes))


def at(**changes: Any) -> Facts:
    """The same, of a flag that stands otherwise."""
    standings = {**facts().standings, FLAG: Standing(**changes)}
    return facts(standings=standings)


def serving(**changes: Any) -> Facts:
    """The same, with another engine beside the first."""
    return facts(engines={URL: seen(), "http://other": seen("http://other", **changes)})


def step(origin: str, target: str) -> Mapping[str, Any]:
    return {**verdict().transition, "each": {FLAG: {"from": origin, "to": target}}}


def late(flag: str = FLAG) -> Facts:
    """At canary in the store, with a verdict out of it, and braked in an engine all the same."""
    canary = {**facts().standings, flag: Standing(stage="canary", enabled=True, percentage=1.0)}
    presented = of_verdict(transition=step("canary", "early")).presented
    braked = seen(brakes={flag: "b1"})
    return facts(standings=canary, presented=presented, engines={URL: braked})


def test_what_holds_in_every_way_moves_one_stage() -> None:
    after = promoted(facts())
    assert list(after) == [FLAG]
    assert (after[FLAG].stage, after[FLAG].percentage, after[FLAG].epoch) == ("canary", 1.0, 1)


def test_without_a_flag_all_that_the_verdict_promotes_move() -> None:
    assert set(promoted(facts(asked=()))) == set(FLAGS)


def test_brakes_that_were_seen_at_off_are_lifted_and_no_others() -> None:
    engines = {URL: seen(brakes={FLAG: "b1", "qos_monitoring": "b2"})}
    assert promoted(facts(engines=engines))[FLAG].lifted == ("b1",)


@dataclass(frozen=True)
class Row:
    """A condition that does not hold, and what the refusal says."""

    name: str
    facts: Callable[[], Facts]
    field: str
    given: str
    wanted: str


def presented(**changes: Any) -> Facts:
    return facts(presented=replace(facts().presented, **changes))


DIFFERENCE = "criteria.1.n: the verdict says 9000, the evidence 3000"
REAL = ("mlx-community/gemma-2-27b-it-4bit", "bb" * 32)
LATER = verdict().expires

REFUSED = [
    Row("edited text", lambda: presented(canonical=False), "sha256", "edited", "canonical"),
    Row("used", lambda: facts(used="generation 4"), "sha256", "generation 4", "was not used"),
    Row("damaged history", lambda: facts(damage="line 3"), "history", "line 3", "verifies"),
    Row("other flag", lambda: of_verdict(flags={"qos_monitoring": Decision.PROMOTE}),
        f"flags.{FLAG}", "a verdict of qos_monitoring", FLAG),
    Row("other configuration", lambda: facts(config_sha256="dd" * 32),
        "subject.config_sha256", CONFIG, "dd" * 32),
    Row("other policy", lambda: of_subject(policy_sha256="ee"),
        "subject.policy_sha256", "ee", policy().digest()),
    Row("no engine", lambda: facts(engines={}), "engines", "none", "rollout.engines"),
    Row("silent engine", lambda: facts(engines={URL: "no answer within 5 s"}),
        f"engine {URL}", "no answer within 5 s", "an answer"),
    Row("other build", lambda: serving(commit="feed"), "subject.commit", "c0ffee", "feed"),
    Row("unknown build", lambda: replace(of_subject(commit="unknown"),
        engines={URL: seen(commit="unknown")}), "subject.commit", "unknown", "unknown"),
    Row("engine of other configuration", lambda: serving(config_sha256="dd"),
        "subject.config_sha256", CONFIG, "dd (http://other)"),
    Row("other version", lambda: serving(engine_version="9.9.9"),
        "subject.engine_version", "0.1.0", "9.9.9 (http://other)"),
    Row("other machine class", lambda: serving(machine="darwin-arm64-12cpu"),
        "environment.machine", "linux-x86_64-2cpu", "darwin-arm64-12cpu (http://other)"),
    Row("no machine class", lambda: of_verdict(environment={}),
        "environment.machine", "nothing", "linux-x86_64-2cpu"),
    Row("built-in evidence for a real model", lambda: serving(model=REAL),
        "subject.models", "which are built in", "gemma-2-27b-it-4bit bb"),
    Row("real evidence for a built-in model", lambda: of_subject(models={REAL[0]: REAL[1]}),
        "subject.models", "gemma-2-27b-it-4bit bb", "tiny aa"),
    Row("other build of the model", lambda: serving(model=("tiny", "ab" * 32)),
        "subject.models", "tiny aa", "tiny abab"),
    Row("no model", lambda: of_subject(models={}), "subject.models", "none", "tiny aa"),
    Row("store behind its engines", lambda: serving(generation=9),
        "generation", "3, behind 9 of http://other", "do not know better"),
    Row("other epoch", lambda: at(epoch=5), f"subject.epochs.{FLAG}", "0", "5 (the store)"),
    Row("no epoch", lambda: of_subject(epochs={}), f"subject.epochs.{FLAG}", "None", "0"),
    Row("expired", lambda: facts(now=NOW + timedelta(hours=1)), "expires", LATER, "a time after"),
    Row("from the future", lambda: facts(now=NOW - timedelta(hours=1)),
        "created", verdict().created, "a time before"),
    Row("differs from its evidence", lambda: presented(differences=(DIFFERENCE,)),
        "criteria.1.n", "the verdict says 9000, the evidence 3000", "the evidence says"),
    Row("dry run", lambda: of_verdict(dry_run=True), "dry_run", "true", "false"),
    Row("hold", lambda: of_verdict(flags={FLAG: Decision.HOLD}),
        f"flags.{FLAG}", "hold", "promote"),
    Row("nothing to promote", lambda: replace(of_verdict(flags={FLAG: Decision.HOLD}), asked=()),
        "flags", f"{FLAG} hold", "promote for one"),
    Row("skips a stage", lambda: of_verdict(transition=step("off", "early")),
        f"transition.each.{FLAG}.to", "early", "canary"),
    Row("stands elsewhere", lambda: of_verdict(transition=step("canary", "early")),
        f"transition.each.{FLAG}.from", "canary", "off"),
    Row("raised by hand", lambda: serving(unmanaged={FLAG}, shares={FLAG: 7.0}),
        f"engine.flags.{FLAG}", "7 %, raised by hand (http://other)", "the store says"),
    Row("braked, and the store does not know", late,
        f"engine.flags.{FLAG}", "brake b1 (manual", "no brake"),
    Row("held", lambda: at(held="it is Friday"), "rollout", "held: it is Friday", "allowed"),
    Row("rolled back before", lambda: at(tombstones=(CANDIDATE,)), "rollout", CANDIDATE, "allowed"),
    Row("suspect", lambda: at(suspect=CANDIDATE), "rollout", "suspect", "allowed"),
    Row("not approved", lambda: facts(approval=frozenset({"canary"})),
        "rollout", "canary needs an approval", "allowed"),
]  # fmt: skip


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_what_does_not_hold_refuses_with_the_field_and_both_values(row: Row) -> None:
    with pytest.raises(PromotionRefusedError) as caught:
        promoted(row.facts())
    refusal = caught.value.refusal
    assert refusal.field == row.field
    assert row.given in refusal.given
    assert row.wanted in refusal.wanted


def test_an_approval_of_this_stage_and_epoch_lets_it_through() -> None:
    approved = approval_of(Standing(), CANDIDATE)
    asked = replace(at(approved=approved), approval=frozenset({"canary"}))
    assert promoted(asked)[FLAG].stage == "canary"


def test_one_flag_that_may_not_move_stops_the_others() -> None:
    with pytest.raises(PromotionRefusedError, match="held"):
        promoted(replace(at(held="no"), asked=()))


def test_the_first_condition_of_several_is_named() -> None:
    """Digest, subject, epochs, expiry: whatever else does not hold either."""
    broken = facts(
        used="generation 4",
        config_sha256="dd",
        now=NOW + timedelta(days=1),
        standings={flag: Standing(epoch=7) for flag in FLAGS},
    )
    repaired = [
        ("sha256", {"used": ""}),
        ("subject.config_sha256", {"config_sha256": CONFIG}),
        (f"subject.epochs.{FLAG}", {"standings": facts().standings}),
        ("expires", {"now": facts().now}),
    ]
    for field, repair in repaired:
        with pytest.raises(PromotionRefusedError) as caught:
            promoted(broken)
        assert caught.value.refusal.field == field
        broken = replace(broken, **repair)
    assert promoted(broken)


def test_the_built_in_models_are_those_of_the_engine() -> None:
    from engine.runtime.models import list_models

    assert {model.name for model in list_models()} == BUILT_IN_MODELS
