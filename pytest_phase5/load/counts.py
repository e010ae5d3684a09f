"""Two sets of books: what the clients saw, and what the engine says that it served. Pure.

They can agree only when nobody else uses the engine during the run. Where they differ, one
of the two is wrong, and nothing that was measured can be believed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from gates.samples import Outcome, Sample

#: Ends that both sides can know.
_SHARED: Final = ("ok", "failed", "cut", "shed", "rejected", "cancelled")
_REQUESTS: Final = "phase5_requests_total"
_TOKENS: Final = "phase5_output_tokens_total"
_RESTARTS: Final = "phase5_runtime_restarts_total"
_IN_FLIGHT: Final = "phase5_streams_in_flight"
_TOTALS: Final = frozenset({_TOKENS, _RESTARTS, _IN_FLIGHT})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounts:
    """What an engine's `/metrics` say that it has ended so far."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    output_tokens: int = 0
    restarts: int = 0  #: of runtime processes
    in_flight: int = 0

    def since(self, before: "EngineCounts") -> "EngineCounts":
        """What came on top of an earlier reading."""
        return EngineCounts(
            outcomes={o: self.outcomes.get(o, 0) - before.outcomes.get(o, 0) for o in _SHARED},
            output_tokens=self.output_tokens - before.output_tokens,
            restarts=self.restarts - before.restarts,
            in_flight=self.in_flight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCounts:
    """What an engine must have counted, going by its clients.

    A client that gave up knows that the engine will count its stream as cancelled. One whose
    connection failed before a status came does not know whether the engine counted it at
    all, or as what.
    """

    outcomes: Mapping[str, int]
    unknown: int
    output_tokens: int
    every_token_known: bool  #: a stream that did not end well has told no number of tokens


def engine_counts(metrics: str) -> EngineCounts:
    """Read `/metrics`."""
    outcomes: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == _REQUESTS:
                outcomes[sample.labels["outcome"]] += int(sample.value)
            elif sample.name in _TOTALS:
                totals[sample.name] += int(sample.value)
    return EngineCounts(
        outcomes=outcomes,
        output_tokens=totals[_TOKENS],
        restarts=totals[_RESTARTS],
        in_flight=totals[_IN_FLIGHT],
    )


def client_counts(samples: Iterable[Sample]) -> ClientCounts:
    """Add up what clients saw, the warm-up included."""
    ends: Counter[str | None] = Counter()
    tokens, known = 0, True
    for sample in samples:
        if sample.outcome is Outcome.DROPPED:
            continue
        ends[_at_the_engine(sample)] += 1
        tokens += sample.output_tokens or 0
        served = sample.outcome not in {Outcome.SHED, Outcome.REJECTED}
        known = known and not (served and sample.output_tokens is None)
    unknown = ends.pop(None, 0)
    outcomes = {outcome: ends.get(outcome, 0) for outcome in _SHARED}
    return ClientCounts(
        outcomes=outcomes,
        unknown=unknown,
        output_tokens=tokens,
        every_token_known=known and not unknown,
    )


def differences(engine: EngineCounts, client: ClientCounts) -> Iterator[str]:
    """Where the books differ, with both numbers; nothing where they agree."""
    more = {o: engine.outcomes.get(o, 0) - client.outcomes[o] for o in _SHARED}
    for outcome, extra in more.items():
        if extra < 0 or (extra and not client.unknown):
            yield (
                f"requests {outcome}: engine {engine.outcomes.get(outcome, 0)}, "
                f"client {client.outcomes[outcome]}"
            )
    if client.unknown and sum(more.values()) > client.unknown:
        yield (
            f"requests: engine {sum(engine.outcomes.values())}, client "
            f"{sum(client.outcomes.values())} and {client.unknown} without an answer"
        )
    short = engine.output_tokens < client.output_tokens
    if short or (client.every_token_known and engine.output_tokens != client.output_tokens):
        yield f"output tokens: engine {engine.output_tokens}, client {client.output_tokens}"


def _at_the_engine(sample: Sample) -> str | None:
    if sample.error == "timeout" or sample.outcome is Outcome.CANCELLED:
        return "cancelled"
    if sample.status is None:
        return None  # no answer began: the engine may not even know of it
    if sample.outcome is Outcome.CUT and sample.error != "ended without a finish reason":
        return None  # the connection broke: whose word is last depends on who noticed first
    return sample.outcome.value
