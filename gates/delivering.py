"""What the store says, delivered to the engines that are known. The guard does the same, later."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from engine.config import Config
from engine.core.flags import FLAGS
from gates.engine_views import Delivery
from gates.engines import EngineError, ask_each, clients
from gates.fleet import Known
from gates.store import Snapshot

#: Seconds for it. The store has it already, so the guard brings it where this does not.
PATIENCE: Final = 3.0

Deliveries = Mapping[str, Delivery | EngineError]


def deliver(known: Known, snapshot: Snapshot) -> Deliveries:
    """Tell every engine how all flags stand; by URL, what it said."""

    async def run() -> Deliveries:
        flags = flags_of(snapshot.config)
        async with clients(known.urls, ca=known.ca) as engines:
            return await ask_each(
                engines,
                lambda engine: engine.deliver(snapshot.generation, flags),
                seconds=PATIENCE,
            )

    return asyncio.run(run())


def flags_of(config: Config) -> dict[str, Any]:
    """The flags of a configuration in the words of `phase4_rollout`."""
    return {name: config.phase4_rollout.flag(name).model_dump(mode="json") for name in FLAGS}


def delivery_lines(deliveries: Deliveries) -> list[str]:
    """A line for each engine."""
    return [f"{url}  {_said(answer)}" for url, answer in deliveries.items()]


def delivery_document(deliveries: Deliveries) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        url: {
            "taken": isinstance(answer, Delivery) and answer.taken,
            "reason": answer.reason or None,
        }
        for url, answer in deliveries.items()
    }


def _said(answer: Delivery | EngineError) -> str:
    if isinstance(answer, EngineError):
        return f"not reached, the guard will: {answer.reason}"
    if answer.taken:
        return f"serves generation {answer.generation}"
    return f"did not take it: {answer.reason}"
