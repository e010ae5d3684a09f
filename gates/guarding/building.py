"""A guard put together from a configuration."""

from dataclasses import dataclass
from pathlib import Path

from engine.config import Config, load_config
from gates.guarding.acting import Deeds
from gates.guarding.evidence import Minutes
from gates.guarding.journal import Journal
from gates.guarding.ledgers import Ledgers
from gates.guarding.loop import Guard
from gates.guarding.metrics import GuardMetrics
from gates.guarding.reading import Reading
from gates.policy import policy_beside
from gates.stages import Policy
from gates.store import Store, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A guard, and what it was made of."""

    configuration: Config
    policy: Policy
    store: Store
    guard: Guard


def built(config: Path, folder: Path, evidence: Minutes, *, once: bool = False) -> Parts:
    """A guard on a configuration's store; whoever calls owns the folder.

    Raises:
        ConfigError: the configuration or its policy cannot serve.
        StoreError: it names no store.
        OSError: the folder cannot be written.
    """
    configuration, policy = load_config(config), policy_beside(config)
    store = open_store(config, policy)
    folder.mkdir(parents=True, exist_ok=True)
    guard = Guard(
        folder=folder,
        reading=Reading(store, folder),
        evidence=evidence,
        ledgers=Ledgers(folder, policy),
        deeds=Deeds(policy=policy, store=store, journal=Journal.open(folder)),
        metrics=GuardMetrics(),
        leases=configuration.rollout.lease_seconds.model_dump(),
        once=once,
    )
    return Parts(configuration=configuration, policy=policy, store=store, guard=guard)
