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


def kib(low: float, high: float | None = None) -> str:
    """Bytes as KiB, or a span of them: `1.2 KiB`, `-0.4 to 2.9 KiB`; `?` for an open end."""
    return f"{_kib(low)} KiB" if high is None else f"{_kib(low)} to {_kib(high)} KiB"


def factor(low: float, high: float | None = None) -> str:
    """A ratio, or a span of them: `1.25`, `0.93-1.1`; `?` for an open end."""
    return _short(low) if high is None else f"{_short(low)}-{_short(high)}"


def each_second(low: float, high: float | None = None) -> str:
    """Requests a second, or a span of them: `131 requests/s`, `128-135 requests/s`."""
    return f"{factor(low, high)} requests/s"


def streams(low: float, high: float | None = None) -> str:
    """A number of streams, or a span of them: `75 streams`."""
    return f"{factor(low, high)} streams"


def seconds(low: float, high: float | None = None) -> str:
    """Seconds, or a span of them: `4.2 s`, `3.9-4.4 s`."""
    return f"{factor(low, high)} s"


def _short(number: float) -> str:
    return f"{number:.3g}" if isfinite(number) else "?"


def _kib(size: float) -> str:
    return f"{size / 1024:.3g}" if isfinite(size) else "?"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g}" if isfinite(seconds) else "?"
