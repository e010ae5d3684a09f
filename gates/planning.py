"""How much live traffic a ceiling needs: the mixture that the judge uses, turned around.

Evidence that a rate lies under a limit is the mean over some lower rates of the likelihood
ratio against the limit. It multiplies with every request, and a pass is allowed at any moment
at which it reaches 1/alpha: if the true rate is at or over the limit, that ever happens with
probability alpha at most (Ville, 1939; Robbins, 1970).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, log1p
from typing import Final

from gates.statistics import at_most

#: The rates, as shares of a limit, that evidence for "under the limit" weighs alike. The
#: smallest makes clean traffic count; the largest tells rates close below the limit.
BELOW: Final = (1e-4, 0.01, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8)

#: A pass is wrong with this probability at most when the truth lies exactly at the limit.
ALPHA_PASS: Final = 0.05

#: No answer is sought beyond this many requests: at 1,000 a second, twelve days.
_MOST: Final = 10**9


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a soak is long enough to show a rate to be under its limit."""

    requests: int  #: that the soak brings
    least: int  #: that would do if not one of them were bad
    typical: int | None  #: that about half of the attempts at the true rate need; None for never
    chance: float  #: that the soak ends with a pass

    @property
    def possible(self) -> bool:
        """Whether the soak brings enough requests at all."""
        return self.requests >= self.least


def log_evidence_below(bad: float, n: float, limit: float) -> float:
    """The logarithm of the evidence that a rate is under its limit."""
    terms = [_log_ratio(bad, n, share * limit, limit) for share in BELOW]
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(terms))


def clean_needed_sequential(limit: float, alpha: float = ALPHA_PASS) -> int:
    """The requests that show a rate to be under its limit when not one of them is bad.

    More than the 2,995 that a single look would need at 0.1 %: these may be looked at every
    minute.
    """
    _check(limit, alpha)
    return _first(lambda n: log_evidence_below(0, n, limit) >= -log(alpha)) or 0


def further_needed(
    bad: float, n: float, limit: float, rate: float, alpha: float = ALPHA_PASS
) -> int | None:
    """About how many further requests lead to a pass when they are bad at this rate.

    None when the rate is not under the limit: more of the same will not help.
    """
    _check(limit, alpha)
    if rate >= limit:
        return None
    return _first(
        lambda more: log_evidence_below(bad + rate * more, n + more, limit) >= -log(alpha)
    )


def expected_needed(limit: float, rate: float, alpha: float = ALPHA_PASS) -> int | None:
    """About how many requests at a true rate lead to a pass; None for never."""
    return further_needed(0, 0, limit, rate, alpha)


def most_bad(n: int, limit: float, alpha: float = ALPHA_PASS) -> int | None:
    """The most bad ones among so many requests that still pass; None when even none is too many."""
    _check(limit, alpha)
    if log_evidence_below(0, n, limit) < -log(alpha):
        return None
    few, many = 0, n
    while many - few > 1:
        middle = (few + many) // 2
        enough = log_evidence_below(middle, n, limit) >= -log(alpha)
        few, many = (middle, many) if enough else (few, middle)
    return few


def chance_of_pass(n: int, limit: float, rate: float, alpha: float = ALPHA_PASS) -> float:
    """How likely requests at a true rate show, at their end, that it is under the limit."""
    most = most_bad(n, limit, alpha)
    return 0.0 if most is None else at_most(most, n, rate)


def reach(
    limit: float,
    *,
    requests_per_second: float,
    soak_hours: float,
    rate: float,
    alpha: float = ALPHA_PASS,
) -> Reach:
    """What a soak can show about a ceiling.

    Args:
        limit: of the rate, as a share; for a quantile, 0.05 stands for P95.
        requests_per_second: that the treatment gets, not the whole fleet.
        soak_hours: how long they come.
        rate: the true share of bad ones that is supposed.
        alpha: the chance of a wrong pass exactly at the limit.

    Raises:
        ValueError: a limit or alpha that is not between 0 and 1, or a negative number.
    """
    if min(requests_per_second, soak_hours, rate) < 0:
        raise ValueError(
            "requests a second, hours and rate are at least 0, given "
            f"{requests_per_second}, {soak_hours} and {rate}"
        )
    requests = int(requests_per_second * soak_hours * 3600)
    return Reach(
        requests=requests,
        least=clean_needed_sequential(limit, alpha),
        typical=expected_needed(limit, rate, alpha),
        chance=chance_of_pass(requests, limit, rate, alpha),
    )


def _log_ratio(bad: float, n: float, rate: float, limit: float) -> float:
    return bad * log(rate / limit) + (n - bad) * (log1p(-rate) - log1p(-limit))


def _first(enough: Callable[[int], bool]) -> int | None:
    """The least number from which a predicate holds; None beyond all that is sought."""
    few, many = -1, 1
    while not enough(many):
        few, many = many, 2 * many
        if many > _MOST:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _check(limit: float, alpha: float) -> None:
    for name, value in (("a limit", limit), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ValueError(f"{name} lies between 0 and 1, given {value}")
