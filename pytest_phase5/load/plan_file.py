"""A plan as a file: the one thing that the child of a run reads."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pytest_phase5.load.plan import Block, Fleet, LeaveAfter, Plan, Request
from pytest_phase5.load.schemas import check_schema
from pytest_phase5.load.steps import StopRule

PLAN_SCHEMA: Final = "phase5.plan/1"


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan as one JSON object."""
    document = {"schema": PLAN_SCHEMA, **asdict(plan)}
    path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """Read a plan back.

    Raises:
        ValueError: for a file that is not a plan; it names the file.
        OSError: when the file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_schema(document.pop("schema", None), PLAN_SCHEMA)
        blocks = tuple(_block(block) for block in document.pop("blocks"))
        stop = document.pop("stop", None)
        fleet = Fleet(**document.pop("fleet", {}))
        rule = StopRule(**stop) if stop else None
        return Plan(blocks=blocks, stop=rule, fleet=fleet, **document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path.name}: not a plan: {error}") from error


def _block(fields: dict[str, Any]) -> Block:
    requests = tuple(_request(request) for request in fields.pop("requests"))
    return Block(requests=requests, arrivals=tuple(fields.pop("arrivals")), **fields)


def _request(fields: dict[str, Any]) -> Request:
    leave = fields.pop("leave_after", None)
    return Request(leave_after=LeaveAfter(**leave) if leave else None, **fields)
