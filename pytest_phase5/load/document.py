"""A profile's result as one JSON-able document: what the table, the CSV and the page show. Pure.

Times are milliseconds, memory is bytes. Absent is null.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from gates.criteria import Criterion
from gates.evidence import Measurement
from gates.groups import Group
from gates.growth import memory_slope
from pytest_phase5.load.building import measured, planned_rate
from pytest_phase5.load.knee import knee, step_rows
from pytest_phase5.load.profiles import GOOD_TTFT, Closed, Profile
from pytest_phase5.load.running import PartResult, ProfileResult
from pytest_phase5.load.summary import Quantile, Resources, Summary, summarise

RESULT_SCHEMA: Final = "phase5.load/1"
NO_LEAK: Final = "no_leak"


def document(
    result: ProfileResult,
    *,
    machine: str,
    created: str,
    leak: Criterion | None = None,
) -> dict[str, Any]:
    """The document of a result.

    Args:
        result: what the profile brought.
        machine: its class, as evidence names it.
        created: UTC, ISO 8601.
        leak: the criterion by which growth of memory is told from noise.
    """
    first = result.parts[0].engine.identity
    return {
        "schema": RESULT_SCHEMA,
        "profile": result.profile.name,
        "created": created,
        "machine": machine,
        "model": first.model,
        "model_sha256": first.model_sha256,
        "engine_version": first.engine_version,
        "commit": first.commit,
        "time_scale": result.setting.time_scale,
        "seed": result.setting.seed,
        "self_checked": not result.setting.rehearses,
        "complete": result.complete,
        "valid": result.valid,
        "skipped": list(result.skipped),
        "confidence": 0.95,
        "good_ttft_ms": 1e3 * GOOD_TTFT,
        "parts": [_part(part, result, leak) for part in result.parts],
        "comparisons": [],
        "not_shown_here": list(not_shown(result.profile, first.model, machine)),
    }


def not_shown(profile: Profile, model: str, machine: str) -> Iterator[str]:
    """Targets of the requirements that this model on this machine says nothing about."""
    for target in profile.targets:
        if model not in target.models:
            wanted = " or ".join(target.models)
            yield f"{target.text}: on {wanted}; this is {model} on {machine}"


def _part(part: PartResult, result: ProfileResult, leak: Criterion | None) -> dict[str, Any]:
    judged = measured(part.samples)
    summary = summarise(judged, part.usage)
    return {
        "name": part.part.name,
        "flags": part.engine.flag_set,
        "driver": part.driver,
        "valid": part.valid,
        "complete": part.complete,
        "reasons": list(part.reasons),
        "started": part.started,
        "n": summary.n,
        "warm_up": len(part.samples) - summary.n,
        "outcomes": summary.outcomes,
        "seconds": summary.seconds,
        "rate_asked": planned_rate(part.part, result.setting),
        # Others decide over the pace of a closed part: what counts is what it gets done.
        "rate_achieved": None if isinstance(part.part.load, Closed) else summary.rate_achieved,
        "completed_a_second": summary.completed_a_second,
        "goodput": summary.goodput,
        "good_share": summary.good_share,
        "tokens_a_second": summary.tokens_a_second,
        "peak_streams": summary.peak_streams,
        "times_ms": {n: [_quantile(q) for q in found] for n, found in summary.times.items()},
        "connections_opened": part.connections,
        "cpu_ms_a_request": _cpu(part, summary),
        "resources": {found.part: _resources(found) for found in summary.resources},
        "leak": _leak(part, leak),
        "knee": knee(part),
        "steps": step_rows(part),
        "counted_by_engine": asdict(part.counted) if part.counted else None,
    }


def _quantile(found: Quantile) -> dict[str, float | None]:
    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else 1e3 * seconds

    return {
        "share": found.share,
        "value": ms(found.value),
        "low": ms(found.low),
        "high": ms(found.high),
    }


def _cpu(part: PartResult, summary: Summary) -> float | None:
    """Of all processes of the engine, the warm-up included on both sides of the division."""
    spent = [found.cpu_seconds for found in summary.resources if found.cpu_seconds is not None]
    return 1e3 * sum(spent) / len(part.samples) if spent and part.samples else None


def _resources(found: Resources) -> dict[str, Any]:
    growth = found.growth
    return {
        "cpu_seconds": found.cpu_seconds,
        **found.peaks,
        "growth_bytes_a_request": growth and _finite(asdict(growth)),
    }


def _finite(growth: Mapping[str, Any]) -> dict[str, Any]:
    interval = {
        end: value for end, value in growth["interval"].items() if abs(value) < float("inf")
    }
    return {"estimate": growth["estimate"], "low": None, "high": None, **interval}


def _leak(part: PartResult, criterion: Criterion | None) -> list[dict[str, str]] | None:
    """What the judge would say of this run's memory alone; None of too short a run."""
    requests = max((reading.requests for reading in part.usage), default=0)
    if criterion is None or requests < criterion.min_samples:
        return None
    identity = part.engine.identity
    run = Measurement(
        run="",
        item="",
        attempt=1,
        criteria=(criterion.id,),
        arms={"treatment": identity},
        machine="",
        created="",
        usage=part.usage,
    )
    group = Group("", identity.model, identity.flag_set, None, (run,))
    return [
        {"outcome": found.outcome.value, "reason": found.reason}
        for found in memory_slope(criterion, group)
    ]
