"""Numbers as reasons state them: `8 120`, `0.31 %`, `0.22-0.42 %`, `612 ms`."""

from math import isfinite


def grouped_digits(number: int) -> str:
    """A count with a space between thousands: `8 120`."""
    return f"{number:,}".replace(",", " ")


def percent(low: float, high: float | None = None) -> str:
    """A share, or a span of shares: `0.31 %`, `0.22-0.42 %`."""
    if high is None:
        return f"{100 * low:.2g} %"
    return f"{100 * low:.2g}-{100 * high:.2g} %"


def ms(low: float, high: float | None = None) -> str:
    """Seconds as milliseconds, or a span of them: `612 ms`, `590-640 ms`; `?` for an open end."""
    if high is None:
        return f"{_ms(low)} ms"
    return f"{_ms(low)}-{_ms(high)} ms"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g}" if isfinite(seconds) else "?"
