"""Whether a verdict may move flags: every condition in order, over facts. Pure.

A verdict moves what it is about and nothing else: whole and unused, for this build, configuration,
policy, model and machine, for these epochs, not expired, recomputed from its evidence, and for the
next stage. The first condition that does not hold refuses the whole promotion.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gates.engine_views import EngineView
from gates.provenance import CLOCK_SKEW, NO_IDENTITY
from gates.stages import Event, Policy
from gates.standing import Standing, candidate
from gates.transitions import RefusedError, moved
from gates.verdict import Decision, Verdict

#: Models that this project makes or fetches itself: what they show is shown for them only.
BUILT_IN_MODELS: Final = frozenset({"tiny", "smollm2-135m"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A condition that does not hold."""

    field: str
    given: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.field}: given {self.given}, wanted {self.wanted}"


class PromotionRefusedError(Exception):
    """The promotion changes nothing; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A verdict as it was handed in."""

    verdict: Verdict
    sha256: str
    canonical: bool  #: its text is the one and only text of what it says
    differences: tuple[str, ...]  #: to what its evidence says


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a promotion depends on.

    Attributes:
        presented: the verdict.
        asked: the flags that were named; none: all that the verdict promotes.
        now: with a time zone.
        policy: that of the store's configuration.
        config_sha256: of the store's configuration, without rollout state.
        generation: of the store.
        standings: where every flag stands in the store.
        engines: by URL; a text says why an engine is not known.
        used: where the history names this verdict already; empty when it does not.
        damage: what is wrong with the history; empty when nothing is.
        approval: stages that need an approval before they are entered.
        last_full: when a flag entered full last.
    """

    presented: Presented
    asked: tuple[str, ...]
    now: datetime
    policy: Policy
    config_sha256: str
    generation: int
    standings: Mapping[str, Standing]
    engines: Mapping[str, EngineView | str]
    used: str = ""
    damage: str = ""
    approval: frozenset[str] = frozenset()
    last_full: datetime | None = None

    @property
    def verdict(self) -> Verdict:
        """What is to be acted on."""
        return self.presented.verdict

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that are to move."""
        return self.asked or promoted_by(self.verdict)

    @property
    def candidate(self) -> str:
        """What is promoted."""
        return candidate(self.verdict.subject.commit, self.verdict.subject.config_sha256)


def promoted_by(verdict: Verdict) -> tuple[str, ...]:
    """The flags that a verdict promotes."""
    return tuple(flag for flag, to in verdict.flags.items() if to is Decision.PROMOTE)


def promoted(facts: Facts) -> dict[str, Standing]:
    """What the promotion makes of the flags that it moves.

    Raises:
        PromotionRefusedError: a condition does not hold; the first one is named.
    """
    refusal = next(_refusals(facts), None)
    if refusal is not None:
        raise PromotionRefusedError(refusal)
    try:
        return moved(
            facts.policy,
            facts.standings,
            facts.flags,
            Event.PROMOTE,
            now=facts.now,
            candidate=facts.candidate,
            brakes={flag: _brakes(facts, flag) for flag in facts.flags},
            approval=facts.approval,
            last_full=facts.last_full,
        )
    except RefusedError as error:
        raise PromotionRefusedError(
            Refusal("rollout", str(error), "a move that is allowed")
        ) from None


def _refusals(facts: Facts) -> Iterator[Refusal]:
    """In the order of the design, section 6."""
    yield from _of_digest(facts)
    yield from _of_subject(facts)
    for url, engine in facts.engines.items():
        yield from _of_engine(facts, url, engine)
    yield from _of_epochs(facts)
    yield from _of_expiry(facts)
    yield from _of_decision(facts)
    yield from _of_stages(facts)


def _of_digest(facts: Facts) -> Iterator[Refusal]:
    """The digest names the verdict in the history, so one text must be one verdict, used once."""
    sha256 = facts.presented.sha256
    if not facts.presented.canonical:
        yield Refusal("sha256", f"{sha256} of a text that was edited", "the canonical text")
    if facts.damage:
        yield Refusal("history", facts.damage, "a history that verifies")
    if facts.used:
        yield Refusal("sha256", f"{sha256}, used at {facts.used}", "a verdict that was not used")


def _of_subject(facts: Facts) -> Iterator[Refusal]:
    subject = facts.verdict.subject
    for flag in facts.asked:
        if flag not in facts.verdict.flags:
            judged = f"a verdict of {', '.join(facts.verdict.flags)}"
            yield Refusal(f"flags.{flag}", judged, f"one of {flag}")
    yield from _differing(
        ("subject.config_sha256", subject.config_sha256, facts.config_sha256, "the store"),
        ("subject.policy_sha256", subject.policy_sha256, facts.policy.digest(), "gates.yaml"),
    )
    if not facts.engines:
        yield Refusal("engines", "none", "all of the fleet: rollout.engines, or --engine URL")


def _of_engine(facts: Facts, url: str, engine: EngineView | str) -> Iterator[Refusal]:
    """Fit: what was measured is what serves, on such a machine, with such a model."""
    if isinstance(engine, str):
        yield Refusal(f"engine {url}", engine, "an answer")
        return
    subject, machine = facts.verdict.subject, facts.verdict.environment.get("machine", "")
    yield from _differing(
        ("subject.commit", subject.commit, engine.commit, url),
        ("subject.config_sha256", subject.config_sha256, engine.config_sha256, url),
        ("subject.engine_version", subject.engine_version, engine.engine_version, url),
        ("environment.machine", machine, engine.machine, url),
    )
    yield from _of_model(subject.models, engine)
    if engine.generation > facts.generation:
        given = f"{facts.generation}, behind {engine.generation} of {url}"
        yield Refusal("generation", given, "a store that its engines do not know better")


def _of_model(models: Mapping[str, str], engine: EngineView) -> Iterator[Refusal]:
    served = f"{engine.model} {engine.model_sha256} ({engine.url})"
    given = ", ".join(f"{name} {sha256}" for name, sha256 in sorted(models.items())) or "none"
    built_in = BUILT_IN_MODELS.intersection(models)
    if built_in and engine.model not in BUILT_IN_MODELS:
        yield Refusal("subject.models", f"{given}, which are built in", served)
    elif not engine.model_sha256 or engine.model_sha256 not in models.values():
        yield Refusal("subject.models", given, served)


def _of_epochs(facts: Facts) -> Iterator[Refusal]:
    for flag in facts.flags:
        given, wanted = facts.verdict.subject.epochs.get(flag), facts.standings[flag].epoch
        if given != wanted:
            yield Refusal(f"subject.epochs.{flag}", str(given), f"{wanted} (the store)")


def _of_expiry(facts: Facts) -> Iterator[Refusal]:
    created, expires = facts.verdict.created, facts.verdict.expires
    now = facts.now.isoformat()
    if facts.now >= datetime.fromisoformat(expires):
        yield Refusal("expires", expires, f"a time after {now}")
    if datetime.fromisoformat(created) > facts.now + CLOCK_SKEW:
        yield Refusal("created", created, f"a time before {now}")


def _of_decision(facts: Facts) -> Iterator[Refusal]:
    verdict = facts.verdict
    for difference in facts.presented.differences:
        field, _, how = difference.partition(": ")
        yield Refusal(field, how, "what the evidence says")
    if verdict.dry_run:
        yield Refusal("dry_run", "true", "false")
    if not facts.flags:
        yield Refusal("flags", _decisions(verdict), "promote for one of them")
    for flag in facts.flags:
        decision = verdict.flags[flag]
        if decision is not Decision.PROMOTE:
            yield Refusal(f"flags.{flag}", decision.value, Decision.PROMOTE.value)


def _of_stages(facts: Facts) -> Iterator[Refusal]:
    """The next stage, and nothing in force that the store has not been told."""
    for flag in facts.flags:
        step, standing = facts.verdict.transition["each"][flag], facts.standings[flag]
        yield from _differing(
            (f"transition.each.{flag}.from", step["from"], standing.stage, "the store"),
            (f"transition.each.{flag}.to", step["to"], standing.following or "none", "the next"),
        )
        for engine in _views(facts):
            view = engine.flags[flag]
            if view.unmanaged:
                given = f"{view.effective:g} %, raised by hand ({engine.url})"
                yield Refusal(f"engine.flags.{flag}", given, "what the store says")
            if view.brake and standing.percentage > 0:
                given = f"brake {view.brake} ({view.cause}, {engine.url})"
                yield Refusal(f"engine.flags.{flag}", given, "no brake where the store has none")


def _brakes(facts: Facts, flag: str) -> list[str]:
    """Those that the promotion lifts: they were seen, and the store is at off already."""
    return sorted({v.flags[flag].brake for v in _views(facts) if v.flags[flag].brake})


def _views(facts: Facts) -> Iterable[EngineView]:
    return (engine for engine in facts.engines.values() if isinstance(engine, EngineView))


def _differing(*rows: tuple[str, str, str, str]) -> Iterator[Refusal]:
    for field, given, wanted, whose in rows:
        if given != wanted or given in NO_IDENTITY:
            yield Refusal(field, given or "nothing", f"{wanted or 'something'} ({whose})")


def _decisions(verdict: Verdict) -> str:
    return ", ".join(f"{flag} {to.value}" for flag, to in verdict.flags.items()) or "none"
