"""Rounds and samples with chosen figures, for tests of what is made of them."""

from gates.samples import Outcome, Sample
from pytest_phase5.bench.asking import Round
from pytest_phase5.bench.figures import Figures, State


def a_round(
    arm: str, number: int, rate: float, ttft: float = 100.0, *, state: State = "whole"
) -> Round:
    """A round that came to these figures."""
    return Round(
        number=number,
        place=0,
        arm=arm,
        streams=10,
        figures=Figures(
            state=state,
            reason="" if state == "whole" else f"it was {state}",
            outcomes={"ok": 20},
            seconds=2.0,
            measures={"requests_per_second": rate, "ttft_p95_ms": ttft},
            output_tokens=320,
        ),
        cpu_seconds=1.0,
        most_mib=300.0,
        rest_mib=200.0,
        idle_cpu_seconds=0.0,
    )


def a_sample(index: int, *, outcome: Outcome = Outcome.OK, **told: object) -> Sample:
    """A request that took a second, and had its first token after 0.2."""
    fields = {
        "arm": "on",
        "block": 0,
        "scheduled": 0.0,
        "sent": 0.0,
        "first_token": 0.2,
        "end": 1.0,
        "output_tokens": 16,
        **told,
    }
    return Sample(index=index, outcome=outcome, **fields)  # type: ignore[arg-type] # chosen by tests
