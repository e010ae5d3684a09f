"""Open plans whose rate changes: along a curve, up steps until failure, or from a trace.

The warm-up comes first, at the rate with which the load begins, and what is measured
follows without a gap.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil
from typing import Any, Final

from pytest_phase5.load.curves import Curve, Leg
from pytest_phase5.load.plan import Block, Plan, Request
from pytest_phase5.load.plans import LEAST_WARMUP, TREATMENT
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.workload import Mix, Workload
from pytest_phase5.load.workload import requests as make_requests

#: Seconds of warm-up.
WARMUP: Final = 1.0


def along(
    url: str,
    curve: Curve,
    *,
    seed: int,
    workload: Workload | Mix,
    arm: str = TREATMENT,
    warmup: float = WARMUP,
    **options: Any,
) -> Plan:
    """Requests along a curve: ramp, spike, soak.

    Args:
        url: base URL of the engine.
        curve: the rate over time.
        seed: of arrivals and prompts.
        workload: what to ask.
        arm: `treatment` or `control`.
        warmup: seconds before, at the rate with which the curve begins, and with at least
            ten requests; 0 for none.
        options: more of `Plan`: `timeout`, `max_in_flight`, `lag_limit`, `driver`, ...
    """
    curves = (curve,)
    return _plan(url, curves, seed=seed, workload=workload, arm=arm, warmup=warmup, **options)


def stepped(
    url: str,
    steps: Sequence[Curve],
    *,
    stop: StopRule,
    seed: int,
    workload: Workload | Mix,
    arm: str = TREATMENT,
    warmup: float = WARMUP,
    **options: Any,
) -> Plan:
    """Growing load until the rule says that the server is beyond its limit.

    Between two steps the last answers are waited for, so that each step is judged whole and
    none inherits the queue of the one before. A sample's `block` is its step.

    Args:
        url: base URL of the engine.
        steps: one curve for each step, as `curves.steps` gives them.
        stop: which step is the last.
        seed: of arrivals and prompts.
        workload: what to ask.
        arm: `treatment` or `control`.
        warmup: seconds before the first step, at its rate.
        options: more of `Plan`.
    """
    options["stop"] = stop
    return _plan(url, steps, seed=seed, workload=workload, arm=arm, warmup=warmup, **options)


def replayed(
    url: str,
    calls: Sequence[tuple[float, Request]],
    *,
    arm: str = TREATMENT,
    **options: Any,
) -> Plan:
    """Requests of a trace, as `trace.read_trace` gives them, each at its own moment.

    It has no warm-up of its own: what a trace begins with is part of it.

    Args:
        url: base URL of the engine.
        calls: moment and request, in order.
        arm: `treatment` or `control`.
        options: more of `Plan`.
    """
    due = tuple(at for at, _ in calls)
    block = Block(arm=arm, requests=tuple(request for _, request in calls), arrivals=due)
    return Plan(targets={arm: url}, blocks=(block,), **options)


def _plan(
    url: str,
    curves: Sequence[Curve],
    *,
    seed: int,
    workload: Workload | Mix,
    arm: str,
    warmup: float,
    **options: Any,
) -> Plan:
    before = [_warming(curves[0], warmup)] if warmup > 0 else []
    blocks = in_row([*before, *curves], workload=workload, seed=seed, arm=arm)
    warm = [replace(block, warmup=True) for block in blocks[: len(before)]]
    return Plan(targets={arm: url}, blocks=(*warm, *blocks[len(before) :]), **options)


def in_row(
    curves: Sequence[Curve], *, workload: Workload | Mix, seed: int, arm: str = TREATMENT
) -> tuple[Block, ...]:
    """One block for each curve, one after the other; none of them asks what another did."""
    # Each curve draws from a seed of its own; the same for all would make the steps alike.
    due = [curve.arrivals(seed + place) for place, curve in enumerate(curves)]
    ends = list(accumulate(map(len, due)))
    asked = make_requests(workload, ends[-1], seed)
    starts = accumulate((curve.seconds for curve in curves[:-1]), initial=0.0)
    return tuple(
        Block(arm=arm, requests=asked[end - len(offsets) : end], start=start, arrivals=offsets)
        for start, end, offsets in zip(starts, ends, due, strict=True)
    )


def _warming(curve: Curve, seconds: float) -> Curve:
    rate = max(curve.legs[0].start, ceil(LEAST_WARMUP / seconds))
    return Curve(legs=(Leg(seconds, rate, rate),), spacing=curve.spacing, shape=curve.shape)
