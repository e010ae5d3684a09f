"""What an engine tells at `/metrics`, as samples: from its own text, or as Prometheus kept it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gates.evidence import EvidenceError

#: The families that a ledger is made of, by the names of their samples.
REQUESTS: Final = "phase5_requests_total"
EARLY: Final = "phase5_early_cancels_total"
TTFT: Final = "phase5_time_to_first_token_seconds_bucket"
DURATION: Final = "phase5_request_duration_seconds_bucket"
RESTARTS: Final = "phase5_runtime_restarts_total"
UNCLEAN: Final = "phase5_unclean_starts_total"
BUILD: Final = "phase5_build_info"
EPOCH: Final = "phase5_flag_epoch"
SHARE: Final = "phase5_flag_percentage"
HELD: Final = "phase5_flag_held"
STARTED: Final = "phase5_start_time_seconds"
NEW_KEYS: Final = "phase5_new_keys_total"
BAD_SQUARES: Final = "phase5_bad_squares_total"
BUSIEST: Final = "phase5_busiest_key_requests_total"

SAMPLES: Final = (
    *(REQUESTS, EARLY, TTFT, DURATION, RESTARTS, UNCLEAN, BUILD, EPOCH, SHARE),
    *(HELD, STARTED, NEW_KEYS, BAD_SQUARES, BUSIEST),
)


class ExpositionError(EvidenceError):
    """A text that is not what `/metrics` gives; the message says where it came from."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """All that one target told at one moment."""

    target: str  #: host and port
    at: float  #: seconds since 1970
    samples: tuple[Sample, ...]


def parse(text: str, target: str) -> tuple[Sample, ...]:
    """The samples of a text that a ledger is made of.

    Raises:
        ExpositionError: it is not in Prometheus's text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError) as error:
        raise ExpositionError(f"{target}: /metrics is not Prometheus's text: {error}") from error
    samples = (
        Sample(sample.name, sample.labels, float(sample.value))
        for family in families
        for sample in family.samples
    )
    return tuple(known(samples))


def known(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Those that a ledger is made of."""
    return (sample for sample in samples if sample.name in SAMPLES)
