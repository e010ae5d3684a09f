"""Whether live evidence can be believed: questions and answers that would fool the judge."""

from collections.abc import Iterable

from gates.ledger import Header
from gates.live import Edge


def query_faults(query: str, scrape_seconds: float) -> tuple[str, ...]:
    """Why a PromQL expression must not decide on a rollout; empty when it may.

    Refused are a rate over fewer than four scrapes, a number put in where there is none
    (`or vector(0)`), a ratio in place of two counts, and a selector that mixes both arms.
    """
    raise NotImplementedError


def answer_faults(edge: Edge, header: Header, limits: Iterable[float] = ()) -> tuple[str, ...]:
    """Why what engines told cannot be judged; empty when it can.

    Named are engines without build info, of another build, configuration or epoch, a flag
    whose arms are not told apart, and limits that are no edge of a bucket.
    """
    raise NotImplementedError
