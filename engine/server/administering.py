"""What the guard and the commands do to the rollout of this engine."""

from collections.abc import Awaitable
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from engine.core.flags import FLAGS
from engine.server.admin import authorise
from engine.server.bodies import Kind, converted, read_object
from engine.server.engine import Engine
from engine.server.errors import ApiError, bad_request
from engine.server.reply import json
from engine.server.rollout_documents import (
    Delivered,
    DeliverRequest,
    Leased,
    LeaseRequest,
    RollbackRequest,
    RolledBack,
)
from engine.server.rollout_views import flag_statuses
from engine.server.sockets import ListenError
from engine.server.state import StateError

ResultT = TypeVar("ResultT")

_FORCED = "this engine runs under --flags, which stand above the rollout"


async def rollback(request: Request) -> Response:
    """`POST /admin/rollback`: needs nothing but a body that can be read."""
    engine, asked = await _asked(request, RollbackRequest)
    flags = FLAGS if asked.flags is None else asked.flags
    done = engine.rollout.roll_back(engine, dict.fromkeys(flags), asked.cause, asked.reason)
    brakes = await _durable(done, "the flags are braked in memory")
    generation = engine.settings.config.generation
    return json(RolledBack(brakes=brakes, generation=generation, flags=flag_statuses(engine)))


async def rollout(request: Request) -> Response:
    """`POST /admin/rollout`: what the store says."""
    engine, asked = await _asked(request, DeliverRequest)
    if engine.settings.forced is not None:
        return _delivered(engine, _FORCED)
    done = engine.reloads.deliver(asked.generation, asked.flags.given())
    try:
        taken = await _durable(done, "the state serves from memory")
    except ListenError as error:
        raise bad_request(str(error), code="cannot_listen") from error
    except ValidationError as error:
        wrong = [".".join(map(str, item["loc"])) + ": " + item["msg"] for item in error.errors()]
        raise bad_request("; ".join(wrong), wrong[0].partition(":")[0], "invalid_value") from None
    return _delivered(engine, taken.reason)


async def lease(request: Request) -> Response:
    """`POST /admin/lease`: the guard is alive."""
    engine, asked = await _asked(request, LeaseRequest)
    done = engine.rollout.renew(engine, asked.seconds)
    return json(Leased(expires_at=await _durable(done, "the lease holds in memory")))


async def _asked(request: Request, kind: type[Kind]) -> tuple[Engine, Kind]:
    authorise(request)
    engine: Engine = request.app.state.engine
    # Without a body it is the empty one: a rollback by hand must not fail for its lack.
    return engine, converted(read_object(await request.body() or b"{}"), kind)


async def _durable(done: Awaitable[ResultT], held: str) -> ResultT:
    """What was done.

    Raises:
        ApiError: 507, where it holds only until the engine ends.
    """
    try:
        return await done
    except StateError as error:
        message = f"{held}, but that does not outlive a restart: {error}"
        raise ApiError(status=507, message=message, code="not_durable") from error


def _delivered(engine: Engine, reason: str | None) -> Response:
    answer = Delivered(
        taken=reason is None,
        generation=engine.settings.config.generation,
        reason=reason,
        flags=flag_statuses(engine),
    )
    return json(answer)
