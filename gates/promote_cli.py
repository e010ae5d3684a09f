"""`phase5 promote`: acts on a verdict, or changes nothing and says which condition did not hold."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.config import ConfigError
from gates.acting import who
from gates.delivering import Deliveries, deliver, delivery_document, delivery_lines
from gates.engine_views import EngineView
from gates.engines import EngineError, statuses
from gates.evidence import EvidenceError
from gates.exits import DONE, ERROR, USAGE, refuse, say, say_json, warn
from gates.fleet import Known, known_engines, remember
from gates.history import History, Record, entered
from gates.moving import Facts, Presented, PromotionRefusedError, Refusal, promoted
from gates.policy import policy_beside
from gates.recompute import recompute
from gates.stages import FULL, Event, Policy
from gates.standing import Standing
from gates.store import ConflictError, Snapshot, Store, StoreError, open_store
from gates.transitions import last_full
from gates.verdict import digest, from_json, to_json

#: Seconds in which every engine must say who it is.
_IDENTITY_SECONDS = 5.0

#: Asks a person; False changes nothing.
Confirm = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A promotion as it was asked for."""

    config: Path
    verdict: Path
    flags: tuple[str, ...] = ()  #: none: every flag that the verdict promotes
    engines: tuple[str, ...] = ()  #: besides those of the configuration
    reason: str = ""
    dry_run: bool = False
    confirm: Confirm = lambda _: True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A promotion that may be made, on what was seen."""

    store: Store
    known: Known
    before: Snapshot
    after: Mapping[str, Standing]
    facts: Facts

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """What moves, as JSON has it."""
        return {
            flag: {
                "from": self.before.flags[flag].stage,
                "to": standing.stage,
                "percentage": standing.percentage,
                "epoch": standing.epoch,
            }
            for flag, standing in self.after.items()
        }


def promote(order: Order, *, as_json: bool) -> int:
    """Promote flags one stage; 0 when the store was written, 1 when the promotion was refused."""
    try:
        plan = _plan(order)
        if order.dry_run:
            return _report(order, plan, None, {}, as_json=as_json)
        _confirm(order, plan)
        written = plan.store.write(plan.before, plan.after, _record(order, plan))
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    except PromotionRefusedError as error:
        return _refused(order, error.refusal, as_json=as_json)
    except ConflictError as error:
        refusal = Refusal("generation", str(error), "the one that was decided on")
        return _refused(order, refusal, as_json=as_json)
    except (StoreError, EvidenceError, OSError) as error:
        return refuse(f"not promoted: {error}", ERROR, as_json=as_json)
    return _report(order, plan, written, deliver(plan.known, written), as_json=as_json)


def _plan(order: Order) -> Plan:
    """Read everything, and decide.

    Raises:
        ConfigError, StoreError, EvidenceError, OSError: something cannot be read.
        PromotionRefusedError: a condition does not hold.
    """
    policy = policy_beside(order.config)
    store = open_store(order.config, policy)
    before, history = store.read(), store.history()
    configured = before.config.rollout.engines
    known = known_engines(order.config, [*order.engines, *configured])
    remember(order.config, configured, before.config.rollout.ca)
    views = asyncio.run(statuses(known.urls, seconds=_IDENTITY_SECONDS, ca=known.ca))
    facts = _facts(order, policy, before, history, views)
    return Plan(store=store, known=known, before=before, after=promoted(facts), facts=facts)


def _facts(
    order: Order,
    policy: Policy,
    before: Snapshot,
    history: History,
    views: Mapping[str, EngineView | EngineError],
) -> Facts:
    presented = present(order.verdict, policy)
    return Facts(
        presented=presented,
        asked=order.flags,
        now=datetime.now(UTC),
        policy=policy,
        config_sha256=before.config.digest(),
        generation=before.generation,
        standings=before.flags,
        engines={
            url: view.reason if isinstance(view, EngineError) else view
            for url, view in views.items()
        },
        used=_used(history, presented.sha256),
        damage="; ".join(history.problems),
        approval=frozenset(before.config.rollout.approval),
        last_full=last_full(before.flags.values(), entered(history, FULL)),
    )


def present(path: Path, policy: Policy) -> Presented:
    """A verdict's file, and what the evidence beside it says.

    Raises:
        OSError, EvidenceError: it cannot be read, or is no verdict.
    """
    text = path.read_text(encoding="utf-8")
    verdict = from_json(text, str(path))
    return Presented(
        verdict=verdict,
        sha256=digest(text),
        canonical=text == to_json(verdict),
        differences=tuple(recompute(path.parent, verdict, policy)),
    )


def _used(history: History, sha256: str) -> str:
    used = next((r for r in history.records if r.verdict == sha256), None)
    return f"generation {used.generation} by {used.who}" if used else ""


def _confirm(order: Order, plan: Plan) -> None:
    """A person's word for full.

    Raises:
        PromotionRefusedError: it was not given.
    """
    last = [flag for flag, standing in plan.after.items() if standing.stage == FULL]
    if last and not order.confirm(f"{', '.join(last)} to {FULL}: all traffic but the hold-back?"):
        raise PromotionRefusedError(Refusal("confirmation", "no", "yes"))


def _record(order: Order, plan: Plan) -> Record:
    return Record(
        event=Event.PROMOTE,
        reason=order.reason,
        who=who(),
        at=plan.facts.now,
        verdict=plan.facts.presented.sha256,
        candidate=plan.facts.candidate,
    )


def _refused(order: Order, refusal: Refusal, *, as_json: bool) -> int:
    message = f"{order.verdict}: not promoted: {refusal}"
    if as_json:
        fields = {"field": refusal.field, "given": refusal.given, "wanted": refusal.wanted}
        say_json({"promoted": {}, "refused": fields, "error": message})
    warn(message)
    return ERROR


def _report(
    order: Order,
    plan: Plan,
    written: Snapshot | None,
    deliveries: Deliveries,
    *,
    as_json: bool,
) -> int:
    generation = written.generation if written else plan.before.generation
    unrecorded = written.unrecorded if written else ""
    if as_json:
        document = {
            "promoted": plan.steps,
            "refused": None,
            "dry_run": order.dry_run,
            "store": plan.store.where,
            "generation": generation,
            "unrecorded": unrecorded or None,
            "verdict": plan.facts.presented.sha256,
            "engines": delivery_document(deliveries),
        }
        say_json(document)
        return DONE
    for flag, step in plan.steps.items():
        would = "would go " if order.dry_run else ""
        say(f"{flag}: {would}{step['from']} -> {step['to']} ({step['percentage']:g} %)")
    say(f"store {plan.store.where}: generation {generation}")
    if unrecorded:
        say(f"HISTORY NOT WRITTEN: {unrecorded}")
    for line in delivery_lines(deliveries):
        say(line)
    return DONE
