"""Alerts on what clients get. Pure.

The guard compares the arms of each flag and acts; these say how the whole stands, and in how much
of it a flag has a hand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.qos_config import SloPolicy
from gates.monitoring.recordings import ALL, answers, errors, without
from gates.monitoring.rules import (
    DAY,
    HOUR,
    MINUTE,
    Alert,
    Clock,
    Limits,
    Severity,
    joined,
    of_engines,
)

#: The criteria whose limits alerts take over.
ERROR_RATE: Final = "live_error_rate"
TTFT: Final = "live_ttft_p95"

#: Bad ones that must be behind an alert: with fewer, one unlucky client would wake somebody.
FEWEST_BAD: Final = 3


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast an error budget is spent, over two windows that must both show it.

    Rates, windows and who hears of them are those of the Site Reliability Workbook, chapter 5: a
    rate of 14.4 spends 2 % of a month's budget in an hour, 6 spends 5 % in six hours, 3 spends
    a tenth in a day, 1 in three days.
    """

    rate: float
    long: float  #: seconds
    short: float  #: seconds; ends the alert soon after its cause
    severity: Severity


BURNS: Final = (
    Burn(14.4, HOUR, 5 * MINUTE, Severity.PAGE),
    Burn(6, 6 * HOUR, 30 * MINUTE, Severity.PAGE),
    Burn(3, DAY, 2 * HOUR, Severity.TICKET),
    Burn(1, 3 * DAY, 6 * HOUR, Severity.TICKET),
)

#: A flag is named where its answers fail so many times as often as those without it: with less,
#: most of the errors would stay without the flag.
WORSE: Final = 2

_NAMES: Final = {
    Severity.PAGE: "Phase5ErrorBudgetBurnsFast",
    Severity.TICKET: "Phase5ErrorBudgetBurnsSlowly",
}

#: A flag is taken back by its name, all of them without one.
_BACK: Final = (
    "phase5 rollback "
    f'{{{{ if ne $labels.flag "{ALL}" }}}}--flag {{{{ $labels.flag }}}} {{{{ end }}}}--reason WHY'
)


def service(limits: Limits, clock: Clock) -> Iterator[Alert]:
    """Alerts on errors, first tokens and service levels.

    Raises:
        ValueError: `gates.yaml` has no limit for one of them.
    """
    for burn in BURNS:
        yield _burning(burn, limits.of(ERROR_RATE))
    yield _late(limits, clock)
    yield _violated(limits)


def fewest(share: float) -> int:
    """Answers below which so large a share of bad ones says nothing."""
    return math.ceil(FEWEST_BAD / share)


def _burning(burn: Burn, limit: float) -> Alert:
    over = burn.rate * limit
    window = Clock()(burn.long)
    return Alert(
        name=_NAMES[burn.severity],
        expression=joined(
            f"{errors(burn.long)} > {over:g}",
            f"{errors(burn.short)} > {over:g}",
            f"{answers(burn.long)} >= {fewest(over)}",
        )
        + f"\nunless {errors(burn.long)} < {WORSE} * {without(burn.long)}",
        severity=burn.severity,
        labels={"window": window},
        summary=(
            f"{{{{ $value | humanizePercentage }}}} of the answers of {window} are errors"
            " (flag: {{ $labels.flag }})"
        ),
        description=(
            f"Over {100 * over:g} % for {window} and now is {burn.rate:g} times the limit of"
            f" {100 * limit:g} %. A flag is named where answers fail {WORSE} times as often with it"
            " as without; the guard takes back one that is to blame."
        ),
        command=_BACK if burn.severity is Severity.PAGE else "phase5 status",
    )


def _late(limits: Limits, clock: Clock) -> Alert:
    limit = limits.of(TTFT)
    allowed = round(1 - (limits.policy.criteria[TTFT].quantile or 0), 9)

    def count(edge: str, window: float) -> str:
        buckets = of_engines("phase5_time_to_first_token_seconds_bucket", le=edge)
        return f"sum(increase({buckets}[{clock(window)}]))"

    def share(window: float) -> str:
        return f"(1 - {count(f'{limit}', window)} / {count('+Inf', window)}) > {allowed:g}"

    return Alert(
        name="Phase5FirstTokensLate",
        # Exact, since the limit is an edge of the buckets; a P95 between edges would be a guess.
        expression=joined(
            share(30 * MINUTE),
            share(5 * MINUTE),
            f"{count('+Inf', 30 * MINUTE)} >= {fewest(allowed)}",
        ),
        severity=Severity.TICKET,
        summary="{{ $value | humanizePercentage }} of the first tokens come late",
        description=(
            f"At most {100 * allowed:g} % may take longer than {1000 * limit:g} ms; over it for"
            " 30 minutes and now. Both arms count here; the guard compares them."
        ),
    )


def _violated(limits: Limits) -> Alert:
    violated = f"{of_engines('phase5_slo_violated')} == 1"
    return Alert(
        name="Phase5QosViolated",
        expression=f"{of_engines('phase5_slo_value')} and on (instance, slo) {violated}",
        # Longer than a remedy takes to settle: what it mends need not be told.
        lasting=5 * MINUTE,
        severity=Severity.TICKET,
        summary="{{ $labels.instance }} violates {{ $labels.slo }}: {{ $value | humanize }}",
        description=(
            f"For five minutes, in spite of its remedy. Bounds of qos.policies:"
            f" {', '.join(map(_bound, limits.slos)) or 'none'}."
        ),
    )


def _bound(slo: SloPolicy) -> str:
    most = f"at most {slo.max:g}" if slo.max is not None else f"at least {slo.min:g}"
    return f"{slo.name} {slo.metric} {most}"
