"""`phase5 plan`: prints what a soak can show, and returns whether that is enough."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from engine.config import ConfigError
from gates.cli import DONE, STATUS, USAGE, refuse
from gates.plan import Plan, PlanError, Row, in_words, plan
from gates.policy import policy_beside
from gates.tables import console
from gates.text import grouped_digits
from gates.verdict import Decision


def plan_stage(
    stage: str,
    *,
    rate: float,
    error_rate: float,
    config: Path | None = None,
    as_json: bool = False,
) -> int:
    """Plan the step out of a stage; 0 when its soak can reach a verdict, else 10."""
    try:
        found = plan(policy_beside(config), stage, rate=rate, error_rate=error_rate)
    except (ConfigError, PlanError) as error:
        return refuse(str(error), USAGE, as_json=as_json)
    if as_json:
        sys.stdout.write(json.dumps(document(found), allow_nan=False) + "\n")
    else:
        _show(found)
    return DONE if found.reachable else STATUS[Decision.HOLD]


def document(found: Plan) -> dict[str, Any]:
    """A plan as JSON has it."""
    return {
        "stage": found.step.origin,
        "to": found.step.target,
        "rate": found.rate,
        "fleet_rate": found.fleet_rate,
        "soak_hours": found.soak_hours,
        "reachable": found.reachable,
        "criteria": [
            {
                "id": row.id,
                "limit": row.limit,
                "supposed": row.supposed,
                **asdict(row.reach),
                "hours": row.hours,
                "reachable": row.reachable,
            }
            for row in found.rows
        ],
        "sizes": [{**asdict(size), "reachable": size.reachable} for size in found.sizes],
    }


def _show(found: Plan) -> None:
    out = console()
    out.print(
        f"{found.step.origin} to {found.step.target}: {found.rate:g} requests/s with the flag on "
        f"({found.fleet_rate:g}/s in the fleet) for {found.soak_hours:g} h"
    )
    table = Table("criterion", "limit", "supposed", "soak brings", "least", "typical", "reached")
    for row in found.rows:
        table.add_row(*_cells(row))
    out.print(table)
    claims = Table("claim of the requirements", "their size", "needs", "reached")
    for size in found.sizes:
        needs = "never" if size.needs is None else f"{grouped_digits(size.needs)} {size.note}"
        answer = "yes" if size.reachable else "no"
        claims.add_row(size.claim, grouped_digits(size.size), needs, answer)
    out.print(claims)
    out.print(f"reachable: {'yes' if found.reachable else 'no'}")


def _cells(row: Row) -> tuple[str, ...]:
    typical = "never" if row.reach.typical is None else grouped_digits(row.reach.typical)
    after = "" if row.hours is None else f", after {row.hours:.3g} h"
    return (
        row.id,
        f"{100 * row.limit:g} %",
        f"{100 * row.supposed:g} %",
        grouped_digits(row.reach.requests),
        grouped_digits(row.reach.least),
        f"{typical}{after}",
        in_words(row),
    )
