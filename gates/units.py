"""Quantities with their units, as `gates.yaml` states them: `0.1 %`, `550 ms`, `75 streams`.

A number without a unit is refused: `0.1` of an error rate could be 10 % or 0.1 %, and only
its author knows.
"""

from decimal import Decimal, InvalidOperation
from typing import Final

from gates.criteria import Measure

_SHARE: Final = {"%": "0.01"}
_TIME: Final = {"ms": "0.001", "s": "1"}

#: The units of each measure and what one of them is in the unit of `Criterion.limit`. A
#: measure that is not here is a count of exceptions and takes no limit.
UNITS: Final[dict[Measure, dict[str, str]]] = {
    Measure.ERROR_RATE: _SHARE,
    Measure.HIT_RATE: _SHARE,
    Measure.CONNECTIONS: _SHARE,
    Measure.TTFT: _TIME,
    Measure.LATENCY: _TIME,
    Measure.RECOVERY: _TIME,
    Measure.MEMORY_SLOPE: {"B/request": "1", "KiB/request": "1024", "MiB/request": "1048576"},
    Measure.THROUGHPUT: {"requests/s": "1"},
    Measure.STREAMS: {"streams": "1"},
}

#: Measures whose quantities are shares of one.
SHARES: Final = frozenset(measure for measure, units in UNITS.items() if units is _SHARE)


def quantity(text: object, measure: Measure) -> float:
    """A quantity of a measure as a number in the unit of `Criterion.limit`.

    Raises:
        ValueError: no number, no unit, or one that the measure does not have.
    """
    units = UNITS.get(measure, {})
    if not units:
        raise ValueError(f"measure {measure.value!r} takes no quantity")
    allowed = f"a number and one of {', '.join(units)}, such as '5 {next(iter(units))}'"
    number, _, unit = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
    if unit.strip() not in units:
        raise ValueError(f"measure {measure.value!r} needs its unit; allowed: {allowed}")
    try:
        value = float(Decimal(number) * Decimal(units[unit.strip()]))
    except InvalidOperation:
        raise ValueError(f"{number!r} is no number; allowed: {allowed}") from None
    return value
