"""The plans that tests and benchmarks use: so many requests at one rate, and comparisons.

`shaped` has those whose rate changes.
"""

from math import ceil
from typing import Final

from pytest_phase5.load.plan import LAG_LIMIT, MAX_IN_FLIGHT, TIMEOUT, Block, Driver, Plan
from pytest_phase5.load.schedule import arrivals
from pytest_phase5.load.workload import Mix, Workload
from pytest_phase5.load.workload import requests as make_requests

TREATMENT: Final = "treatment"
CONTROL: Final = "control"
#: Warm-up of an open run: a second at the measured rate, and never fewer than this.
LEAST_WARMUP: Final = 10


def open_loop(
    url: str,
    *,
    rate: float,
    requests: int,
    seed: int,
    workload: Workload | Mix,
    arm: str = TREATMENT,
    schedule: str = "poisson",
    warmup: int | None = None,
    timeout: float = TIMEOUT,
    max_in_flight: int = MAX_IN_FLIGHT,
    lag_limit: float = LAG_LIMIT,
    driver: Driver = "http1",
    ca_file: str | None = None,
) -> Plan:
    """Requests at their own pace, whatever the server does.

    The warm-up comes first, on the same schedule; the measured requests follow without a gap.

    Args:
        url: base URL of the engine.
        rate: requests per second.
        requests: measured requests.
        seed: of schedule and prompts.
        workload: what to ask.
        arm: `treatment` or `control`.
        schedule: `poisson`, `constant` or `gamma`.
        warmup: requests before; None: one second's worth, at least ten.
        timeout: seconds per request, from sending.
        max_in_flight: open requests beyond which one is dropped, and the run invalid.
        lag_limit: seconds of dispatch lag (p99) beyond which the run is invalid.
        driver: who sends.
        ca_file: certificates that an `https` target is checked against.
    """
    before = max(LEAST_WARMUP, ceil(rate)) if warmup is None else warmup
    due = arrivals(schedule, rate=rate, count=before + requests, seed=seed)
    asked = make_requests(workload, before + requests, seed)
    warm = Block(arm=arm, requests=asked[:before], arrivals=due[:before], warmup=True)
    measured = Block(arm=arm, requests=asked[before:], arrivals=due[before:])
    return Plan(
        targets={arm: url},
        blocks=(warm, measured),
        timeout=timeout,
        max_in_flight=max_in_flight,
        lag_limit=lag_limit,
        driver=driver,
        ca_file=ca_file,
    )


def streams(
    url: str,
    *,
    concurrency: int,
    requests: int,
    seed: int,
    workload: Workload | Mix,
    arm: str = TREATMENT,
    warmup: int | None = None,
    timeout: float = TIMEOUT,
    lag_limit: float = LAG_LIMIT,
    budget: float | None = None,
    driver: Driver = "http1",
    ca_file: str | None = None,
) -> Plan:
    """So many streams at once, each followed by the next: what a server can do, not how it feels.

    A closed loop slows down with the server, so its times hide waiting; its throughput is
    what it is for.

    Args:
        url: base URL of the engine.
        concurrency: requests in flight.
        requests: measured requests.
        seed: of the prompts.
        workload: what to ask.
        arm: `treatment` or `control`.
        warmup: requests before, as many at once; None: one for each stream, at least ten.
        timeout: seconds per request, from sending.
        lag_limit: seconds of dispatch lag (p99) beyond which the run is invalid.
        budget: seconds for the whole run; None: 600 at most.
        driver: who sends.
        ca_file: certificates that an `https` target is checked against.
    """
    before = max(LEAST_WARMUP, concurrency) if warmup is None else warmup
    asked = make_requests(workload, before + requests, seed)
    warm = Block(arm=arm, requests=asked[:before], concurrency=concurrency, warmup=True)
    measured = Block(arm=arm, requests=asked[before:], concurrency=concurrency)
    return Plan(
        targets={arm: url},
        blocks=(warm, measured),
        closed=True,
        timeout=timeout,
        lag_limit=lag_limit,
        budget=budget,
        driver=driver,
        ca_file=ca_file,
    )


def interleaved(
    treatment_url: str,
    control_url: str,
    *,
    rounds: int,
    per_block: int,
    concurrency: int,
    seed: int,
    workload: Workload | Mix,
    warmup: int | None = None,
    timeout: float = TIMEOUT,
    lag_limit: float = LAG_LIMIT,
    budget: float | None = None,
    driver: Driver = "http1",
    ca_file: str | None = None,
) -> Plan:
    """Two engines in turn, A B B A ..., so that a noisy machine hits both alike.

    Both arms of a round get the same requests; `block // 2` of a sample is its round, and
    its place in the block (by index) finds its partner.

    Args:
        treatment_url: base URL of the engine with the feature.
        control_url: base URL of the engine without.
        rounds: pairs of blocks.
        per_block: requests in each block.
        concurrency: requests in flight inside a block.
        seed: of the prompts.
        workload: what to ask.
        warmup: requests to each arm before; None: as many as a block.
        timeout: seconds per request, from sending.
        lag_limit: seconds of dispatch lag (p99) beyond which the run is invalid.
        budget: seconds for the whole run; None: 600 at most.
        driver: who sends.
        ca_file: certificates that an `https` target is checked against.
    """
    before = per_block if warmup is None else warmup
    asked = make_requests(workload, before + rounds * per_block, seed)

    def block(arm: str, first: int, last: int, *, warm: bool = False) -> Block:
        chosen = asked[first:last]
        return Block(arm=arm, requests=chosen, concurrency=concurrency, warmup=warm)

    blocks = [block(arm, 0, before, warm=True) for arm in (TREATMENT, CONTROL)]
    for number in range(rounds):
        order = (TREATMENT, CONTROL) if number % 2 == 0 else (CONTROL, TREATMENT)
        first = before + number * per_block
        blocks += [block(arm, first, first + per_block) for arm in order]
    return Plan(
        targets={TREATMENT: treatment_url, CONTROL: control_url},
        blocks=tuple(blocks),
        closed=True,
        timeout=timeout,
        lag_limit=lag_limit,
        budget=budget,
        driver=driver,
        ca_file=ca_file,
    )
