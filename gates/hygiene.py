"""Whether live evidence can be believed: questions and answers that would fool the judge."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import promql_parser as promql

from engine.core.flags import FLAGS
from gates.criteria import Criterion, Kind, Measure
from gates.exposition import DURATION, EARLY, REQUESTS, TTFT
from gates.ledger import Header
from gates.live import Edge, asked_of
from gates.readings import seen
from gates.text import ms

#: A rate over fewer scrapes than this is empty or wrong as soon as one of them is late.
LEAST_SCRAPES: Final = 4

#: Seconds between two clocks from which minutes are not the same minutes any more.
CLOCK_SECONDS: Final = 5.0

#: Functions that take a span of a counter.
_RATES: Final = frozenset({"rate", "irate", "increase", "delta", "idelta", "deriv"})

#: Families whose series belong to an arm.
_WITH_ARMS: Final = frozenset({REQUESTS, EARLY, TTFT, DURATION})


def query_faults(query: str, scrape_seconds: float) -> tuple[str, ...]:
    """Why a PromQL expression must not decide on a rollout; empty when it may.

    Refused are a rate over fewer than four scrapes, a number put in where there is none
    (`or vector(0)`), a ratio or quantile in place of counts, and a selector that mixes both arms.

    Args:
        query: the expression.
        scrape_seconds: from one scrape to the next.
    """
    try:
        parsed = promql.parse(query)
    except ValueError as error:
        return (f"{query!r} is no PromQL: {error}",)
    return tuple(dict.fromkeys(_faults(parsed, scrape_seconds)))


def answer_faults(
    edge: Edge, header: Header, criteria: Iterable[Criterion] = ()
) -> tuple[str, ...]:
    """Why what engines told cannot be judged; empty when it can.

    Named are engines without build info, of another build, configuration or epoch, a flag
    whose arms are not told apart, and limits that are no edge of a bucket.

    Args:
        edge: what they told.
        header: of the ledger that is to be written.
        criteria: by which it is to be judged.
    """
    found = seen(edge.minute, edge.scrapes, asked_of(header))
    none = () if found.readings else ("no engine told",)
    strangers = [
        f"{engine} is of {name} {getattr(reading, name)}, not {getattr(header, name)}"
        for engine, reading in sorted(found.readings.items())
        for name in ("commit", "config_sha256")
        if getattr(reading, name) != getattr(header, name)
    ]
    return (*none, *found.doubts, *strangers, *limit_faults(header, criteria))


def limit_faults(header: Header, criteria: Iterable[Criterion]) -> Iterator[str]:
    """Limits of times that no bucket ends at: the share beyond them cannot be read exactly."""
    for criterion in criteria:
        edges = _EDGES.get(criterion.measure)
        if criterion.kind is not Kind.CEILING or edges is None or criterion.limit is None:
            continue
        if criterion.limit not in getattr(header, edges):
            yield f"{criterion.id}: its limit {ms(criterion.limit)} is no edge of a bucket"


def clock_fault(theirs: datetime, ours: datetime) -> str:
    """Why a source's clock cannot be gone by; empty when it can."""
    ahead = (theirs - ours).total_seconds()
    if abs(ahead) <= CLOCK_SECONDS:
        return ""
    return f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"


_EDGES: Final = {Measure.TTFT: "ttft_edges", Measure.LATENCY: "latency_edges"}


def _faults(parsed: promql.Expr, scrape_seconds: float) -> list[str]:
    faults: list[str] = []
    above: list[Any] = []  # the aggregations around the present expression

    def enter(node: Any) -> bool:
        faults.extend(_of_node(node, scrape_seconds))
        if isinstance(node, promql.VectorSelector):
            faults.extend(_of_selector(node, above))
        if isinstance(node, promql.AggregateExpr):
            above.append(node)
        return True

    def leave(node: Any) -> bool:
        if isinstance(node, promql.AggregateExpr):
            above.pop()
        return True

    promql.walk(parsed, enter, leave)
    return faults


def _of_node(node: Any, scrape_seconds: float) -> Iterator[str]:
    if isinstance(node, promql.BinaryExpr):
        if str(node.op) == "or" and any(_made_up(side) for side in (node.lhs, node.rhs)):
            yield "a number is put in where there is none: what is absent must stay absent"
        if str(node.op) == "/" and _selects(node.lhs) and _selects(node.rhs):
            yield "a ratio: ask for both counts, since a share of few requests is no evidence"
    elif isinstance(node, promql.Call):
        if node.func.name == "histogram_quantile":
            yield "a quantile: ask for the buckets, since between their edges it is a guess"
        if node.func.name in _RATES:
            yield from _of_span(node, scrape_seconds)


def _of_span(call: Any, scrape_seconds: float) -> Iterator[str]:
    for span in (a for a in call.args if isinstance(a, promql.MatrixSelector)):
        seconds, least = span.range.total_seconds(), LEAST_SCRAPES * scrape_seconds
        if seconds < least:
            yield (
                f"{call.func.name} over {seconds:g} s: fewer than {LEAST_SCRAPES} scrapes of "
                f"{scrape_seconds:g} s; allowed: {least:g} s or more"
            )


def _of_selector(node: Any, above: Iterable[Any]) -> Iterator[str]:
    if node.name not in _WITH_ARMS:
        return
    chosen = any(matcher.name in FLAGS for matcher in node.matchers.matchers)
    if not chosen and not all(map(_keeps_arms, above)):
        yield f"{node.name} without the label of a flag: both arms in one number"


def _keeps_arms(aggregation: Any) -> bool:
    """Whether at least one flag's label outlives an aggregation."""
    modifier = aggregation.modifier
    if modifier is None:
        return False
    named = set(FLAGS) & set(modifier.labels)
    by = modifier.type == promql.AggModifierType.By
    return bool(named) if by else len(named) < len(FLAGS)


def _made_up(node: Any) -> bool:
    """Whether an expression is a number whatever is there."""
    inner = node.expr if isinstance(node, promql.ParenExpr) else node
    if isinstance(inner, promql.NumberLiteral):
        return True
    return isinstance(inner, promql.Call) and inner.func.name in {"vector", "absent", "scalar"}


def _selects(node: Any) -> bool:
    found: list[Any] = []

    def visit(each: Any) -> bool:
        if isinstance(each, promql.VectorSelector):
            found.append(each)
        return True

    promql.walk(node, visit)
    return bool(found)
