"""Which model a target serves: asked before the run, so that a plan need not know."""

import asyncio
import json
from typing import Final

from pytest_phase5.load.answer import OK
from pytest_phase5.load.client import Client, TransportError
from pytest_phase5.load.plan import Plan

MODELS_PATH: Final = "/v1/models"


class TargetError(Exception):
    """A target that cannot be measured. The message names it and says why."""


async def served_models(client: Client, plan: Plan) -> dict[str, str]:
    """The model of each arm that has a request without one.

    Raises:
        TargetError: when a target does not say.
    """
    arms = {b.arm for b in plan.blocks if any("model" not in r.body for r in b.requests)}
    return {arm: await _served(client, plan.targets[arm], plan.timeout) for arm in sorted(arms)}


async def _served(client: Client, target: str, seconds: float) -> str:
    url = target.rstrip("/") + MODELS_PATH
    try:
        async with asyncio.timeout(seconds):
            status, body = await client.get(url)
    except TimeoutError as error:
        raise TargetError(f"{url}: no answer in {seconds:g} s") from error
    except TransportError as error:
        raise TargetError(f"{url}: {error}") from error
    if status != OK:
        raise TargetError(f"{url}: status {status}; allowed: {OK}")
    return first_model(url, body)


def first_model(url: str, body: bytes) -> str:
    """The first model of a list of models.

    Raises:
        TargetError: when there is none.
    """
    try:
        return str(json.loads(body)["data"][0]["id"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TargetError(f"{url}: not a list of models") from error
