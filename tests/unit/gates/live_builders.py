"""Ledgers and minutes for the tests of live judging."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from gates.criteria import Criterion, Kind, Measure
from gates.ledger import CLOSED_AFTER, CONTROL, TREATMENT, Counts, Header, Row, Unit
from gates.stages import Stage

FLAG = "ttft_pipeline"
TTFT_EDGES = (0.1, 0.2, 0.4, 0.5, 0.55, 0.6, 0.8, 1.2)
LATENCY_EDGES = (0.5, 1.0, 2.0, 4.0)
FIRST = 29_000_000
CANARY = Stage(name="canary", percentage=20, soak_hours=24, enter=(), leave=())

HEADER = Header(
    flag=FLAG,
    epoch=3,
    stage="canary",
    share=0.2,
    unit=Unit.KEY,
    commit="abc",
    config_sha256="def",
    ttft_edges=TTFT_EDGES,
    latency_edges=LATENCY_EDGES,
)
BLOCKS = replace(HEADER, flag="adaptive_governor", unit=Unit.BLOCK)

ERRORS = Criterion(
    id="live_error_rate",
    kind=Kind.CEILING,
    measure=Measure.ERROR_RATE,
    direction="lower",
    limit=0.001,
    critical=True,
    source="live",
)
TTFT = Criterion(
    id="live_ttft_p95",
    kind=Kind.CEILING,
    measure=Measure.TTFT,
    direction="lower",
    limit=0.55,
    quantile=0.95,
    critical=True,
    source="live",
)
BESIDE = Criterion(
    id="live_ttft_vs_control",
    kind=Kind.NON_INFERIORITY,
    measure=Measure.TTFT,
    direction="lower",
    margin=1.1,
    quantile=0.95,
    critical=True,
    source="live",
)
BETTER = replace(BESIDE, id="live_ttft_better", kind=Kind.IMPROVEMENT, margin=1.0, critical=False)
SHED = replace(
    BESIDE,
    id="live_shed_vs_control",
    measure=Measure.SHED_RATE,
    quantile=None,
    margin=1.5,
    critical=False,
)
SOAK = Criterion(
    id="soak", kind=Kind.INVARIANT, measure=Measure.SOAK, direction="lower", source="live"
)
CRASHES = replace(SOAK, id="live_crashes", measure=Measure.CRASHES, critical=True)
EVERY = (ERRORS, TTFT, BESIDE, BETTER, SHED, SOAK, CRASHES)


def histogram(n: int, slow: int, edges: Sequence[float], *, fast: int = 2) -> tuple[int, ...]:
    """`slow` requests in the last bucket but one, the rest in a fast one."""
    counts = [0] * (len(edges) + 1)
    counts[fast] = n - slow
    counts[-2] = slow
    return tuple(counts)


def counts(  # noqa: PLR0917 - short calls read better in tables of minutes
    arm: str, n: int = 60, bad: int = 0, slow: int = 0, engine: str = "", shed: int = 0
) -> Counts:
    """One arm in one minute."""
    return Counts(
        arm=arm,
        engine=engine,
        ok=n - bad,
        failed=bad,
        shed=shed,
        ttft=histogram(n, slow, TTFT_EDGES),
        latency=histogram(n, slow, LATENCY_EDGES),
    )


def row(minute: int, *arms: Counts, **more: object) -> Row:
    """A sound minute, `minute` after the first."""
    given = arms or (counts(TREATMENT), counts(CONTROL, 240))
    fields = {"engines": ("e1",), "commit": "abc", "config_sha256": "def", **more}
    return Row(minute=FIRST + minute, counts=tuple(given), **fields)  # type: ignore[arg-type] # the fields of Row


def rows(
    length: int,
    treatment: tuple[int, int, int] = (60, 0, 0),
    control: tuple[int, int, int] = (240, 0, 0),
) -> list[Row]:
    """Minutes with the same n, bad and slow in each."""
    return [row(m, counts(TREATMENT, *treatment), counts(CONTROL, *control)) for m in range(length)]


def drawn(
    length: int,
    seed: int,
    *,
    errors: tuple[float, float] = (0.0002, 0.0002),
    slow: tuple[float, float] = (0.03, 0.03),
) -> list[Row]:
    """Random minutes: rates of treatment and of control."""
    rng = np.random.default_rng(seed)
    return [
        row(
            minute,
            *(
                counts(arm, n, int(rng.binomial(n, bad)), int(rng.binomial(n, late)))
                for arm, n, bad, late in zip(
                    (TREATMENT, CONTROL),
                    (int(rng.poisson(60)), int(rng.poisson(240))),
                    errors,
                    slow,
                    strict=True,
                )
            ),
        )
        for minute in range(length)
    ]


def just_after(given: Iterable[Row]) -> datetime:
    """When the last of some rows was closed."""
    last = max(each.minute for each in given)
    return datetime.fromtimestamp((last + 1) * 60 + CLOSED_AFTER, UTC)
