"""Where growing load became too much, and how each of its steps went. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gates.samples import Sample
from pytest_phase5.load.building import WARM_UP
from pytest_phase5.load.checks import lag_of
from pytest_phase5.load.profiles import Steps
from pytest_phase5.load.running import PartResult
from pytest_phase5.load.summary import SHARES, summarise

_P95: Final = SHARES.index(0.95)
HELD: Final = "held"
LATE: Final = "generator late"
BROKE: Final = "broke"
#: A step that was interrupted is not known to have held.
OPEN: Final = "not finished"


def knee(part: PartResult) -> dict[str, Any] | None:
    """The last rate that held, and the first that did not: for the server, or for the generator.

    `broke` is a rate that the server did not hold, `beyond` one at which the generator gave
    way, so that the server's limit is only known to lie beyond `held`.
    """
    load = part.part.load
    if not isinstance(load, Steps):
        return None
    ends = {rate: end for rate, end, _ in _steps(part, load)}
    held = max((rate for rate, end in ends.items() if end == HELD), default=None)
    broke = min((rate for rate, end in ends.items() if end == BROKE), default=None)
    late = [rate for rate, end in ends.items() if end == LATE and rate > (held or 0)]
    beyond = min(late, default=None) if broke is None else None
    return {"held": held, "broke": broke, "beyond": beyond, "why": part.stop_reason}


def step_rows(part: PartResult) -> list[dict[str, Any]] | None:
    """A row for each step that was sent."""
    load = part.part.load
    if not isinstance(load, Steps):
        return None
    return [_row(rate, end, step) for rate, end, step in _steps(part, load)]


def _row(rate: float, end: str, step: Sequence[Sample]) -> dict[str, Any]:
    found, lag = summarise(step), lag_of(step)
    ttft = found.times["ttft"]
    return {
        "rate": rate,
        "n": found.n,
        "sent_a_second": found.rate_achieved,
        "good_share": found.good_share,
        "ttft_p95_ms": 1e3 * ttft[_P95].value if ttft else None,
        "lag_p99_ms": None if lag is None else 1e3 * lag,
        "end": end,
    }


def _steps(part: PartResult, load: Steps) -> Iterator[tuple[float, str, list[Sample]]]:
    """Each step that was sent: its rate, how it ended, and its samples."""
    last = max((sample.block for sample in part.samples), default=WARM_UP)
    for block, rate in enumerate(load.rates, start=WARM_UP + 1):
        step = [sample for sample in part.samples if sample.block == block]
        if step:
            yield rate, _end(part, block, is_last=block == last), step


def _end(part: PartResult, block: int, *, is_last: bool) -> str:
    if block in part.late:
        return LATE
    if block == part.stopped_at:
        return BROKE
    return OPEN if is_last and not part.complete else HELD
